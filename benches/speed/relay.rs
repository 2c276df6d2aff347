//! A relay between client and enclave. It can hold an answer back until it is complete, so that it
//! does not wait for the server, or record when it forwards each message.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

/// Handling of the bytes from the enclave.
enum Mode {
    Pass,
    /// Keep them until there are this many messages, then send them as fast as possible.
    Hold(usize),
    /// Record when each message is forwarded.
    Stamp(Vec<Instant>),
}

struct Shared {
    mode: Mutex<Mode>,
    released: Mutex<Option<Instant>>,
    changed: Condvar,
}

pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Relay {
    /// Listens for clients of the enclave at `url`.
    pub fn start(url: &str) -> Relay {
        let enclave: SocketAddr = authority(url)
            .parse()
            .expect("the enclave's URL has an address");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            mode: Mutex::new(Mode::Pass),
            released: Mutex::default(),
            changed: Condvar::new(),
        });
        let relay = Relay {
            address,
            shared: shared.clone(),
        };
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, enclave) = (client.unwrap(), TcpStream::connect(enclave).unwrap());
                client.set_nodelay(true).unwrap();
                enclave.set_nodelay(true).unwrap();
                let (from_client, to_enclave) =
                    (client.try_clone().unwrap(), enclave.try_clone().unwrap());
                thread::spawn(move || copy(from_client, to_enclave));
                let shared = shared.clone();
                thread::spawn(move || down(enclave, client, &shared));
            }
        });
        relay
    }

    /// Replaces the address in `url` by this relay's.
    pub fn url(&self, url: &str) -> String {
        url.replace(authority(url), &self.address.to_string())
    }

    /// Holds the next answer back until it has this many messages.
    pub fn hold(&self, messages: usize) {
        *self.shared.released.lock().unwrap() = None;
        *self.shared.mode.lock().unwrap() = Mode::Hold(messages);
    }

    /// Waits until the relay sends the answer that it held back. Returns that instant.
    pub fn released(&self) -> Instant {
        let released = self.shared.released.lock().unwrap();
        let released = self
            .shared
            .changed
            .wait_while(released, |released| released.is_none())
            .unwrap();
        released.expect("it was waited for")
    }

    /// Starts to record when each message is forwarded.
    pub fn stamp(&self) {
        *self.shared.mode.lock().unwrap() = Mode::Stamp(Vec::new());
    }

    /// Returns the instants recorded since [`Relay::stamp`].
    pub fn stamps(&self) -> Vec<Instant> {
        match std::mem::replace(&mut *self.shared.mode.lock().unwrap(), Mode::Pass) {
            Mode::Stamp(stamps) => stamps,
            _ => Vec::new(),
        }
    }
}

fn authority(url: &str) -> &str {
    url.trim_start_matches("ws://")
        .split('/')
        .next()
        .expect("a split has a first part")
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn down(mut enclave: TcpStream, mut client: TcpStream, shared: &Shared) {
    let (mut buffer, mut held, mut counter, mut count) =
        (vec![0; 256 << 10], Vec::new(), Counter::default(), 0);
    while let Ok(len @ 1..) = enclave.read(&mut buffer) {
        let messages = counter.count(&buffer[..len]);
        let mut mode = shared.mode.lock().unwrap();
        match &mut *mode {
            Mode::Pass => {}
            Mode::Stamp(stamps) => stamps.extend(std::iter::repeat_n(Instant::now(), messages)),
            Mode::Hold(wanted) => {
                count += messages;
                held.extend_from_slice(&buffer[..len]);
                if count < *wanted {
                    continue;
                }
                assert_eq!(
                    count, *wanted,
                    "the answer has as many messages as were asked for"
                );
                *mode = Mode::Pass;
                drop(mode);
                *shared.released.lock().unwrap() = Some(Instant::now());
                shared.changed.notify_all();
                count = 0;
                if client.write_all(&held).is_err() {
                    break;
                }
                held.clear();
                continue;
            }
        }
        drop(mode);
        if client.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

/// Counts a server's WebSocket frames (RFC 6455, section 5.2), which are unmasked. Skips the head
/// of the upgrade.
#[derive(Default)]
struct Counter {
    upgraded: bool,
    /// The received part of the head of the upgrade or of a frame.
    head: Vec<u8>,
    /// Missing bytes of the frame's payload.
    left: u64,
}

impl Counter {
    /// Counts the frames that end in `bytes`.
    fn count(&mut self, mut bytes: &[u8]) -> usize {
        let mut frames = 0;
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len() as u64);
                bytes = &bytes[skipped as usize..];
                self.left -= skipped;
                frames += usize::from(self.left == 0);
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            if !self.upgraded {
                self.upgraded = self.head.ends_with(b"\r\n\r\n");
                if self.upgraded {
                    self.head.clear();
                }
            } else if let Some(len) = frame_len(&self.head) {
                self.head.clear();
                self.left = len;
                frames += usize::from(len == 0);
            }
        }
        frames
    }
}

/// Returns the payload's length if the head is complete.
fn frame_len(head: &[u8]) -> Option<u64> {
    let [_, short, long @ ..] = head else {
        return None;
    };
    match (short & 0x7f, long) {
        (126, [a, b]) => Some(u16::from_be_bytes([*a, *b]).into()),
        (126, _) => None,
        (127, long) => Some(u64::from_be_bytes(long.try_into().ok()?)),
        (len, _) => Some(len.into()),
    }
}
