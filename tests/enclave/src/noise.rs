//! The responder of `Noise_XX_25519_AESGCM_SHA256` (protocol.md section 2), with snow's default
//! primitives.
//!
//! Knows nothing of evidence or frames. `Weak` makes low-order keys, which no honest responder has.

use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};

use crate::Failure;

const PATTERN: &str = "Noise_XX_25519_AESGCM_SHA256";
/// The longest handshake message that the server reads (section 2).
pub(crate) const MAX_HANDSHAKE_READ: usize = 4_096;
/// The longest Noise message, and the length of AES-GCM's tag.
pub(crate) const MAX_MESSAGE: usize = 65_535;
pub(crate) const TAG: usize = 16;

/// The responder's static key. Each process generates one.
pub(crate) struct StaticKey {
    private: Vec<u8>,
    pub(crate) public: [u8; 32],
}

impl StaticKey {
    pub(crate) fn generate() -> Result<Self, Failure> {
        let pair = Builder::new(params()?).generate_keypair()?;
        let public = pair
            .public
            .as_slice()
            .try_into()
            .map_err(|_| "a public key has 32 bytes")?;
        Ok(Self {
            private: pair.private,
            public,
        })
    }
}

/// Selects the responder's key that is the all-zero point. Its shared secrets are all zero too, so
/// everyone knows them.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Weak {
    Ephemeral,
    Static,
}

pub(crate) fn responder(key: &StaticKey, weak: Option<Weak>) -> Result<HandshakeState, Failure> {
    let resolver = Box::new(Resolver { weak });
    Ok(Builder::with_resolver(params()?, resolver)
        .local_private_key(&key.private)?
        .build_responder()?)
}

/// Makes a message 1 of another initiator.
pub(crate) fn strange_message_1() -> Result<Vec<u8>, Failure> {
    let key = StaticKey::generate()?;
    let mut state = Builder::new(params()?)
        .local_private_key(&key.private)?
        .build_initiator()?;
    let mut message = vec![0; MAX_HANDSHAKE_READ];
    let length = state.write_message(&[], &mut message)?;
    message.truncate(length);
    Ok(message)
}

fn params() -> Result<NoiseParams, Failure> {
    Ok(PATTERN.parse()?)
}

struct Resolver {
    weak: Option<Weak>,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        DefaultResolver.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        let dh = DefaultResolver.resolve_dh(choice)?;
        Some(match self.weak {
            None => dh,
            Some(weak) => Box::new(WeakDh {
                inner: dh,
                weak,
                on: false,
            }),
        })
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// An X25519 key that becomes weak if it is the selected one: snow generates an ephemeral key and
/// sets a static one.
struct WeakDh {
    inner: Box<dyn Dh>,
    weak: Weak,
    on: bool,
}

impl Dh for WeakDh {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn pub_len(&self) -> usize {
        self.inner.pub_len()
    }

    fn priv_len(&self) -> usize {
        self.inner.priv_len()
    }

    fn set(&mut self, private: &[u8]) {
        self.on |= self.weak == Weak::Static;
        self.inner.set(private);
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), snow::Error> {
        self.on |= self.weak == Weak::Ephemeral;
        self.inner.generate(random)
    }

    fn pubkey(&self) -> &[u8] {
        if self.on {
            &[0; 32]
        } else {
            self.inner.pubkey()
        }
    }

    fn privkey(&self) -> &[u8] {
        self.inner.privkey()
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        self.inner.dh(public, out)?;
        if self.on {
            out[..32].fill(0);
        }
        Ok(())
    }
}
