//! Another static library in Rust. With the feature `aws-lc-rs` it has a copy of aws-lc, too.

use std::panic;

/// Uses the library. Returns 0 if everything in it works.
#[unsafe(no_mangle)]
pub extern "C" fn neighbour() -> i32 {
    panic::set_hook(Box::new(|_| {}));
    let caught = panic::catch_unwind(|| std::thread::spawn(|| panic!("wanted")).join().unwrap());
    i32::from(caught.is_ok() || !signs())
}

#[cfg(not(feature = "aws-lc-rs"))]
fn signs() -> bool {
    true
}

#[cfg(feature = "aws-lc-rs")]
fn signs() -> bool {
    use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

    let Ok(pair) = Ed25519KeyPair::generate() else {
        return false;
    };
    let key = UnparsedPublicKey::new(&ED25519, pair.public_key());
    let signature = pair.sign(b"signed");
    key.verify(b"signed", signature.as_ref()).is_ok()
        && key.verify(b"other", signature.as_ref()).is_err()
}
