//! A byte stream to an endpoint: a socket that counts its bytes, with TLS if the scheme asks for
//! it.
//!
//! Each step is a separate function (see `tcp` and `tunnel` too), so that the session can set a
//! time limit for it and name it in an error.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Endpoint, Route};
use crate::clock::{in_words, question};
use crate::error::{Error, Result, Status};

/// A connected byte stream.
pub enum Stream {
    /// Without TLS, only on loopback.
    Plain(Counted),
    /// Boxed: its state is ten times the size of a socket.
    Tls(Box<TlsStream<Counted>>),
}

impl Stream {
    /// Returns the bytes that the socket sent and received, to distinguish a slow peer from a dead
    /// one. Counts below TLS, whose buffer accepts bytes without sending them.
    pub fn moved(&self) -> Moved {
        match self {
            Stream::Plain(socket) => socket.moved,
            Stream::Tls(stream) => stream.get_ref().0.moved,
        }
    }
}

/// Bytes that a socket has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes that the kernel accepted.
    pub sent: u64,
    /// Bytes read from the kernel.
    pub received: u64,
}

/// A socket that counts its bytes. Writes only with `send`, which can suppress SIGPIPE. rustls
/// would write vectors, and `writev` cannot suppress it: a peer's reset would end the process.
pub struct Counted {
    socket: TcpStream,
    moved: Moved,
}

impl From<TcpStream> for Counted {
    fn from(socket: TcpStream) -> Counted {
        Counted {
            socket,
            moved: Moved::default(),
        }
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
        self.moved.received += (buf.filled().len() - before) as u64;
        result
    }
}

/// Keeps the default of `is_write_vectored`, which is false.
impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write(cx, buf);
        if let Poll::Ready(Ok(len)) = &result {
            self.moved.sent += *len as u64;
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

/// Starts TLS if the endpoint asks for it, for the name or address in its URL. TLS ends at the
/// endpoint, behind any proxy.
pub async fn secure(endpoint: &Endpoint, route: &Route, socket: Counted) -> Result<Stream> {
    if !endpoint.secure() {
        return Ok(Stream::Plain(socket));
    }
    let failed = |why: String| Error::new(Status::Tls, format!("{}: {why}", endpoint.host()));
    let name =
        ServerName::try_from(endpoint.host().to_owned()).map_err(|e| failed(e.to_string()))?;
    let stream = TlsConnector::from(route.tls().clone())
        .connect(name, socket)
        .await
        .map_err(|e| failed(reason(&e)).with_retryable(!refuses_certificate(&e)))?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// Explains why TLS failed. For a certificate's dates, asks whether the clock is right.
fn reason(error: &io::Error) -> String {
    use rustls::CertificateError::{ExpiredContext, NotValidYetContext, UnknownIssuer};
    let (what, bound, time) = match error.get_ref().and_then(|e| e.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(ExpiredContext { time, not_after })) => {
            ("expired at", not_after, time)
        }
        Some(rustls::Error::InvalidCertificate(NotValidYetContext { time, not_before })) => {
            ("is not valid before", not_before, time)
        }
        Some(rustls::Error::InvalidCertificate(UnknownIssuer)) => {
            return "none of the roots in use vouches for the server's certificate".to_owned();
        }
        _ if error.kind() == io::ErrorKind::UnexpectedEof => {
            return "the server closed the connection during the TLS handshake".to_owned();
        }
        _ => return error.to_string(),
    };
    format!(
        "the server's certificate {what} {}. {}",
        in_words(bound.as_secs()),
        question(time.as_secs())
    )
}

/// Replaces rustls' message about a missing end of TLS, which links to its documentation.
fn cut(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the server closed the connection without ending TLS",
        ),
        _ => error,
    }
}

