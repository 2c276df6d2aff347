//! Verifies the certificates of a token's key, up to a root that the policy lists.
//!
//! rustls-webpki validates the path. To webpki a trust anchor is a bare key, so this file checks
//! the root's validity, CA flag and path length, and every certificate's key usage. Certificates
//! get no leeway.

use std::ops::RangeInclusive;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, SHA384, digest};
use jsonwebtoken::DecodingKey;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, anchor_from_trusted_cert,
};
use x509_cert::Certificate;
use x509_cert::der::asn1::UintRef;
use x509_cert::der::{Decode, Reader, SliceReader};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};
use x509_cert::time::Time;

use super::keys::Jwk;
use crate::attestation::hex;
use crate::attestation::plain::plain;
use crate::attestation::report::{Finding, Passing};
use crate::clock::in_words;

/// The only algorithm of Intel's certificates: sha512WithRSA (attestation.md, section 1).
static SIGNATURES: &[&dyn SignatureVerificationAlgorithm] =
    &[webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA512];

/// A key that may verify tokens. Only this file makes one, so no unchecked key can verify a token.
#[derive(Clone)]
pub(in crate::attestation) struct TrustedKey(pub(super) DecodingKey);

/// Checks that `key` matches its id, and chains to one of `roots` (SHA-256 of their DER) at `now`.
/// Also returns when all of its certificates are valid, in Unix seconds.
pub(in crate::attestation) fn trusted_key(
    key: &Jwk,
    roots: &[[u8; 32]],
    now: u64,
) -> Result<(TrustedKey, RangeInclusive<u64>), Finding> {
    let [leaf, intermediates @ .., root] = key.x5c.as_slice() else {
        return Err(
            Finding::fail("The certificate chain of Intel's key is too short.")
                .expected("at least 2 certificates, a leaf and a root")
                .observed(format!("{} certificates", key.x5c.len())),
        );
    };

    let leaf_hash = digest(&SHA384, leaf);
    if leaf_hash.as_ref() != key.kid.as_bytes() {
        return Err(
            Finding::fail("The kid of Intel's key is not the SHA-384 of its certificate.")
                .expected(key.kid.to_string())
                .observed(hex::encode(leaf_hash.as_ref())),
        );
    }

    let root_hash = digest(&SHA256, root);
    if !roots.iter().any(|listed| root_hash.as_ref() == listed) {
        let listed: Vec<_> = roots.iter().map(|root| hex::encode(root)).collect();
        return Err(Finding::fail(
            "The certificate chain of Intel's key does not end in a root that the policy lists.",
        )
        .expected(listed.join(" or "))
        .observed(hex::encode(root_hash.as_ref())));
    }

    let leaf_certificate = parse(leaf)?;
    may(&leaf_certificate, "leaf", KeyUsage::digital_signature)?;
    let root_certificate = parse(root)?;
    let mut valid = both(validity(&leaf_certificate), validity(&root_certificate));
    for certificate in intermediates {
        let certificate = parse(certificate)?;
        may(&certificate, "signing CA", KeyUsage::key_cert_sign)?;
        valid = both(valid, validity(&certificate));
    }
    root_allows(&root_certificate, intermediates.len(), now)?;
    path(leaf, intermediates, root, now)?;

    if rsa_components(&leaf_certificate) != Some((key.n.clone(), key.e.clone())) {
        return Err(Finding::fail(
            "Intel's key differs from the key in its certificate.",
        ));
    }
    let trusted = TrustedKey(DecodingKey::from_rsa_raw_components(&key.n, &key.e));
    Ok((trusted, valid))
}

/// From the first to the last second at which a certificate is valid.
fn validity(certificate: &Certificate) -> RangeInclusive<u64> {
    let validity = &certificate.tbs_certificate.validity;
    let seconds = |time: &Time| time.to_unix_duration().as_secs();
    seconds(&validity.not_before)..=seconds(&validity.not_after)
}

fn both(one: RangeInclusive<u64>, other: RangeInclusive<u64>) -> RangeInclusive<u64> {
    *one.start().max(other.start())..=*one.end().min(other.end())
}

