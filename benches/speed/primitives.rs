//! The comparison for connecting: the cryptography that handshake and evidence need, each primitive
//! timed separately.
//!
//! The counts come from the protocol and the local enclave's trust world. Its keys have the types
//! and sizes of the real ones.

use std::hint::black_box;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1,
    ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
    RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA512, RSA_PSS_2048_8192_SHA384, RSA_PSS_SHA384,
    RsaEncoding, VerificationAlgorithm,
};

use crate::measure::timed;

/// Typical length of a signed token, certificate or log entry.
const SIGNED: usize = 1_500;

type Work = Box<dyn Fn()>;

/// A primitive, and how often a connection uses it.
struct Primitive {
    work: Work,
    /// In each connection, for the handshake and the token.
    each_time: usize,
    /// For a new release and a new key of Intel's.
    release: usize,
}

pub struct Primitives(Vec<Primitive>);

impl Primitives {
    /// Prepares keys and signatures. `evidence` is the length of the payload of message 2.
    pub fn new(evidence: usize) -> Primitives {
        let rsa = RsaKeyPair::generate(KeySize::Rsa3072).unwrap();
        let agreement = (
            PrivateKey::generate(&X25519).unwrap(),
            PrivateKey::generate(&X25519).unwrap(),
        );
        let peer = agreement.1.compute_public_key().unwrap();
        let list: [(Work, usize, usize); 7] = [
            // The token (PS384).
            (
                verify_rsa(&rsa, &RSA_PSS_SHA384, &RSA_PSS_2048_8192_SHA384),
                1,
                0,
            ),
            // Leaf and signing CA of the token's chain (sha512WithRSA). The library remembers a
            // verified key.
            (
                verify_rsa(&rsa, &RSA_PKCS1_SHA512, &RSA_PKCS1_2048_8192_SHA512),
                0,
                2,
            ),
            // The signing certificate and its intermediate.
            (
                verify_ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1),
                0,
                2,
            ),
            // The manifest's signature, the SCT, the entry's promise, the checkpoint.
            (
                verify_ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P256_SHA256_ASN1),
                0,
                4,
            ),
            // Noise: keys e and s; ee, es, se.
            (
                Box::new(|| {
                    let key = PrivateKey::generate(&X25519).unwrap();
                    black_box(key.compute_public_key().unwrap());
                }),
                2,
                0,
            ),
            (
                Box::new(move || {
                    let peer = UnparsedPublicKey::new(&X25519, peer.as_ref());
                    agree(&agreement.0, peer, (), |secret| {
                        black_box(secret);
                        Ok(())
                    })
                    .unwrap();
                }),
                3,
                0,
            ),
            // Noise hashes and decrypts message 2. Verifying the release hashes manifest and
            // bundle, which are most of the evidence.
            (hash_twice_and_decrypt(evidence), 1, 0),
        ];
        let list = list
            .into_iter()
            .map(|(work, each_time, release)| Primitive {
                work,
                each_time,
                release,
            });
        Primitives(list.collect())
    }

    /// Returns the sum in microseconds: for a known release, and for a new one. Runs each primitive
    /// as often as a connection does, because a loop would warm the caches.
    pub fn sums(&self) -> (f64, f64) {
        let (mut each_time, mut release) = (0.0, 0.0);
        for primitive in &self.0 {
            let once = timed(&primitive.work);
            each_time += once * primitive.each_time as f64;
            release += once * primitive.release as f64;
        }
        (each_time, each_time + release)
    }
}

fn verify_rsa(
    key: &RsaKeyPair,
    signing: &'static dyn RsaEncoding,
    algorithm: &'static dyn VerificationAlgorithm,
) -> Work {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(signing, &SystemRandom::new(), &[7; SIGNED], &mut signature)
        .unwrap();
    verify(algorithm, key.public_key().as_ref().to_vec(), signature)
}

fn verify_ecdsa(
    signing: &'static EcdsaSigningAlgorithm,
    algorithm: &'static dyn VerificationAlgorithm,
) -> Work {
    let key = EcdsaKeyPair::generate(signing).unwrap();
    let signature = key.sign(&SystemRandom::new(), &[7; SIGNED]).unwrap();
    verify(
        algorithm,
        key.public_key().as_ref().to_vec(),
        signature.as_ref().to_vec(),
    )
}

fn verify(algorithm: &'static dyn VerificationAlgorithm, key: Vec<u8>, signature: Vec<u8>) -> Work {
    Box::new(move || {
        signature::UnparsedPublicKey::new(algorithm, &key)
            .verify(&[7; SIGNED], &signature)
            .unwrap();
    })
}

fn hash_twice_and_decrypt(len: usize) -> Work {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).unwrap());
    let nonce = || Nonce::assume_unique_for_key([0; 12]); // the key encrypts only one message
    let mut sealed = vec![7; len];
    key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed)
        .unwrap();
    Box::new(move || {
        black_box((digest(&SHA256, &sealed), digest(&SHA256, &sealed)));
        black_box(
            key.open_in_place(nonce(), Aad::empty(), &mut sealed.clone())
                .unwrap(),
        );
    })
}
