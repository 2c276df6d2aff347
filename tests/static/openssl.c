/* A neighbour of libconfer.a that uses OpenSSL. Returns 0 if everything in it works. */
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <string.h>

int neighbour(void);

int neighbour(void) {
    static const unsigned char begin[] = {0xba, 0x78, 0x16, 0xbf}; /* SHA-256 of "abc" */
    unsigned char digest[EVP_MAX_MD_SIZE];
    if (EVP_Digest("abc", 3, digest, NULL, EVP_sha256(), NULL) != 1 || memcmp(digest, begin, sizeof begin) != 0) return 1;
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
    SSL *session = tls != NULL ? SSL_new(tls) : NULL;
    int made = session != NULL;
    SSL_free(session);
    SSL_CTX_free(tls);
    return !made;
}
