//! The three handshake messages (protocol section 2).

use std::fmt;

use snow::{Builder, HandshakeState};

use super::resolver::AwsLc;
use super::{Channel, Error, MAX_NOISE_MESSAGE};
use crate::attestation::Verified;

const PROTOCOL: &str = "Noise_XX_25519_AESGCM_SHA256";
/// The server reads at most this many bytes of a handshake message (protocol section 2).
const MAX_HANDSHAKE_OUT: usize = 4_096;

/// Before message 2. Nothing is known about the peer.
pub struct Initiator(HandshakeState);

impl Initiator {
    /// Creates message 1, with a new ephemeral and a new static key.
    pub fn start() -> Result<(Initiator, Vec<u8>), Error> {
        let mut private = [0; 32];
        aws_lc_rs::rand::fill(&mut private).map_err(|_| Error::Exhausted)?;
        Self::with(
            builder()
                .local_private_key(&private)
                .map_err(|_| Error::Handshake)?,
            &[],
        )
    }

    fn with(builder: Builder<'_>, payload: &[u8]) -> Result<(Initiator, Vec<u8>), Error> {
        let mut state = builder.build_initiator().map_err(|_| Error::Handshake)?;
        let message = write(&mut state, payload)?;
        Ok((Initiator(state), message))
    }

    /// Reads message 2: the server's keys and its evidence. The keys authenticate the evidence, but
    /// neither is verified yet.
    pub fn read(mut self, message: &[u8]) -> Result<Unverified, Error> {
        let mut evidence = vec![0; message.len().min(MAX_NOISE_MESSAGE)];
        let len = self
            .0
            .read_message(message, &mut evidence)
            .map_err(|_| Error::Handshake)?;
        evidence.truncate(len);
        let key = self
            .0
            .get_remote_static()
            .and_then(|key| key.get(..32))
            .ok_or(Error::Handshake)?;
        let server_key = key.try_into().expect("32 bytes");
        Ok(Unverified {
            state: self.0,
            evidence,
            server_key,
        })
    }
}

/// After message 2. Holds the evidence and cannot send.
pub struct Unverified {
    state: HandshakeState,
    evidence: Vec<u8>,
    server_key: [u8; 32],
}

impl Unverified {
    /// The unchanged payload of message 2.
    pub fn evidence(&self) -> &[u8] {
        &self.evidence
    }

    /// The server's Noise static key. The evidence must be bound to it.
    pub fn server_key(&self) -> &[u8; 32] {
        &self.server_key
    }

    /// Completes the handshake: returns message 3 and the channel. `verified` proves that the
    /// evidence satisfies the policy *for this server key*. Fails if it was made for another key.
    pub fn accept(self, verified: &Verified) -> Result<(Vec<u8>, Channel), Error> {
        if verified.server_key() != &self.server_key {
            return Err(Error::OtherKey);
        }
        self.finish(&[])
    }

    fn finish(mut self, payload: &[u8]) -> Result<(Vec<u8>, Channel), Error> {
        let message = write(&mut self.state, payload)?;
        let transport = self
            .state
            .into_transport_mode()
            .map_err(|_| Error::Handshake)?;
        Ok((message, Channel::new(transport)))
    }
}

fn builder<'a>() -> Builder<'a> {
    let suite = PROTOCOL.parse().expect("the suite's name is right");
    Builder::with_resolver(suite, Box::new(AwsLc))
}

fn write(state: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>, Error> {
    let mut message = vec![0; MAX_HANDSHAKE_OUT];
    let len = state
        .write_message(payload, &mut message)
        .map_err(|_| Error::Handshake)?;
    message.truncate(len);
    Ok(message)
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Initiator")
    }
}

