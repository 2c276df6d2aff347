//! Gives snow the primitives of aws-lc-rs, the only crypto provider of this library.
//!
//! snow asks a resolver for each primitive. This one has only those of our suite.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::{digest, rand};
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};

use super::TAG_LEN;

/// Length of an X25519 key, public or private.
const KEY_LEN: usize = 32;

pub(super) struct AwsLc;

impl CryptoResolver for AwsLc {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SystemRandom))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519Dh::default())),
            _ => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::SHA256 => Some(Box::new(Sha256(digest::Context::new(&digest::SHA256)))),
            _ => None,
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::AESGCM => Some(Box::new(Aes256Gcm(None))),
            _ => None,
        }
    }
}

struct SystemRandom;

impl Random for SystemRandom {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        rand::fill(dest).map_err(|_| Error::Rng)
    }
}

#[derive(Default)]
struct X25519Dh {
    private: Option<PrivateKey>,
    public: [u8; KEY_LEN],
}

impl X25519Dh {
    fn hold(&mut self, private: PrivateKey) -> Result<(), Error> {
        let public = private.compute_public_key().map_err(|_| Error::Dh)?;
        self.public.copy_from_slice(public.as_ref());
        self.private = Some(private);
        Ok(())
    }
}

impl Dh for X25519Dh {
    fn name(&self) -> &'static str {
        "25519"
    }
    fn pub_len(&self) -> usize {
        KEY_LEN
    }
    fn priv_len(&self) -> usize {
        KEY_LEN
    }

    fn set(&mut self, private: &[u8]) {
        // Any 32 bytes are a valid key. Without a key `dh` fails, and then the handshake.
        let key = PrivateKey::from_private_key(&X25519, private);
        if key
            .map_err(|_| Error::Dh)
            .and_then(|key| self.hold(key))
            .is_err()
        {
            self.private = None;
        }
    }

    fn generate(&mut self, _: &mut dyn Random) -> Result<(), Error> {
        self.hold(PrivateKey::generate(&X25519).map_err(|_| Error::Rng)?)
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        // The key stays in aws-lc. Only `Builder::generate_keypair` needs this; we do not use it.
        &[]
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let private = self.private.as_ref().ok_or(Error::Dh)?;
        // snow pads keys to the length of its longest curve. aws-lc refuses a shared secret of all
        // zeros (RFC 7748, section 6.1).
        let public = UnparsedPublicKey::new(&X25519, public.get(..KEY_LEN).ok_or(Error::Dh)?);
        agreement::agree(private, public, Error::Dh, |secret| {
            out.get_mut(..secret.len())
                .ok_or(Error::Dh)?
                .copy_from_slice(secret);
            Ok(())
        })
    }
}

struct Sha256(digest::Context);

impl Hash for Sha256 {
    fn name(&self) -> &'static str {
        "SHA256"
    }
    fn block_len(&self) -> usize {
        64
    }
    fn hash_len(&self) -> usize {
        32
    }
    fn reset(&mut self) {
        self.0 = digest::Context::new(&digest::SHA256);
    }
    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }
    fn result(&mut self, out: &mut [u8]) {
        out[..self.hash_len()].copy_from_slice(self.0.clone().finish().as_ref());
    }
}

/// AES-256-GCM with Noise's nonce: four zero bytes, then the counter in big-endian.
struct Aes256Gcm(Option<LessSafeKey>);

impl Aes256Gcm {
    fn key(&self) -> &LessSafeKey {
        self.0
            .as_ref()
            .expect("snow sets a key before it uses a cipher")
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

impl Cipher for Aes256Gcm {
    fn name(&self) -> &'static str {
        "AESGCM"
    }

    fn set(&mut self, key: &[u8; 32]) {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are an AES-256 key");
        self.0 = Some(LessSafeKey::new(key));
    }

    fn encrypt(&self, counter: u64, ad: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let (text, rest) = out.split_at_mut(plaintext.len());
        text.copy_from_slice(plaintext);
        let tag = self
            .key()
            .seal_in_place_separate_tag(nonce(counter), Aad::from(ad), text)
            .expect("a Noise message is far below AES-GCM's limit");
        rest[..TAG_LEN].copy_from_slice(tag.as_ref());
        plaintext.len() + TAG_LEN
    }

    fn decrypt(
        &self,
        counter: u64,
        ad: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let len = ciphertext
            .len()
            .checked_sub(TAG_LEN)
            .ok_or(Error::Decrypt)?;
        let (text, tag) = ciphertext.split_at(len);
        // Decrypts straight into `out`, without a copy first.
        self.key()
            .open_separate_gather(
                nonce(counter),
                Aad::from(ad),
                text,
                tag,
                out.get_mut(..len).ok_or(Error::Decrypt)?,
            )
            .map_err(|_| Error::Decrypt)?;
        Ok(len)
    }
}
