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
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Endpoint;
use crate::error::{Error, Result, Status};

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

/// A connected byte stream, which counts what it moves.
pub struct Stream {
    kind: Kind,
    moved: u64,
}

enum Kind {
    /// On loopback.
    Plain(TcpStream),
    /// Boxed: its state is ten times the size of a socket.
    Tls(Box<TlsStream<Quiet>>),
}

/// A socket that is written to by `send` alone, which asks for no SIGPIPE. rustls would write vectors, and `writev` has
/// no way to ask: a peer that resets would end the application's process, whose signals are not the library's to ignore.
struct Quiet(TcpStream);

impl AsyncRead for Quiet {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

/// The default of `is_write_vectored` is no.
impl AsyncWrite for Quiet {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Stream {
    /// Bytes read and written so far: what tells a slow peer from a dead one.
    pub fn bytes_moved(&self) -> u64 {
        self.moved
    }
}

impl From<Kind> for Stream {
    fn from(kind: Kind) -> Stream {
        Stream { kind, moved: 0 }
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
        match TcpStream::connect(address).await {
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

/// TLS if the endpoint asks for it, with the name or address of its URL.
pub async fn secure(endpoint: &Endpoint, stream: TcpStream) -> Result<Stream> {
    if !endpoint.secure() {
        return Ok(Kind::Plain(stream).into());
    }
    let failed = |why: String| Error::new(Status::Tls, format!("{}: {why}", endpoint.host()));
    let name =
        ServerName::try_from(endpoint.host().to_owned()).map_err(|e| failed(e.to_string()))?;
    let stream = TlsConnector::from(TLS.clone())
        .connect(name, Quiet(stream))
        .await
        .map_err(|e| failed(e.to_string()))?;
    Ok(Kind::Tls(Box::new(stream)).into())
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = match &mut self.kind {
            Kind::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Kind::Tls(s) => Pin::new(s).poll_read(cx, buf),
        };
        self.moved += (buf.filled().len() - before) as u64;
        result
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = match &mut self.kind {
            Kind::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Kind::Tls(s) => Pin::new(s).poll_write(cx, buf),
        };
        if let Poll::Ready(Ok(len)) = &result {
            self.moved += *len as u64;
        }
        result
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Plain(s) => Pin::new(s).poll_flush(cx),
            Kind::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Kind::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