fn parse(der: &[u8]) -> Result<Certificate, Finding> {
    Certificate::from_der(der).map_err(|error| malformed(&error))
}

fn malformed(error: &dyn std::fmt::Display) -> Finding {
    Finding::fail("A certificate of Intel's key cannot be read.").observed(error.to_string())
}

/// Checks that the key usage, if present, permits the certificate's use.
fn may(
    certificate: &Certificate,
    whose: &str,
    allowed: fn(&KeyUsage) -> bool,
) -> Result<(), Finding> {
    match certificate
        .tbs_certificate
        .get::<KeyUsage>()
        .map_err(|error| malformed(&error))?
    {
        Some((_, usage)) if !allowed(&usage) => Err(Finding::fail(format!(
            "The key usage of the {whose} certificate of Intel's key does not allow its use here."
        ))),
        _ => Ok(()),
    }
}

/// Checks what webpki does not check for a trust anchor. A listed root can still expire.
fn root_allows(root: &Certificate, intermediates: usize, now: u64) -> Result<(), Finding> {
    let (from, until) = validity(root).into_inner();
    if now < from || until < now {
        return Err(outside(
            "The root certificate of Intel's key is not valid at this time.",
            format!("from {} to {}", in_words(from), in_words(until)),
            now,
        ));
    }
    may(root, "root", KeyUsage::key_cert_sign)?;
    match root
        .tbs_certificate
        .get::<BasicConstraints>()
        .map_err(|error| malformed(&error))?
    {
        Some((
            _,
            BasicConstraints {
                ca: true,
                path_len_constraint: limit,
            },
        )) if limit.is_none_or(|limit| intermediates <= usize::from(limit)) => Ok(()),
        _ => Err(Finding::fail(
            "The root certificate of Intel's key is not a CA, or not for a chain of this length.",
        )),
    }
}

/// Makes the failure for a certificate that has expired or is not valid yet.
fn outside(detail: &'static str, valid: String, now: u64) -> Finding {
    Finding::fail(detail)
        .expected(format!("a time {valid}"))
        .observed(in_words(now))
        .passing(Passing::Clock)
}

/// Checks signatures, names, CA flags, path lengths and validity below the root, in the order of
/// `x5c`.
fn path(leaf: &[u8], intermediates: &[Vec<u8>], root: &[u8], now: u64) -> Result<(), Finding> {
    let invalid = |error: webpki::Error| match error {
        webpki::Error::CertExpired { not_after, .. } => outside(
            "A certificate of Intel's key has expired.",
            format!("until {}", in_words(not_after.as_secs())),
            now,
        ),
        webpki::Error::CertNotValidYet { not_before, .. } => outside(
            "A certificate of Intel's key is not valid yet.",
            format!("from {}", in_words(not_before.as_secs())),
            now,
        ),
        error => Finding::fail("The certificate chain of Intel's key does not verify.")
            .expected("a chain of valid signatures up to the root that the policy lists")
            .observed(plain(&error.to_string())),
    };
    let root = CertificateDer::from(root);
    let leaf = CertificateDer::from(leaf);
    let intermediates: Vec<_> = intermediates
        .iter()
        .map(|der| CertificateDer::from(der.as_slice()))
        .collect();
    let anchors = [anchor_from_trusted_cert(&root).map_err(invalid)?];
    let leaf = EndEntityCert::try_from(&leaf).map_err(invalid)?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
    let path = leaf
        .verify_for_usage(
            SIGNATURES,
            &anchors,
            &intermediates,
            time,
            AnyPurpose,
            None,
            None,
        )
        .map_err(invalid)?;

    // RFC 7517, section 4.7: each certificate certifies the one before it. None may be unused.
    let walked = path
        .intermediate_certificates()
        .map(|certificate| certificate.der());
    if !walked.eq(intermediates.iter().cloned()) {
        return Err(Finding::fail(
            "The certificates of Intel's key are not in order, each followed by its issuer.",
        ));
    }
    Ok(())
}

