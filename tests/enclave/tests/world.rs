//! Checks the trust world with third-party verifiers, before the library has to accept it.

mod common;

use aws_lc_rs::{digest, signature};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde_json::Value;
use sigstore_verify::trust_root::TrustedRoot;
use sigstore_verify::types::Bundle;
use sigstore_verify::{IdentityMatcher, VerificationPolicy, Verifier};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use common::{Enclave, hello, run};

/// Verifies the bundle with `sigstore-verify`, and the policy's root and identity.
fn sigstore(policy: &Value, evidence: &Value) -> Result<(), sigstore_verify::Error> {
    let policy = &policy["sigstore"];
    let root = TrustedRoot::from_json(&policy["trusted_root"].to_string()).expect("a trusted root");
    let bundle = Bundle::from_json(evidence["manifestBundle"].as_str().expect("a string"))
        .expect("a bundle");
    let text = |name: &str| policy[name].as_str().expect("a string").to_owned();
    let signer = VerificationPolicy::new(IdentityMatcher::Email(text("identity")), text("issuer"));
    let manifest = evidence["manifest"].as_str().expect("a string");
    Verifier::new(&root)?
        .verify(manifest.as_bytes(), &bundle, &signer)
        .map(drop)
}

async fn key_set(policy: &Value) -> Value {
    let url = policy["ita"]["jwks_url"].as_str().expect("a URL");
    let (host, path) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .expect("http://");
    let mut stream = TcpStream::connect(host).await.expect("the key server");
    stream
        .write_all(format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
        .await
        .expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    serde_json::from_str(answer.split_once("\r\n\r\n").expect("a body").1).expect("JSON")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn bundle_verifies_with_the_policys_root() {
    let enclave = Enclave::start_alone(&[]);
    let evidence = run(hello(&enclave)).evidence();
    sigstore(&enclave.policy(), &evidence).expect("the reference verifier accepts it");
}

#[test]
fn other_release_verifies_and_has_other_registers() {
    let enclave = Enclave::start(&["--release", "0.2.0"]);
    let evidence = run(hello(&enclave)).evidence();
    sigstore(&enclave.policy(), &evidence).expect("the reference verifier accepts it");
    let manifest: Value =
        serde_json::from_str(evidence["manifest"].as_str().expect("text")).expect("JSON");
    let token = evidence["attestation"].as_str().expect("text");
    let claims = token.split('.').nth(1).expect("claims");
    let claims: Value =
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64url"))
            .expect("JSON");
    let kept = run(hello(&Enclave::start(&[]))).evidence();
    let kept: Value = serde_json::from_str(kept["manifest"].as_str().expect("text")).expect("JSON");
    for register in ["rtmr1", "rtmr2"] {
        let measured = &manifest["tdxMeasurements"][register];
        assert_eq!(measured, &claims[format!("tdx_{register}")]);
        assert_ne!(measured, &kept["tdxMeasurements"][register]);
    }
}

#[test]
fn listed_key_signs_the_token_for_the_noise_key() {
    let enclave = Enclave::start(&[]);
    run(async {
        let met = hello(&enclave).await;
        let evidence = met.evidence();
        let token = evidence["attestation"].as_str().expect("a string");
        let (signed, seal) = token.rsplit_once('.').expect("three parts");
        let (header, claims) = signed.split_once('.').expect("three parts");
        let part = |text| -> Value {
            serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64url"))
                .expect("JSON")
        };
        let (header, claims) = (part(header), part(claims));
        assert_eq!(header["alg"], "PS384");

        let keys = key_set(&enclave.policy()).await;
        let entries: Vec<_> = keys["keys"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|key| key["kid"] == header["kid"])
            .collect();
        assert_eq!(
            entries.iter().map(|key| &key["alg"]).collect::<Vec<_>>(),
            ["PS384", "RS256"]
        );
        let key = entries[0];
        let number = |name: &str| {
            BASE64_URL_SAFE_NO_PAD
                .decode(key[name].as_str().expect("a string"))
                .expect("base64url")
        };
        signature::RsaPublicKeyComponents {
            n: number("n"),
            e: number("e"),
        }
        .verify(
            &signature::RSA_PSS_2048_8192_SHA384,
            signed.as_bytes(),
            &BASE64_URL_SAFE_NO_PAD.decode(seal).expect("base64url"),
        )
        .expect("PS384 holds");
        let certificate = |at: usize| {
            BASE64_STANDARD
                .decode(key["x5c"][at].as_str().expect("a string"))
                .expect("base64")
        };
        assert_eq!(
            header["kid"],
            hex(digest::digest(&digest::SHA384, &certificate(0)).as_ref())
        );
        let root = hex(digest::digest(&digest::SHA256, &certificate(2)).as_ref());
        assert_eq!(enclave.policy()["ita"]["root_sha256"][0], root);

        assert_eq!(
            claims["tdx_report_data"].as_str().expect("hex")[..64],
            hex(&met.server_key)
        );
        let measured = |at: &str| claims[at].as_str().expect("hex").to_owned();
        let manifest: Value =
            serde_json::from_str(evidence["manifest"].as_str().expect("text")).expect("JSON");
        for register in ["rtmr1", "rtmr2"] {
            assert_eq!(
                measured(&format!("tdx_{register}")),
                manifest["tdxMeasurements"][register]
            );
            assert_eq!(measured(&format!("tdx_{register}")).len(), 96);
        }
        assert_eq!(enclave.policy()["tdx"]["mrtd"][0], measured("tdx_mrtd"));
    });
}

/// Verifies the chain with OpenSSL, if it is installed.
#[test]
fn openssl_accepts_the_chain_of_the_key_set() {
    let enclave = Enclave::start(&[]);
    let keys = run(key_set(&enclave.policy()));
    let folder = common::scratch("chain");
    std::fs::create_dir_all(&folder).expect("a folder");
    let files: Vec<_> = ["leaf", "ca", "root"]
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let text = keys["keys"][0]["x5c"][at].as_str().expect("base64");
            let path = folder.join(name);
            let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
            std::fs::write(&path, pem).expect("written");
            path
        })
        .collect();
    let checked = std::process::Command::new("openssl")
        .args(["verify", "-x509_strict", "-CAfile"])
        .arg(&files[2])
        .arg("-untrusted")
        .args([&files[1], &files[0]])
        .output();
    match checked {
        Ok(checked) => assert!(
            checked.status.success(),
            "{}",
            String::from_utf8_lossy(&checked.stderr)
        ),
        Err(_) => eprintln!("skipped: no openssl"),
    }
}
