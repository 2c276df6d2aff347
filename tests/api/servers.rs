//! Proxies and TLS servers between the library and the local enclave. All record what they receive.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::{HandshakeKind, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// Names that no resolver knows (RFC 6761, section 6.2). A proxy of these tests resolves them to
/// this machine.
pub const ENCLAVE_NAME: &str = "enclave.test";
pub const KEYS_NAME: &str = "keys.test";

/// The self-signed certificate of all fronts.
pub struct Identity {
    pub pem: String,
    config: Arc<ServerConfig>,
}

impl Identity {
    pub fn new() -> Identity {
        let names = [ENCLAVE_NAME, KEYS_NAME, "localhost", "127.0.0.1", "::1"];
        let own = rcgen::generate_simple_self_signed(names.map(str::to_owned)).unwrap();
        let key = own.signing_key.serialize_der().try_into().unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        Identity {
            pem: own.cert.pem(),
            config: Arc::new(config),
        }
    }
}

/// Ends TLS and forwards the content to a local port.
pub struct Front {
    pub port: u16,
    handshakes: Arc<Mutex<Vec<HandshakeKind>>>,
    _runtime: tokio::runtime::Runtime, // ends with this value
}

impl Front {
    pub fn start(identity: &Identity, upstream: u16) -> Front {
        Front::on((Ipv4Addr::LOCALHOST, 0).into(), identity, upstream).unwrap()
    }

    pub fn on(address: SocketAddr, identity: &Identity, upstream: u16) -> io::Result<Front> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address))?;
        let port = listener.local_addr()?.port();
        let handshakes: Arc<Mutex<Vec<HandshakeKind>>> = Arc::default();
        let (acceptor, kept) = (
            TlsAcceptor::from(identity.config.clone()),
            Arc::clone(&handshakes),
        );
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, kept) = (acceptor.clone(), kept.clone());
                tokio::spawn(async move {
                    let mut tls = acceptor.accept(socket).await?;
                    let kind = tls.get_ref().1.handshake_kind();
                    kept.lock().unwrap().extend(kind);
                    let upstream = (Ipv4Addr::LOCALHOST, upstream);
                    let mut upstream = tokio::net::TcpStream::connect(upstream).await?;
                    tokio::io::copy_bidirectional(&mut tls, &mut upstream).await
                });
            }
        });
        Ok(Front {
            port,
            handshakes,
            _runtime: runtime,
        })
    }

    /// Returns the kinds of the handshakes, in order.
    pub fn handshakes(&self) -> Vec<HandshakeKind> {
        self.handshakes.lock().unwrap().clone()
    }
}

/// The behaviour of a proxy.
#[derive(Clone, Copy)]
pub enum Manner {
    /// HTTP CONNECT, only with these credentials in base64, if any.
    Connect(Option<&'static str>),
    /// SOCKS5, only with this user name and password, if any.
    Socks5(Option<(&'static str, &'static str)>),
    /// Sends each of these answers after a read, and closes.
    Answers(&'static [&'static [u8]]),
    /// After a read, sends the first and then repeats the second.
    Endless(&'static [u8], &'static [u8]),
    /// Sends nothing.
    Silent,
}

/// A proxy on a loopback port. It resolves every name to this machine.
pub struct Proxy {
    pub port: u16,
    seen: Arc<Mutex<Seen>>,
    manner: Arc<Mutex<Manner>>,
    ended: Arc<AtomicBool>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    /// Everything that clients sent, including in tunnels.
    bytes: Vec<u8>,
    /// The targets of tunnels.
    targets: Vec<String>,
}

impl Proxy {
    pub fn start(manner: Manner) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Proxy {
            port: listener.local_addr().unwrap().port(),
            seen: Arc::default(),
            manner: Arc::new(Mutex::new(manner)),
            ended: Arc::default(),
        };
        let (seen, ended) = (proxy.seen.clone(), proxy.ended.clone());
        let manner = proxy.manner.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let client = Client {
                    socket: client.unwrap(),
                    seen: seen.clone(),
                };
                seen.lock().unwrap().connections += 1;
                let manner = *manner.lock().unwrap();
                thread::spawn(move || client.serve(manner));
            }
        });
        proxy
    }

    /// Changes the behaviour for new clients.
    pub fn change(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// Returns the requested targets of tunnels, in order.
    pub fn targets(&self) -> Vec<String> {
        self.seen.lock().unwrap().targets.clone()
    }

    /// Returns whether any client sent these bytes.
    pub fn saw(&self, bytes: impl AsRef<[u8]>) -> bool {
        self.count(bytes) > 0
    }

    /// Returns how often clients sent these bytes.
    pub fn count(&self, bytes: impl AsRef<[u8]>) -> usize {
        let (seen, bytes) = (self.seen.lock().unwrap(), bytes.as_ref());
        let windows = seen.bytes.windows(bytes.len());
        windows.filter(|window| *window == bytes).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)); // wakes the acceptor
    }
}

