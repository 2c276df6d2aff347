//! Makes the certificates (RFC 5280) of the trust world from descriptions.
//!
//! Does not check that a chain is valid, because faults need invalid ones.

use aws_lc_rs::digest;

use super::keys::Key;
use super::{der, time};
use crate::Failure;

/// A name: pairs of dotted attribute type and value.
pub(crate) type Name<'a> = &'a [(&'a str, &'a str)];

pub(crate) const COUNTRY: &str = "2.5.4.6";
pub(crate) const STATE: &str = "2.5.4.8";
pub(crate) const LOCALITY: &str = "2.5.4.7";
pub(crate) const ORGANIZATION: &str = "2.5.4.10";
pub(crate) const COMMON_NAME: &str = "2.5.4.3";

/// The content of a certificate.
pub(crate) struct Certificate<'a> {
    pub(crate) serial: &'a [u8],
    pub(crate) subject: Name<'a>,
    pub(crate) issuer: Name<'a>,
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    pub(crate) key: &'a Key,
    pub(crate) extensions: Vec<Vec<u8>>,
}

impl Certificate<'_> {
    /// The signed part, without the signature.
    pub(crate) fn to_be_signed(&self, signer: &Key) -> Result<Vec<u8>, Failure> {
        Ok(der::sequence(&[
            der::explicit(0, &der::unsigned(&[2])), // v3
            der::unsigned(self.serial),
            signer.algorithm(),
            name(self.issuer),
            der::sequence(&[time::x509(self.not_before), time::x509(self.not_after)]),
            name(self.subject),
            self.key.spki()?,
            der::explicit(3, &der::sequence(&self.extensions)),
        ]))
    }

    /// The signed certificate.
    pub(crate) fn sign(&self, signer: &Key) -> Result<Vec<u8>, Failure> {
        let to_be_signed = self.to_be_signed(signer)?;
        let signature = signer.sign(&to_be_signed)?;
        Ok(der::sequence(&[
            to_be_signed,
            signer.algorithm(),
            der::bits(&signature, 0),
        ]))
    }
}

fn name(attributes: Name<'_>) -> Vec<u8> {
    let attributes: Vec<_> = attributes
        .iter()
        .map(|(kind, value)| der::set(&[der::sequence(&[der::oid(kind), der::utf8(value)])]))
        .collect();
    der::sequence(&attributes)
}

pub(crate) fn extension(id: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![der::oid(id)];
    if critical {
        parts.push(der::boolean(true));
    }
    parts.push(der::octets(value));
    der::sequence(&parts)
}

/// BasicConstraints of an authority.
pub(crate) fn authority(path_length: Option<u8>) -> Vec<u8> {
    let mut parts = vec![der::boolean(true)];
    parts.extend(path_length.map(|length| der::unsigned(&[length])));
    extension("2.5.29.19", true, &der::sequence(&parts))
}

/// BasicConstraints of an end-entity certificate.
pub(crate) fn no_authority() -> Vec<u8> {
    extension("2.5.29.19", true, &der::sequence(&[]))
}

/// KeyUsage: certificate and CRL signing.
pub(crate) fn usage_authority() -> Vec<u8> {
    extension("2.5.29.15", true, &der::bits(&[0x06], 1))
}

/// KeyUsage: digital signature.
pub(crate) fn usage_signature() -> Vec<u8> {
    extension("2.5.29.15", true, &der::bits(&[0x80], 7))
}

/// ExtendedKeyUsage with this one purpose.
pub(crate) fn purpose(id: &str) -> Vec<u8> {
    extension("2.5.29.37", false, &der::sequence(&[der::oid(id)]))
}

pub(crate) fn subject_key(key: &Key) -> Result<Vec<u8>, Failure> {
    Ok(extension(
        "2.5.29.14",
        false,
        &der::octets(&key_identifier(key)?),
    ))
}

pub(crate) fn authority_key(key: &Key) -> Result<Vec<u8>, Failure> {
    let id = der::implicit(0, &key_identifier(key)?);
    Ok(extension("2.5.29.35", false, &der::sequence(&[id])))
}

/// A key's identifier: the first twenty bytes of its SHA-256. Any bytes are valid (RFC 5280,
/// 4.2.1.2).
fn key_identifier(key: &Key) -> Result<Vec<u8>, Failure> {
    Ok(digest::digest(&digest::SHA256, &key.spki()?).as_ref()[..20].to_vec())
}
