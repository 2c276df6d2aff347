//! From frames to messages in memory: decrypts, joins and decodes messages that an enclave sent.
//! The comparison is AES-256-GCM over equally many messages of the same lengths.

use std::hint::black_box;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use confer::noise::TAG_LEN;
use confer::wire::{Reassembler, Response};

use crate::bare;
use crate::connect::{self, Established, Trust};
use crate::harness::Enclave;
use crate::measure::{median, timed};
use crate::table::{Aim, Table};

const ROUNDS: usize = 21;

/// (name, bytes of a token, messages in a round, required part of the limit). A token's JSON adds
/// 29 bytes. The long tokens fill a frame.
const SIZES: [(&str, usize, usize, f64); 2] =
    [("64 KiB", 65_400, 64, 0.6), ("50 bytes", 21, 5_000, 0.0)];

pub fn run(enclave: &Enclave, table: &mut Table) {
    let runtime = bare::runtime();
    let trust = Trust::load(enclave, &runtime);
    for (what, size, count, least) in SIZES {
        let Established {
            mut socket,
            mut channel,
            ..
        } = connect::establish(enclave, &runtime, &trust.verifier(), &trust.keys);
        // Records all messages first, because each can be decrypted only once and in order.
        let total = count * ROUNDS;
        let request = channel
            .encrypt(&bare::chat(1, &format!("/tokens {total} {size}")))
            .unwrap();
        let recorded: Vec<Bytes> = runtime.block_on(async {
            connect::send(&mut socket, request).await;
            let mut recorded = Vec::with_capacity(total);
            for _ in 0..total {
                recorded.push(Bytes::copy_from_slice(&bare::binary(&mut socket).await));
            }
            recorded
        });

        let mut cipher = Cipher::new();
        let mut reassembler = Reassembler::default();
        let (mut library, mut limit) = (Vec::new(), Vec::new());
        for messages in recorded.chunks(count) {
            let bytes: usize = messages.iter().map(Bytes::len).sum();
            let mut body = 0;
            library.push(
                timed(|| {
                    for message in messages {
                        let frame = channel.decrypt(message).unwrap();
                        let message = reassembler
                            .push(frame)
                            .unwrap()
                            .expect("one frame is one message here");
                        body += black_box(Response::decode(message).unwrap()).body.len();
                    }
                }) / bytes as f64,
            );
            assert!(body > count * size);

            let mut sealed = cipher.seal(messages);
            limit.push(timed(|| cipher.open(&mut sealed)) / bytes as f64);
        }
        let (library, limit) = (1.0 / median(&library), 1.0 / median(&limit)); // bytes a microsecond: MB/s
        let (label, show) = (format!("frames in, messages out, {what}"), |rate: f64| {
            format!("{rate:.0} MB/s")
        });
        if least > 0.0 {
            table.row(
                &label,
                show(library),
                show(limit),
                library / limit,
                "%",
                Aim::AtLeast(least),
            );
        } else {
            let part = format!(
                "{} ({:.0} % of the limit)",
                show(library),
                library / limit * 100.0
            );
            table.note(label.trim_start(), part, show(limit));
        }
    }
}

/// AES-256-GCM as a stream uses it: one key and a counter.
struct Cipher {
    key: LessSafeKey,
    sealed: u64,
    opened: u64,
}

impl Cipher {
    fn new() -> Cipher {
        let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).unwrap();
        Cipher {
            key: LessSafeKey::new(key),
            sealed: 0,
            opened: 0,
        }
    }

    /// Encrypts as many messages of the same lengths, in new memory.
    fn seal(&mut self, like: &[Bytes]) -> Vec<Vec<u8>> {
        like.iter()
            .map(|message| {
                let mut message = message[..message.len() - TAG_LEN].to_vec();
                self.key
                    .seal_in_place_append_tag(nonce(self.sealed), Aad::empty(), &mut message)
                    .unwrap();
                self.sealed += 1;
                message
            })
            .collect()
    }

    fn open(&mut self, messages: &mut [Vec<u8>]) {
        for message in messages {
            black_box(
                self.key
                    .open_in_place(nonce(self.opened), Aad::empty(), message)
                    .unwrap(),
            );
            self.opened += 1;
        }
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}