struct Client {
    socket: TcpStream,
    seen: Arc<Mutex<Seen>>,
}

/// Records everything that a client sends.
impl Read for Client {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.socket.read(buf)?;
        self.seen.lock().unwrap().bytes.extend(&buf[..len]);
        Ok(len)
    }
}

impl Client {
    fn serve(mut self, manner: Manner) -> io::Result<()> {
        match manner {
            Manner::Connect(credentials) => self.connect(credentials),
            Manner::Socks5(credentials) => self.socks5(credentials),
            Manner::Answers(answers) => {
                for answer in answers {
                    let _ = self.read(&mut [0; 4_096])?;
                    self.socket.write_all(answer)?;
                }
                // Closing with unread bytes would reset the connection.
                self.socket.shutdown(Shutdown::Write)?;
                io::copy(&mut self, &mut io::sink()).map(drop)
            }
            Manner::Endless(first, again) => {
                let _ = self.read(&mut [0; 4_096])?;
                self.socket.write_all(first)?;
                loop {
                    self.socket.write_all(again)?;
                }
            }
            Manner::Silent => io::copy(&mut self, &mut io::sink()).map(drop),
        }
    }

    fn connect(mut self, credentials: Option<&str>) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.read_exact(&mut byte)?;
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let target = lines.next().and_then(|line| line.strip_prefix("CONNECT "));
        let target = target.and_then(|line| line.strip_suffix(" HTTP/1.1"));
        let target = target.expect("a CONNECT request").to_owned();
        let header = |name: &str| {
            let value = head.lines().find_map(|line| {
                let (found, value) = line.split_once(": ")?;
                found.eq_ignore_ascii_case(name).then_some(value)
            });
            value.map(str::to_owned)
        };
        assert_eq!(header("host").as_ref(), Some(&target));
        let given = header("proxy-authorization");
        if credentials.is_some() && given != credentials.map(|c| format!("Basic {c}")) {
            let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\n\
                Proxy-Authenticate: Basic realm=\"test\"\r\nContent-Length: 0\r\n\r\n";
            return self.socket.write_all(refusal.as_bytes());
        }
        let (_, port) = target.rsplit_once(':').unwrap();
        let upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, port.parse().unwrap()))?;
        let answer = "HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n";
        self.socket.write_all(answer.as_bytes())?;
        self.relay(target, upstream)
    }

    fn socks5(mut self, credentials: Option<(&str, &str)>) -> io::Result<()> {
        let [version, count] = self.array()?;
        assert_eq!(version, 5);
        let methods = self.several(count.into())?;
        match credentials {
            None => self.socket.write_all(&[5, 0])?,
            Some(_) if !methods.contains(&2) => return self.socket.write_all(&[5, 0xff]),
            Some((user, password)) => {
                self.socket.write_all(&[5, 2])?;
                let [version, len] = self.array()?;
                assert_eq!(version, 1);
                let given_user = self.several(len.into())?;
                let [len] = self.array()?;
                let given_password = self.several(len.into())?;
                let right = given_user == user.as_bytes() && given_password == password.as_bytes();
                self.socket.write_all(&[1, u8::from(!right)])?;
                if !right {
                    return Ok(());
                }
            }
        }
        let [version, command, _, kind] = self.array()?;
        assert_eq!((version, command), (5, 1));
        let host = match kind {
            1 => Ipv4Addr::from(self.array::<4>()?).to_string(),
            3 => {
                let [len] = self.array()?;
                String::from_utf8(self.several(len.into())?).unwrap()
            }
            4 => format!("[{}]", std::net::Ipv6Addr::from(self.array::<16>()?)),
            _ => panic!("an address of type {kind}"),
        };
        let port = u16::from_be_bytes(self.array()?);
        let upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        // The proxy's outgoing address as a name, the longest form.
        let mut answer = vec![5, 0, 0, 3, 255];
        answer.extend([b'x'; 255]);
        answer.extend([0, 0]);
        self.socket.write_all(&answer)?;
        self.relay(format!("{host}:{port}"), upstream)
    }

    fn array<const LEN: usize>(&mut self) -> io::Result<[u8; LEN]> {
        let mut bytes = [0; LEN];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn several(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn relay(mut self, target: String, mut upstream: TcpStream) -> io::Result<()> {
        self.seen.lock().unwrap().targets.push(target);
        let (mut back, mut client) = (upstream.try_clone()?, self.socket.try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut back, &mut client);
            let _ = client.shutdown(Shutdown::Write);
        });
        let copied = io::copy(&mut self, &mut upstream);
        let _ = upstream.shutdown(Shutdown::Write);
        copied.map(drop)
    }
}
