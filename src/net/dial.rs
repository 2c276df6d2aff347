//! A byte stream to an endpoint: addresses, TCP, and TLS where the scheme asks for it.
//!
//! Each step is a function of its own, so that the session can give each a time limit and name it in an error.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use once_cell::sync::Lazy;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Endpoint;
use crate::error::{Error, Result, Status};

/// What the kernel may hold of what was written, which Linux doubles. "No byte moved" tells a dead peer from a slow line,
/// and what lies here counts as moved: at 256 KiB a line of 13 KB/s is not yet taken for dead in 20 s.
const SEND_BUFFER: u32 = 128 << 10;

/// Addresses of one name that are tried, so that a hostile name server cannot make connecting endless.
const MAX_ADDRESSES: usize = 16;

/// One TLS configuration for the process: Mozilla's roots, which are compiled in so that no file is needed at run time,
/// and aws-lc-rs under everything. Sessions are resumed from its memory.
static TLS: Lazy<Arc<ClientConfig>> = Lazy::new(|| {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
});

/// A connected byte stream.
pub enum Stream {
    /// On loopback.
    Plain(Counted),
    /// Boxed: its state is ten times the size of a socket.
    Tls(Box<TlsStream<Counted>>),
}

impl Stream {
    /// Bytes that the socket took and gave so far: what tells a slow peer from a dead one. Beneath TLS, whose own buffer
    /// takes bytes without any moving.
    pub fn bytes_moved(&self) -> u64 {
        match self {
            Stream::Plain(socket) => socket.moved,
            Stream::Tls(stream) => stream.get_ref().0.moved,
        }
    }
}

/// A socket, which counts what it moves. It is written to by `send` alone, which asks for no SIGPIPE: rustls would write
/// vectors, and `writev` has no way to ask. A peer that resets would end the application's process, whose signals are not
/// the library's to ignore.
pub struct Counted {
    socket: TcpStream,
    moved: u64,
}

impl From<TcpStream> for Counted {
    fn from(socket: TcpStream) -> Counted {
        Counted { socket, moved: 0 }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.socket).poll_read(cx, buf);
        self.moved += (buf.filled().len() - before) as u64;
        result
    }
}

/// The default of `is_write_vectored` is no.
impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write(cx, buf);
        if let Poll::Ready(Ok(len)) = &result {
            self.moved += *len as u64;
        }
        result
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// The endpoint's addresses, in the resolver's order.
pub async fn resolve(endpoint: &Endpoint) -> Result<Vec<SocketAddr>> {
    let failed = |why: String| Error::new(Status::Resolve, format!("{}: {why}", endpoint.host()));
    let addresses: Vec<_> = tokio::net::lookup_host((endpoint.host(), endpoint.port()))
        .await
        .map_err(|e| failed(e.to_string()))?
        .take(MAX_ADDRESSES)
        .collect();
    if addresses.is_empty() {
        return Err(failed("no address".into()));
    }
    addresses
        .iter()
        .try_for_each(|address| endpoint.check_address(address))?;
    Ok(addresses)
}

/// The first address that accepts a TCP connection.
pub async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream> {
    let mut last = Error::new(Status::Connect, "no address to connect to");
    for address in addresses {
        match connect_to(*address).await {
            Ok(stream) => {
                // A frame is a whole message: waiting for more bytes would only add latency.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(e) => {
                // Reset right behind its acceptance, a connection was there and is lost.
                let status = match e.kind() {
                    io::ErrorKind::ConnectionReset => Status::ConnectionLost,
                    _ => Status::Connect,
                };
                last = Error::new(status, format!("{address}: {e}"));
            }
        }
    }
    Err(last)
}

async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.connect(address).await
}

/// TLS if the endpoint asks for it, with the name or address of its URL.
pub async fn secure(endpoint: &Endpoint, stream: TcpStream) -> Result<Stream> {
    if !endpoint.secure() {
        return Ok(Stream::Plain(stream.into()));
    }
    let failed = |why: String| Error::new(Status::Tls, format!("{}: {why}", endpoint.host()));
    let name =
        ServerName::try_from(endpoint.host().to_owned()).map_err(|e| failed(e.to_string()))?;
    let stream = TlsConnector::from(TLS.clone())
        .connect(name, Counted::from(stream))
        .await
        .map_err(|e| failed(e.to_string()))?;
    Ok(Stream::Tls(Box::new(stream)))
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_flush(cx),
            Stream::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;

    use super::*;

    /// The certificate names the right host, and nobody that Mozilla lists vouches for it.
    #[test]
    fn a_certificate_that_no_listed_authority_signed_is_refused_before_a_byte_is_sent() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = own.signing_key.serialize_der().try_into().unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let serve = async {
                let (socket, _) = listener.accept().await.unwrap();
                match TlsAcceptor::from(Arc::new(server)).accept(socket).await {
                    Err(_) => Vec::new(),
                    Ok(mut stream) => {
                        let mut received = Vec::new();
                        let _ = stream.read_to_end(&mut received).await;
                        received
                    }
                }
            };
            let dial = async {
                let endpoint = Endpoint::websocket(&format!("wss://localhost:{port}/websocket"));
                let stream = connect(&[([127, 0, 0, 1], port).into()]).await.unwrap();
                secure(&endpoint.unwrap(), stream).await.err().unwrap()
            };
            let (received, error) = tokio::join!(serve, dial);
            assert_eq!(error.status(), Status::Tls);
            assert!(error.message().contains("certificate"), "{error}");
            assert_eq!(received, b"");
        });
    }

    #[test]
    fn no_socket_is_written_to_in_vectors() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let socket = connect_to(listener.local_addr().unwrap()).await.unwrap();
            assert!(socket.is_write_vectored(), "what `Counted` is there for");
            assert!(!Counted::from(socket).is_write_vectored());
        });
    }
}