/// Returns whether the certificate is to blame. Its dates are not, because the device's clock may
/// be wrong.
fn refuses_certificate(error: &io::Error) -> bool {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    match error.get_ref().and_then(|e| e.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(why)) => !matches!(
            why,
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }
        ),
        Some(rustls::Error::NoCertificatesPresented) => true,
        _ => false,
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_read(cx, buf).map_err(cut),
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
    use std::future::Future;
    use std::sync::Arc;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use rustls::{HandshakeKind, ProtocolVersion, ServerConfig};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::super::connect;
    use super::*;

    /// A server with a self-signed certificate. Sends a byte, and reads everything.
    struct Server {
        listener: TcpListener,
        acceptor: TlsAcceptor,
        pem: String,
    }

    impl Server {
        async fn for_name(name: &str) -> Server {
            Server::with(name, |_| ()).await
        }

        async fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Server {
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            change(&mut params);
            let key_pair = KeyPair::generate().unwrap();
            let cert = params.self_signed(&key_pair).unwrap();
            let key = key_pair.serialize_der().try_into().unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![cert.der().clone()], key)
                .unwrap();
            Server {
                listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
                acceptor: Arc::new(config).into(),
                pem: cert.pem(),
            }
        }

        /// Returns the bytes that one client sent.
        async fn serve(&self) -> Vec<u8> {
            let (socket, _) = self.listener.accept().await.unwrap();
            let mut received = Vec::new();
            if let Ok(mut stream) = self.acceptor.accept(socket).await {
                stream.write_all(b"!").await.unwrap();
                let _ = stream.read_to_end(&mut received).await;
            }
            received
        }

        /// Returns the result of `serve`, and whether the client's handshake was full or resumed.
        async fn meet(&self, route: &Route) -> (Vec<u8>, Result<HandshakeKind>) {
            let address = self.listener.local_addr().unwrap();
            let endpoint = format!("wss://localhost:{}/websocket", address.port());
            let endpoint = Endpoint::websocket(&endpoint).unwrap();
            let dial = async {
                let socket = connect(&[address], None).await.unwrap();
                let mut stream = secure(&endpoint, route, socket).await?;
                // The session tickets come after the handshake and before this byte.
                assert_eq!(stream.read_u8().await.unwrap(), b'!');
                let Stream::Tls(stream) = stream else {
                    panic!("plain");
                };
                let (_, tls) = stream.get_ref();
                assert_eq!(tls.protocol_version(), Some(ProtocolVersion::TLSv1_3));
                Ok(tls.handshake_kind().unwrap())
            };
            tokio::join!(self.serve(), dial)
        }
    }

    fn trusting(pem: &str) -> Route {
        let mut route = Route::default();
        route.set_roots_pem(pem).unwrap();
        route
    }

    fn run(work: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(work);
    }

    /// The certificate has the right name, but no root in Mozilla's list signed it.
    #[test]
    fn unlisted_certificate_is_refused_before_anything_is_sent() {
        run(async {
            let (received, met) = Server::for_name("localhost")
                .await
                .meet(&Route::default())
                .await;
            let error = met.unwrap_err();
            assert_eq!(error.status(), Status::Tls);
            assert!(error.message().contains("certificate"), "{error}");
            assert!(!error.retryable());
            assert_eq!(received, b"");
        });
    }

    #[test]
    fn broken_off_tls_handshake_is_retryable() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let endpoint = format!("wss://localhost:{}/", address.port());
            let endpoint = Endpoint::websocket(&endpoint).unwrap();
            let hang_up = async { drop(listener.accept().await.unwrap()) };
            let dial = async {
                let socket = connect(&[address], None).await?;
                secure(&endpoint, &Route::default(), socket).await
            };
            let ((), stream) = tokio::join!(hang_up, dial);
            let error = stream.err().unwrap();
            assert_eq!(error.status(), Status::Tls);
            assert!(error.retryable(), "{error}");
        });
    }

    #[test]
    fn applications_root_is_valid_only_for_its_names() {
        run(async {
            let server = Server::for_name("localhost").await;
            server.meet(&trusting(&server.pem)).await.1.unwrap();
            let other = Server::for_name("other.test").await;
            let (received, met) = other.meet(&trusting(&other.pem)).await;
            assert_eq!(met.unwrap_err().status(), Status::Tls);
            assert_eq!(received, b"");
        });
    }

    #[test]
    fn certificate_outside_its_dates_asks_about_the_clock() {
        run(async {
            for (dates, message) in [
                (
                    (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 2, 3)),
                    "localhost: the server's certificate expired at 2021-02-03 00:00:00 UTC. This device's clock says 20",
                ),
                (
                    (date_time_ymd(2990, 1, 1), date_time_ymd(2991, 1, 1)),
                    "localhost: the server's certificate is not valid before 2990-01-01 00:00:00 UTC. This device's clock says 20",
                ),
            ] {
                let server = Server::with("localhost", |params| {
                    (params.not_before, params.not_after) = dates;
                });
                let server = server.await;
                let (received, met) = server.meet(&trusting(&server.pem)).await;
                let error = met.unwrap_err();
                assert_eq!(error.status(), Status::Tls);
                assert!(error.message().starts_with(message), "{error}");
                assert!(error.message().ends_with(" UTC; is it right?"), "{error}");
                assert!(error.retryable());
                assert_eq!(received, b"");
            }
        });
    }

    /// rustls would link to its documentation.
    #[test]
    fn missing_end_of_tls_is_explained() {
        run(async {
            let server = Server::for_name("localhost").await;
            let address = server.listener.local_addr().unwrap();
            let endpoint = format!("wss://localhost:{}/", address.port());
            let endpoint = Endpoint::websocket(&endpoint).unwrap();
            let cut = async {
                let (socket, _) = server.listener.accept().await.unwrap();
                let mut stream = server.acceptor.accept(socket).await.unwrap();
                stream.write_all(b"!").await.unwrap();
                stream.flush().await.unwrap();
                stream.into_inner().0.shutdown().await.unwrap(); // TCP alone
            };
            let read = async {
                let socket = connect(&[address], None).await.unwrap();
                let route = trusting(&server.pem);
                let mut stream = secure(&endpoint, &route, socket).await.unwrap();
                stream.read_to_end(&mut Vec::new()).await.unwrap_err()
            };
            let error = tokio::join!(cut, read).1;
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(
                error.to_string(),
                "the server closed the connection without ending TLS"
            );
        });
    }

    #[test]
    fn disconnect_in_the_tls_handshake_is_explained() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let endpoint = format!("wss://localhost:{}/", address.port());
            let endpoint = Endpoint::websocket(&endpoint).unwrap();
            let cut = async {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut hello = [0; 1 << 10];
                assert!(socket.read(&mut hello).await.unwrap() > 0);
                socket.shutdown().await.unwrap();
            };
            let dial = async {
                let socket = connect(&[address], None).await.unwrap();
                secure(&endpoint, &Route::default(), socket).await
            };
            let error = tokio::join!(cut, dial).1.err().unwrap();
            assert_eq!(
                error.message(),
                "localhost: the server closed the connection during the TLS handshake"
            );
        });
    }

    #[test]
    fn only_one_configuration_resumes_a_session() {
        run(async {
            let server = Server::for_name("localhost").await;
            let (route, other) = (trusting(&server.pem), trusting(&server.pem));
            let copy = route.clone();
            for (route, kind) in [
                (&route, HandshakeKind::Full),
                (&copy, HandshakeKind::Resumed),
                (&route, HandshakeKind::Resumed),
                (&other, HandshakeKind::Full),
            ] {
                assert_eq!(server.meet(route).await.1.unwrap(), kind);
            }
        });
    }
}