/// Intel's certificates have no extended key usage, and none exists for signing tokens.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, mut purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        purposes.try_for_each(|purpose| purpose.map(|_| ()))
    }
}

/// Returns modulus and exponent of a certificate's RSA key (RFC 8017, appendix A.1.1).
fn rsa_components(certificate: &Certificate) -> Option<(Vec<u8>, Vec<u8>)> {
    const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";
    let info = &certificate.tbs_certificate.subject_public_key_info;
    if info.algorithm.oid.to_string() != RSA_ENCRYPTION {
        return None;
    }
    let mut reader = SliceReader::new(info.subject_public_key.as_bytes()?).ok()?;
    let components = reader.sequence(|fields| {
        let n: UintRef<'_> = fields.decode()?;
        let e: UintRef<'_> = fields.decode()?;
        Ok((n.as_bytes().to_vec(), e.as_bytes().to_vec()))
    });
    reader.finish(components.ok()?).ok()
}

/// For tests that make a key set from certificates.
#[cfg(test)]
pub(in crate::attestation) fn rsa_components_of(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    rsa_components(&Certificate::from_der(der).unwrap()).unwrap()
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, date_time_ymd};
    use serde_json::json;

    use super::*;
    use crate::attestation::ita::{JwkSet, Kid};
    use crate::attestation::report::{CheckId, Outcome};
    use crate::attestation::world::{Intel, NOW, Plan};

    fn outcome(intel: &Intel, now: u64) -> Result<(), String> {
        let set = intel.key_set();
        let kid = Kid::parse(&intel.kid).unwrap();
        let result = trusted_key(set.find(&kid).unwrap(), &[intel.root_sha256], now);
        result.map(|_| ()).map_err(|finding| {
            let check = finding.at(CheckId::ItaKey);
            assert_eq!(check.outcome(), Outcome::Fail);
            format!(
                "{} {}",
                check.detail(),
                check.observed().unwrap_or_default()
            )
        })
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Plan), because: &str) {
        let error = outcome(&Intel::with(change), NOW).expect_err(because);
        assert!(error.contains(because), "{error}");
    }

    #[test]
    fn chain_like_intels_is_trusted() {
        assert_eq!(outcome(&Intel::new(), NOW), Ok(()));
    }

    #[test]
    fn extended_key_usage_is_optional() {
        let with = Intel::with(|plan| {
            plan.leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        });
        assert_eq!(outcome(&with, NOW), Ok(()));
    }

    #[test]
    fn every_certificate_and_the_root_must_be_valid() {
        let past = date_time_ymd(2026, 6, 1);
        let future = date_time_ymd(2027, 6, 1);
        refused(
            |plan| plan.leaf.not_after = past,
            "has expired. 2027-01-15 08:00:00 UTC",
        );
        refused(
            |plan| plan.leaf.not_before = future,
            "is not valid yet. 2027-01-15 08:00:00 UTC",
        );
        refused(
            |plan| plan.ca.not_after = past,
            "has expired. 2027-01-15 08:00:00 UTC",
        );
        refused(
            |plan| plan.ca.not_before = future,
            "is not valid yet. 2027-01-15 08:00:00 UTC",
        );
        refused(
            |plan| plan.root.not_after = past,
            "The root certificate of Intel's key is not valid at this time.",
        );
        refused(
            |plan| plan.root.not_before = future,
            "The root certificate of Intel's key is not valid at this time.",
        );
    }

    #[test]
    fn certificates_get_no_leeway() {
        let intel = Intel::new();
        let (from, until) = (1_767_225_600, 1_830_297_600); // 2026-01-01, 2028-01-01
        assert_eq!(outcome(&intel, from), Ok(()));
        assert_eq!(outcome(&intel, until), Ok(()));
        assert!(outcome(&intel, from - 1).is_err());
        assert!(outcome(&intel, until + 1).is_err());
        assert!(outcome(&intel, u64::MAX).is_err());
        assert!(outcome(&intel, 0).is_err());
    }

    #[test]
    fn issuer_must_be_a_ca_with_sufficient_path_length() {
        refused(
            |plan| plan.ca.is_ca = IsCa::ExplicitNoCa,
            "end entity used as ca",
        );
        refused(
            |plan| plan.leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            "ca used as end entity",
        );
        refused(
            |plan| plan.root.is_ca = IsCa::ExplicitNoCa,
            "The root certificate of Intel's key is not a CA",
        );
        refused(
            |plan| plan.root.is_ca = IsCa::NoCa,
            "The root certificate of Intel's key is not a CA",
        );
        refused(
            |plan| plan.root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
            "The root certificate of Intel's key is not a CA, or not for a chain of this length.",
        );
        let one = Intel::with(|plan| plan.root.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)));
        assert_eq!(outcome(&one, NOW), Ok(()));
    }

    #[test]
    fn key_usage_must_permit_the_use() {
        let other = vec![KeyUsagePurpose::KeyEncipherment];
        refused(
            |plan| plan.root.key_usages = other.clone(),
            "The key usage of the root certificate",
        );
        refused(
            |plan| plan.leaf.key_usages = other.clone(),
            "The key usage of the leaf certificate",
        );
        refused(
            |plan| plan.ca.key_usages = other.clone(),
            "The key usage of the signing CA certificate",
        );
        let without = Intel::with(|plan| {
            plan.root.key_usages.clear();
            plan.ca.key_usages.clear();
            plan.leaf.key_usages.clear();
        });
        assert_eq!(outcome(&without, NOW), Ok(()));
    }

    #[test]
    fn unlisted_root_is_refused() {
        let (listed, other) = (
            Intel::new(),
            Intel::with(|plan| plan.root.not_after = date_time_ymd(2029, 1, 1)),
        );
        let set = other.key_set();
        let kid = Kid::parse(&other.kid).unwrap();
        assert!(trusted_key(set.find(&kid).unwrap(), &[listed.root_sha256], NOW).is_err());
        assert!(trusted_key(set.find(&kid).unwrap(), &[], NOW).is_err());
        assert!(
            trusted_key(
                set.find(&kid).unwrap(),
                &[listed.root_sha256, other.root_sha256],
                NOW
            )
            .is_ok()
        );
    }

    #[test]
    fn listed_root_after_a_foreign_chain_is_refused() {
        let (real, mut forged) = (Intel::new(), Intel::impostor());
        forged.x5c[2] = real.x5c[2].clone();
        forged.root_sha256 = real.root_sha256;
        let error = outcome(&forged, NOW).unwrap_err();
        assert!(
            error.contains("invalid signature for public key"),
            "{error}"
        );
    }

    #[test]
    fn key_with_another_keys_id_is_refused() {
        let intel = Intel::new();
        let other = Intel::with(|plan| plan.leaf.not_after = date_time_ymd(2027, 12, 1));
        let mut jwk = intel.jwk();
        jwk["kid"] = other.kid.as_str().into();
        let set = JwkSet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
        let renamed = set.find(&Kid::parse(&other.kid).unwrap()).unwrap();
        assert!(trusted_key(renamed, &[intel.root_sha256], NOW).is_err());
    }

    #[test]
    fn unused_certificates_are_refused() {
        let intel = Intel::new();
        for index in 1..=2 {
            let mut idle = Intel::new();
            idle.x5c.insert(index, intel.x5c[1].clone());
            assert!(outcome(&idle, NOW).is_err());
        }
        for length in 0..3 {
            let kid = Kid::parse(&intel.kid).unwrap();
            let mut jwk = intel.jwk();
            jwk["x5c"].as_array_mut().unwrap().truncate(length);
            let set = JwkSet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
            assert!(trusted_key(set.find(&kid).unwrap(), &[intel.root_sha256], NOW).is_err());
        }
    }

    #[test]
    fn key_must_equal_the_certified_one() {
        let intel = Intel::new();
        let mut jwk = intel.jwk();
        jwk["e"] = "Aw".into();
        let set = JwkSet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
        let kid = Kid::parse(&intel.kid).unwrap();
        assert!(trusted_key(set.find(&kid).unwrap(), &[intel.root_sha256], NOW).is_err());
    }
}
