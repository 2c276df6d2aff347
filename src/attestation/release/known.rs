//! Checks whether a trusted root lists the logs and authorities of a release. Sigstore rotates
//! them, so an old root refuses a good release, and the report should say so. The results only
//! select texts and decide nothing about trust.

use sigstore_verify::trust_root::TrustedRoot;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectKeyIdentifier;

use crate::attestation::policy::{BUILT_IN_ROOT_DATE, SigstorePolicy};

/// Object ids, as DER, of the extensions that name a certificate's authority (RFC 5280, section
/// 4.2.1.1) and its log (RFC 6962, section 3.3).
const AUTHORITY_KEY: &[u8] = b"\x06\x03\x55\x1d\x23";
const SIGNED_TIMESTAMPS: &[u8] = b"\x06\x0a\x2b\x06\x01\x04\x01\xd6\x79\x02\x04\x02";

/// Ids of a trusted root's authorities, as they appear in certificates and timestamps.
#[derive(Default)]
pub(super) struct Known {
    /// Key identifiers of certificate authorities.
    authorities: Vec<Vec<u8>>,
    /// Log identifiers of certificate transparency logs.
    certificate_logs: Vec<Vec<u8>>,
    /// Serial numbers of timestamp authorities' certificates, as DER.
    timestamp_authorities: Vec<Vec<u8>>,
    pub(super) built_in: bool,
}

impl Known {
    pub(super) fn new(policy: &SigstorePolicy) -> Known {
        let root: &TrustedRoot = &policy.trusted_root;
        let certificate = |der: &[u8]| Certificate::from_der(der).ok();
        let key_id = |der: &[u8]| {
            let id = certificate(der)?
                .tbs_certificate
                .get::<SubjectKeyIdentifier>();
            Some(id.ok()??.1.0.as_bytes().to_vec())
        };
        let serial = |der: &[u8]| {
            certificate(der)?
                .tbs_certificate
                .serial_number
                .to_der()
                .ok()
        };
        let issuers = root.certificate_authorities.iter();
        let timestampers = root.timestamp_authorities.iter();
        Known {
            authorities: issuers
                .flat_map(|authority| &authority.cert_chain.certificates)
                .filter_map(|entry| key_id(entry.raw_bytes.as_bytes()))
                .collect(),
            certificate_logs: root
                .ctlogs
                .iter()
                .map(|log| log.log_id.key_id.as_bytes().to_vec())
                .collect(),
            timestamp_authorities: timestampers
                .flat_map(|authority| &authority.cert_chain.certificates)
                .filter_map(|entry| serial(entry.raw_bytes.as_bytes()))
                .collect(),
            built_in: policy.built_in_root,
        }
    }

    /// Makes the text that the root does not list something, and where to get a newer one.
    pub(super) fn lacks(&self, what: &str) -> String {
        if self.built_in {
            format!(
                "{what} is unknown: this version's built-in root is of {BUILT_IN_ROOT_DATE}; a newer library or policy may know it."
            )
        } else {
            format!(
                "{what} is unknown: the policy's own sigstore.trusted_root does not list it; a newer one may."
            )
        }
    }

    /// Makes the text for a signing certificate whose authority or certificate log the root does
    /// not list. `None` for a certificate that names no authority and no log.
    pub(super) fn missing_for_certificate(&self, der: &[u8]) -> Option<String> {
        let names = |extension: &[u8]| {
            der.windows(extension.len())
                .any(|window| window == extension)
        };
        if names(AUTHORITY_KEY) && !holds_one_of(der, &self.authorities) {
            Some(self.lacks("The authority that issued the signing certificate"))
        } else if names(SIGNED_TIMESTAMPS) && !holds_one_of(der, &self.certificate_logs) {
            Some(self.lacks("The certificate log of the signing certificate"))
        } else {
            None
        }
    }

    /// Makes the text for a timestamp whose authority the root does not list.
    pub(super) fn missing_for_timestamps(&self, timestamps: &[Vec<u8>]) -> Option<String> {
        let all = timestamps
            .iter()
            .all(|der| holds_one_of(der, &self.timestamp_authorities));
        (!all).then(|| self.lacks("The authority of the release's timestamp"))
    }
}

fn holds_one_of(der: &[u8], names: &[Vec<u8>]) -> bool {
    let holds = |name: &Vec<u8>| {
        !name.is_empty()
            && der
                .windows(name.len())
                .any(|window| window == name.as_slice())
    };
    names.iter().any(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_that_names_nobody_is_not_told_as_unknown() {
        let known = Known::default();
        let missing = |parts: &[&[u8]]| known.missing_for_certificate(&parts.concat());
        assert_eq!(missing(&[]), None);
        assert!(
            missing(&[AUTHORITY_KEY])
                .unwrap()
                .starts_with("The authority")
        );
        let log = missing(&[SIGNED_TIMESTAMPS]).unwrap();
        assert!(log.starts_with("The certificate log"));
    }
}
