//! The private keys of the trust world, and their signatures.
//!
//! Knows nothing of the signed content.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair as _};

use super::der;
use crate::Failure;

/// A key that signs certificates, tokens or log entries.
pub(crate) enum Key {
    Rsa(rsa::KeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
}

/// RSA's paddings by their JOSE names (RFC 7518, 3.1).
#[derive(Clone, Copy)]
pub(crate) enum Rsa {
    Ps384,
    Rs256,
    Rs512,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Rsa3072,
    P256,
    P384,
}

impl Key {
    pub(crate) fn generate(kind: Kind) -> Result<Self, Failure> {
        Ok(match kind {
            Kind::Rsa3072 => Self::Rsa(rsa::KeyPair::generate(KeySize::Rsa3072)?),
            Kind::P256 => Self::P256(EcdsaKeyPair::generate(
                &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            )?),
            Kind::P384 => Self::P384(EcdsaKeyPair::generate(
                &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
            )?),
        })
    }

    pub(crate) fn from_pkcs8(kind: Kind, der: &[u8]) -> Result<Self, Failure> {
        Ok(match kind {
            Kind::Rsa3072 => Self::Rsa(rsa::KeyPair::from_pkcs8(der)?),
            Kind::P256 => Self::P256(EcdsaKeyPair::from_pkcs8(
                &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
                der,
            )?),
            Kind::P384 => Self::P384(EcdsaKeyPair::from_pkcs8(
                &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
                der,
            )?),
        })
    }

    pub(crate) fn to_pkcs8(&self) -> Result<Vec<u8>, Failure> {
        Ok(match self {
            Self::Rsa(key) => key.as_der()?.as_ref().to_vec(),
            Self::P256(key) | Self::P384(key) => key.to_pkcs8v1()?.as_ref().to_vec(),
        })
    }

    /// The `SubjectPublicKeyInfo`.
    pub(crate) fn spki(&self) -> Result<Vec<u8>, Failure> {
        Ok(match self {
            Self::Rsa(key) => key.public_key().as_der()?.as_ref().to_vec(),
            Self::P256(key) | Self::P384(key) => key.public_key().as_der()?.as_ref().to_vec(),
        })
    }

    /// Modulus and exponent of an RSA key, big-endian.
    pub(crate) fn rsa_numbers(&self) -> Result<(Vec<u8>, Vec<u8>), Failure> {
        let Self::Rsa(key) = self else {
            return Err("not an RSA key".into());
        };
        let public = key.public_key();
        let modulus = public.modulus().big_endian_without_leading_zero().to_vec();
        let exponent = public.exponent().big_endian_without_leading_zero().to_vec();
        Ok((modulus, exponent))
    }

    /// Signs a certificate or log entry.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Rsa(_) => self.sign_rsa(Rsa::Rs512, message),
            Self::P256(key) | Self::P384(key) => {
                Ok(key.sign(&SystemRandom::new(), message)?.as_ref().to_vec())
            }
        }
    }

    pub(crate) fn sign_rsa(&self, padding: Rsa, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let Self::Rsa(key) = self else {
            return Err("not an RSA key".into());
        };
        let padding: &dyn signature::RsaEncoding = match padding {
            Rsa::Ps384 => &signature::RSA_PSS_SHA384,
            Rsa::Rs256 => &signature::RSA_PKCS1_SHA256,
            Rsa::Rs512 => &signature::RSA_PKCS1_SHA512,
        };
        let mut signed = vec![0; key.public_modulus_len()];
        key.sign(padding, &SystemRandom::new(), message, &mut signed)?;
        Ok(signed)
    }

    /// The `AlgorithmIdentifier` of `sign`.
    pub(crate) fn algorithm(&self) -> Vec<u8> {
        match self {
            Self::Rsa(_) => der::sequence(&[der::oid("1.2.840.113549.1.1.13"), der::null()]),
            Self::P256(_) => der::sequence(&[der::oid("1.2.840.10045.4.3.2")]),
            Self::P384(_) => der::sequence(&[der::oid("1.2.840.10045.4.3.3")]),
        }
    }
}
