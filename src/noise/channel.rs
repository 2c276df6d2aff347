//! Encrypts and decrypts after the handshake: AES-256-GCM, one counter for each direction, no rekey
//! (protocol section 2).

use std::fmt;

use bytes::Bytes;
use snow::TransportState;

use super::Error;

/// The longest Noise message (Noise specification, section 3).
pub const MAX_NOISE_MESSAGE: usize = 65_535;
/// The tag that AES-GCM adds to each message.
pub const TAG_LEN: usize = 16;

/// An encrypted channel to a verified enclave. Only this type can encrypt a request.
pub struct Channel(TransportState);

impl Channel {
    pub(super) fn new(state: TransportState) -> Channel {
        Channel(state)
    }

    /// Encrypts one frame of at most [`MAX_NOISE_MESSAGE`] − [`TAG_LEN`] bytes.
    pub fn encrypt(&mut self, plaintext: &[u8]) -> Result<Bytes, Error> {
        let mut message = vec![0; plaintext.len() + TAG_LEN];
        self.0
            .write_message(plaintext, &mut message)
            .map_err(|_| Error::Exhausted)?;
        Ok(message.into())
    }

    /// Decrypts the next message into a new allocation, of which all higher modules take views.
    pub fn decrypt(&mut self, message: &[u8]) -> Result<Bytes, Error> {
        let mut plaintext = vec![0; message.len().saturating_sub(TAG_LEN)];
        self.0
            .read_message(message, &mut plaintext)
            .map_err(|_| Error::Decrypt)?;
        Ok(plaintext.into())
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channel")
    }
}
