//! The TLS roots: Mozilla's list, the system's, or the application's.
//!
//! Each choice is one long-lived rustls configuration, which holds the TLS sessions. A session that
//! began under some roots is never resumed under others.

use std::sync::Arc;

use once_cell::sync::Lazy;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::CertificateResult;

use crate::error::{Error, Result, Status, shortage};

/// The longest PEM text of roots; Mozilla's whole list takes 220 KiB.
const MAX_PEM: usize = 1 << 20;
/// The most roots from an application. Mozilla lists about 150.
const MAX_ROOTS: usize = 1_024;

/// Returns Mozilla's roots. They are compiled in, so no file is needed at run time. The process has
/// one configuration.
pub(super) fn bundled() -> Arc<ClientConfig> {
    static BUNDLED: Lazy<Arc<ClientConfig>> = Lazy::new(|| {
        tls(RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        })
    });
    BUNDLED.clone()
}

/// Reads the system's roots again. Fails on systems that give applications no list of them.
pub(super) fn system() -> Result<Arc<ClientConfig>> {
    if cfg!(all(target_vendor = "apple", not(target_os = "macos"))) {
        let message = "roots: this system gives applications no list of its authorities; \
                       use CONFER_ROOTS_BUNDLED or confer_config_set_roots_pem()";
        return Err(Error::new(Status::File, message));
    }
    from_store(rustls_native_certs::load_native_certs())
}

/// Fails if the store has no usable certificate: the application did not choose other roots. A
/// store with some unusable certificates is accepted, because it can only refuse too much.
fn from_store(found: CertificateResult) -> Result<Arc<ClientConfig>> {
    // During a shortage, some certificates may be missing.
    for error in &found.errors {
        if let rustls_native_certs::ErrorKind::Io { inner, path } = &error.kind
            && shortage(inner).is_some()
        {
            let what = format!("roots: {}", path.display());
            return Err(Error::io(Status::System, what, inner));
        }
    }
    let mut roots = RootCertStore::empty();
    let (used, unusable) = roots.add_parsable_certificates(found.certs);
    if used > 0 {
        return Ok(tls(roots));
    }
    let why = match found.errors.first() {
        Some(first) => format!("cannot be read: {first}"),
        None if unusable > 0 => format!("has {unusable} certificates, but none is usable"),
        None => "was not found, or is empty".to_owned(),
    };
    let message = format!(
        "roots: the system's certificate store {why} (SSL_CERT_FILE and SSL_CERT_DIR, if set, say where it is)"
    );
    Err(Error::new(Status::File, message))
}

/// Returns exactly the application's roots. Fails if one certificate is unusable, because the
/// application meant the whole list.
pub(super) fn pem(text: &str) -> Result<Arc<ClientConfig>> {
    let refused = |status, why: String| Error::new(status, format!("pem: {why}"));
    if text.len() > MAX_PEM {
        let why = format!("it has {} bytes (at most {MAX_PEM})", text.len());
        return Err(refused(Status::TooLarge, why));
    }
    let mut roots = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(text.as_bytes()).enumerate() {
        let unusable = |why: String| {
            let why = format!("certificate {}: {why}", index + 1);
            refused(Status::InvalidArgument, why)
        };
        if index == MAX_ROOTS {
            let why = format!("it has more than {MAX_ROOTS} certificates");
            return Err(refused(Status::TooLarge, why));
        }
        // The parser's reasons would repeat the input, which may be a key.
        let certificate = certificate.map_err(|_| unusable("it is not PEM".into()))?;
        roots
            .add(certificate)
            .map_err(|e| unusable(e.to_string()))?;
    }
    if roots.is_empty() {
        let why = "it holds no certificate".to_owned();
        return Err(refused(Status::InvalidArgument, why));
    }
    Ok(tls(roots))
}

/// Makes a configuration with aws-lc-rs and resumption from memory, with single-use tickets. Early
/// data stays off, as by default: anyone who records it can replay it (RFC 8446, section 8), and
/// the first data here is a token.
fn tls(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn certificate() -> rcgen::Certificate {
        rcgen::generate_simple_self_signed(["localhost".to_owned()])
            .unwrap()
            .cert
    }

    #[test]
    fn pem_text_without_a_usable_certificate_is_refused() {
        let good = certificate().pem();
        assert!(pem(&good).is_ok());
        assert!(pem(&format!("# a comment\n{good}\n{good}")).is_ok());
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let cut = &good[..good.len() / 2];
        let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (bad, why) in [
            ("", "holds no certificate"),
            ("nonsense", "holds no certificate"),
            (&key, "holds no certificate"),
            (cut, "certificate 1: "),
            (empty, "certificate 1: "),
            (&format!("{good}{empty}"), "certificate 2: "),
        ] {
            let error = pem(bad).unwrap_err();
            assert_eq!(error.status(), Status::InvalidArgument, "{error}");
            assert!(error.message().contains(why), "{error}");
        }
    }

    #[test]
    fn pem_text_has_bounds() {
        let one = certificate().pem();
        assert!(
            one.len() * (MAX_ROOTS + 1) < MAX_PEM,
            "so the count decides"
        );
        assert!(pem(&one.repeat(MAX_ROOTS)).is_ok());
        for bad in [one.repeat(MAX_ROOTS + 1), " ".repeat(MAX_PEM + 1)] {
            assert_eq!(pem(&bad).unwrap_err().status(), Status::TooLarge);
        }
    }

    #[test]
    fn empty_system_store_is_an_error() {
        let missing = Path::new("/nonexistent/roots.pem");
        let unreadable = rustls_native_certs::load_certs_from_paths(Some(missing), None);
        let mut odd = CertificateResult::default();
        odd.certs.push(vec![0].into());
        for (found, why) in [
            (CertificateResult::default(), "was not found, or is empty"),
            (unreadable, "/nonexistent/roots.pem"),
            (odd, "none is usable"),
        ] {
            let error = from_store(found).unwrap_err();
            assert_eq!(error.status(), Status::File);
            assert!(error.message().contains("the system's certificate store"));
            assert!(error.message().contains(why), "{error}");
        }
        let mut good = CertificateResult::default();
        good.certs.push(certificate().der().clone());
        assert!(from_store(good).is_ok());
    }

    #[test]
    fn no_early_data_is_sent() {
        assert!(!bundled().enable_early_data);
    }
}