impl fmt::Debug for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unverified(evidence of {} bytes)", self.evidence.len())
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// Returns a channel and the responder's side of it.
    pub(crate) fn pair() -> (Channel, snow::TransportState) {
        let mut responder = builder()
            .local_private_key(&[7; 32])
            .unwrap()
            .build_responder()
            .unwrap();
        let (initiator, message) = Initiator::start().unwrap();
        responder
            .read_message(&message, &mut [0; MAX_HANDSHAKE_OUT])
            .unwrap();
        let unverified = initiator
            .read(&write(&mut responder, &[]).unwrap())
            .unwrap();
        let (message, channel) = unverified.finish(&[]).unwrap();
        let payload = responder
            .read_message(&message, &mut [0; MAX_HANDSHAKE_OUT])
            .unwrap();
        assert_eq!(payload, 0, "message 3 has no payload");
        (channel, responder.into_transport_mode().unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test vector for this suite. `messages` are pairs of payload and ciphertext.
    struct Vector {
        prologue: &'static str,
        static_key: &'static str,
        ephemeral: &'static str,
        messages: &'static [(&'static str, &'static str)],
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    /// From `cacophony.txt` and `snow.txt` in snow 0.10, `tests/vectors`.
    const VECTORS: [Vector; 2] = [
        Vector {
            prologue: "4a6f686e2047616c74",
            static_key: "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
            ephemeral: "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
            messages: &[
                (
                    "4c756477696720766f6e204d69736573",
                    "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79444c756477696720766f6e204d69736573",
                ),
                (
                    "4d757272617920526f746862617264",
                    "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843757117acceb05bd7a45733bc22015c97a9d0cbaf41b80446d5988ff5127235d76b79eade70f473d6a4ef521fdcbeda5340d01e028ba793fc059f2724a83af05f12dda0448a7621a926b379a92477fd",
                ),
                (
                    "462e20412e20486179656b",
                    "c90f1cf77eba4e50edb038991565e36c9758943a989229b6051244dc4fbecb6946744b401af2ee1a5881b65fbb87fd07cb6a328ececc9ce6ce84c399dc332d4fd521fa4bb7f467ce909395",
                ),
                (
                    "4361726c204d656e676572",
                    "bc3fa77f6aca3e8466d7dc6bea10013e88a6a29add5132b461806c",
                ),
                (
                    "4a65616e2d426170746973746520536179",
                    "250b01074cdfe0df2ecf8ccbf1737b15a2ddb5b52fd9a396604e9c793cee3b3bb9",
                ),
                (
                    "457567656e2042f6686d20766f6e2042617765726b",
                    "449d4d433b3cdc3d02bf6fc881774b9df54366ebcffb9689bb13f14709822cd7ef42bcdb4d",
                ),
            ],
        },
        Vector {
            prologue: "5468657265206973206e6f20726967687420616e642077726f6e672e2054686572652773206f6e6c792066756e20616e6420626f72696e672e",
            static_key: "67a147237ca2e511a5328abf44fc049e725d23ac193f1d5e8da60d543670cd39",
            ephemeral: "b4dbfea92d1afb2ce4a508bd5e014d21ee95ced8d12346d226985d40b2da95e7",
            messages: &[
                (
                    "09f6721fa79e976f05d523c07e4818bfad6903108a05734e3163cec30442fcf5",
                    "c8a324f41408be37f760130b5a8f2c4e9c92bab229e9b78007aa43b7c7656b3409f6721fa79e976f05d523c07e4818bfad6903108a05734e3163cec30442fcf5",
                ),
                (
                    "af62581a26fc31c4b722c1f04d73d845eb6daf35bcd64fc805a46a74bd747d90",
                    "4e935a4c1dccaf91b78062590be1e790f984eeff2ab9a219e491387a99dbfe53b9ea4a0a1b78a30056a0615ef4cfcc5d5bcfa087abd07df701c08b2410ab385c490a43cd853a15a1d1e8162c25b78d362ff84afd1f02e0d0e8d25ada33fe5f8e8856cc49e9a896c1c10616508f52387ca29d35a037c7d1c968a45d07daf01667",
                ),
                (
                    "bae081c11b0a050d08a48d4a2dd387bd927e18d12c1f2758ae712ec4e3948dc8",
                    "72eb5f83ef7773b38886a657b2216368f76f51e90855aaec0c9cd65c7750c531b3ef8a9261065b9b73009e698c3e0e1e7153c64e842d877db5f0953c2a43f12bdee99b360ebc11ee64a2989bf8f486a45267753caf35ad5900224e9b04c4b5b2",
                ),
                (
                    "062b027afab93baa74c7cdc1ac71b3486636bed142caec9f70f4dd672dbe120d",
                    "9953df9aa4294b12364dd6896de6e705564a5583c67ed86f0b985054d63f4381bdb99faa8633893643d6ee3ba987344f",
                ),
                (
                    "3000ff396f68e4d00ac10c97a4c14e5901e3245dc29f9a801427babd59bfc2a3",
                    "d9ea28203c96f5ac9024541d8f05e5e9bbfedccf701d2a2130ddeada49446a546d03c3ed440558782120b95e537a229e",
                ),
            ],
        },
    ];

    fn initiator(vector: &Vector, payload: &[u8]) -> (Initiator, Vec<u8>) {
        let (prologue, key, ephemeral) = (
            hex(vector.prologue),
            hex(vector.static_key),
            hex(vector.ephemeral),
        );
        let builder = builder()
            .prologue(&prologue)
            .unwrap()
            .local_private_key(&key)
            .unwrap();
        Initiator::with(
            builder.fixed_ephemeral_key_for_testing_only(&ephemeral),
            payload,
        )
        .unwrap()
    }

    #[test]
    fn handshake_matches_the_published_vectors() {
        for vector in &VECTORS {
            let mut messages = vector
                .messages
                .iter()
                .map(|(payload, message)| (hex(payload), hex(message)));
            let (payload, expected) = messages.next().unwrap();
            let (state, message) = initiator(vector, &payload);
            assert_eq!(message, expected);

            let (payload, message) = messages.next().unwrap();
            let state = state.read(&message).unwrap();
            assert_eq!(state.evidence(), payload);

            let (payload, expected) = messages.next().unwrap();
            let (message, mut channel) = state.finish(&payload).unwrap();
            assert_eq!(message, expected);

            // After the handshake they take turns; the responder sends first.
            for (turn, (payload, message)) in messages.enumerate() {
                if turn % 2 == 0 {
                    assert_eq!(channel.decrypt(&message).unwrap(), payload);
                } else {
                    assert_eq!(channel.encrypt(&payload).unwrap(), message);
                }
            }
        }
    }

    #[test]
    fn truncated_or_altered_message_2_is_refused() {
        let message = hex(VECTORS[0].messages[1].1);
        for cut in 0..message.len() {
            assert_eq!(
                start().read(&message[..cut]).unwrap_err(),
                Error::Handshake,
                "cut at {cut}"
            );
        }
        for at in 0..message.len() {
            let mut altered = message.clone();
            altered[at] ^= 1;
            assert_eq!(
                start().read(&altered).unwrap_err(),
                Error::Handshake,
                "byte {at}"
            );
        }
        assert!(start().read(&message).is_ok());
        fn start() -> Initiator {
            initiator(&VECTORS[0], &hex(VECTORS[0].messages[0].0)).0
        }
    }

    #[test]
    fn ephemeral_key_of_low_order_is_refused() {
        let mut message = hex(VECTORS[0].messages[1].1);
        message[..32].fill(0);
        let (state, _) = initiator(&VECTORS[0], &hex(VECTORS[0].messages[0].0));
        assert_eq!(state.read(&message).unwrap_err(), Error::Handshake);
    }

    #[test]
    fn replayed_truncated_or_altered_message_is_refused() {
        let vector = &VECTORS[0];
        let channel = || {
            let (state, _) = initiator(vector, &hex(vector.messages[0].0));
            let state = state.read(&hex(vector.messages[1].1)).unwrap();
            state.finish(&hex(vector.messages[2].0)).unwrap().1
        };
        let message = hex(vector.messages[3].1);
        for len in 0..message.len() {
            assert_eq!(channel().decrypt(&message[..len]), Err(Error::Decrypt));
        }
        for at in 0..message.len() {
            let mut altered = message.clone();
            altered[at] ^= 0x80;
            assert_eq!(channel().decrypt(&altered), Err(Error::Decrypt));
        }
        let mut channel = channel();
        channel.decrypt(&message).unwrap();
        assert_eq!(channel.decrypt(&message), Err(Error::Decrypt));
    }

    #[test]
    fn each_connection_has_new_keys() {
        let (_, one) = Initiator::start().unwrap();
        let (_, two) = Initiator::start().unwrap();
        assert_eq!(
            (one.len(), two.len()),
            (32, 32),
            "message 1 is an ephemeral key and an empty payload"
        );
        assert_ne!(one, two);
        let client_key = || {
            let transport = testing::pair().1;
            transport.get_remote_static().expect("XX sends it").to_vec()
        };
        assert_ne!(client_key(), client_key(), "each has a new static key");
    }
}
