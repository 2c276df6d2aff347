//! The signer of a release, as its certificate names them.

use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, oid::AssociatedOid};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::attestation::report::Finding;

/// The signer in the signing certificate.
pub(super) struct Signer {
    pub(super) email: String,
    pub(super) issuer: String,
}

impl Signer {
    /// Requires exactly one name, an email address, and exactly one issuer.
    pub(super) fn read(der: &[u8]) -> Result<Signer, Finding> {
        let unreadable = |error: &dyn std::fmt::Display| {
            Finding::fail("The signing certificate cannot be read.").observed(error.to_string())
        };
        let certificate = Certificate::from_der(der).map_err(|error| unreadable(&error))?;
        let extensions = certificate
            .tbs_certificate
            .extensions
            .as_deref()
            .unwrap_or_default();
        let of = |oid: ObjectIdentifier| {
            extensions
                .iter()
                .filter(move |extension| extension.extn_id == oid)
        };

        let mut names = Vec::new();
        for extension in of(SubjectAltName::OID) {
            let list = SubjectAltName::from_der(extension.extn_value.as_bytes())
                .map_err(|error| unreadable(&error))?;
            names.extend(list.0);
        }
        let email = match names.as_slice() {
            [GeneralName::Rfc822Name(email)] => email.to_string(),
            _ => {
                return Err(Finding::fail(
                    "The signing certificate is not for exactly one email address.",
                )
                .observed(format!("{} names", names.len())));
            }
        };

        if of(ISSUER).count() > 1 || of(LEGACY_ISSUER).count() > 1 {
            return Err(Finding::fail(
                "The signing certificate names more than one issuer.",
            ));
        }
        let info = sigstore_verify::crypto::parse_certificate_info(&der.into())
            .map_err(|error| unreadable(&error))?;
        let issuer = info
            .issuer
            .ok_or_else(|| Finding::fail("The signing certificate names no issuer."))?;
        Ok(Signer { email, issuer })
    }
}

/// Fulcio's extensions for the identity provider, the current one and the old one (Sigstore's OID
/// list, `1.3.6.1.4.1.57264.1`).
const ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");
const LEGACY_ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");
