//! Connects TCP: tries all addresses of a name, of both families, until one answers.
//!
//! With a proxy, this is the proxy's name. The proxy resolves and connects to the endpoint.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpSocket, TcpStream};

use super::dial::Counted;
use super::{Endpoint, Proxy};
use crate::error::{Error, Result, Status, shortage};
use crate::host::LOOKUPS;

/// Limits the unsent bytes in the kernel (Linux doubles it). They count as moved bytes, which keep
/// a peer alive. At 256 KiB, a line of 13 KB/s is still considered alive after 20 s.
const SEND_BUFFER: u32 = 128 << 10;

/// Tried addresses of one name, so that a hostile name server cannot make connecting endless.
const MAX_ADDRESSES: usize = 16;

/// Delay before the next address is tried in parallel: the Connection Attempt Delay of RFC 8305,
/// section 5. All [`MAX_ADDRESSES`] start within 4 s.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Returns the addresses of the proxy, if any, or of the endpoint, in the order of attempts.
pub async fn resolve(endpoint: &Endpoint, proxy: Option<&Proxy>) -> Result<Vec<SocketAddr>> {
    let (host, port) = match proxy {
        Some(proxy) => (proxy.host(), proxy.port()),
        None => (endpoint.host(), endpoint.port()),
    };
    let unresolved = |why| match proxy {
        Some(proxy) => unresolved(proxy, why),
        None => unresolved(host, why),
    };
    let addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => {
            let name = host.to_owned();
            let look_up = move || Ok((name.as_str(), port).to_socket_addrs());
            let found = LOOKUPS.ask(look_up).result().await?;
            interleaved(found.map_err(unresolved)?)
        }
    };
    if addresses.is_empty() {
        let why = io::Error::other("the name has no address");
        return Err(unresolved(why));
    }
    if proxy.is_none() {
        addresses
            .iter()
            .try_for_each(|address| endpoint.check_address(address))?;
    }
    Ok(addresses)
}

/// Descriptors that a look-up may open at once: sockets for three name servers, and a file.
const LOOKUP_DESCRIPTORS: usize = 4;

/// Checks for a lack of descriptors, because the resolver then also reports "Name or service not
/// known".
fn unresolved(name: impl fmt::Display, reason: io::Error) -> Error {
    let pipes = (0..LOOKUP_DESCRIPTORS / 2).map(|_| io::pipe());
    match pipes.collect::<io::Result<Vec<_>>>() {
        Err(refused) if shortage(&refused).is_some() => {
            let what = format!("{name}: the look-up needs more descriptors");
            Error::io(Status::System, what, &refused)
        }
        _ => Error::io(Status::Resolve, name, &reason),
    }
}

/// Alternates between the address families, starting with the resolver's first (RFC 8305, section
/// 4). So both are tried, even if one has many addresses.
fn interleaved(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut found = found.peekable();
    let Some(first) = found.peek().map(SocketAddr::is_ipv6) else {
        return Vec::new();
    };
    let (one, other): (Vec<_>, Vec<_>) = found.partition(|address| address.is_ipv6() == first);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    std::iter::from_fn(|| Some([one.next(), other.next()]))
        .take_while(|turn| turn.iter().any(Option::is_some))
        .flat_map(|turn| turn.into_iter().flatten())
        .take(MAX_ADDRESSES)
        .collect()
}

/// Connects to one of the addresses; see `race`. If all fail, the error lists each failure.
pub async fn connect(addresses: &[SocketAddr], proxy: Option<&Proxy>) -> Result<Counted> {
    match race(addresses, ATTEMPT_DELAY, connect_to).await {
        Ok(stream) => {
            // A frame is a complete message, so waiting for more bytes would only add latency.
            let _ = stream.set_nodelay(true);
            Ok(stream.into())
        }
        Err(failures) => Err(unreachable(&failures, proxy)),
    }
}

fn unreachable(failures: &[(SocketAddr, io::Error)], proxy: Option<&Proxy>) -> Error {
    // Other addresses would meet the same shortage.
    if let Some((address, e)) = failures.iter().find(|(_, e)| shortage(e).is_some()) {
        return Error::io(Status::System, address, e);
    }
    // The peer accepted the connection and reset it at once, so it is lost.
    let reset = |(_, e): &(SocketAddr, io::Error)| e.kind() == io::ErrorKind::ConnectionReset;
    let status = match failures.iter().any(reset) {
        true => Status::ConnectionLost,
        false => Status::Connect,
    };
    let each = failures
        .iter()
        .map(|(address, e)| format!("{address}: {e}"))
        .collect::<Vec<_>>()
        .join("; ");
    match proxy {
        Some(proxy) => Error::new(status, format!("{proxy}: {each}")),
        None => Error::new(status, each),
    }
}

/// Happy Eyeballs (RFC 8305, section 5). Tries the next address when one fails or after `delay`,
/// without ending the first. The first success drops the others. If all fail, returns all errors.
async fn race<T, F: Future<Output = io::Result<T>>>(
    addresses: &[SocketAddr],
    delay: Duration,
    attempt: impl Fn(SocketAddr) -> F,
) -> std::result::Result<T, Vec<(SocketAddr, io::Error)>> {
    let (mut waiting, mut running) = (addresses.iter(), FuturesUnordered::new());
    let mut failures = Vec::new();
    loop {
        let begun = waiting.next().map(|address| {
            let attempt = attempt(*address);
            running.push(async move { (*address, attempt.await) });
        });
        let outcome = match begun {
            Some(()) => tokio::time::timeout(delay, running.next()).await,
            None => Ok(running.next().await),
        };
        match outcome {
            Ok(Some((_, Ok(connected)))) => return Ok(connected),
            Ok(Some((address, Err(e)))) => failures.push((address, e)),
            Ok(None) => return Err(failures),
            Err(_) => {} // no answer yet: try the next one too
        }
    }
}

async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.connect(address).await
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::pending;

    use tokio::net::TcpListener;

    use super::*;

    const NEVER: Duration = Duration::from_secs(3_600);
    const AT_ONCE: Duration = Duration::from_millis(1);

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let limit = Duration::from_secs(60);
            tokio::time::timeout(limit, work).await.expect("it ends")
        })
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_alternate_from_the_resolvers_first() {
        let of = |texts: &[&str]| {
            let order = interleaved(addresses(texts).into_iter());
            let order = order.iter().map(|address| address.to_string());
            order.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(&[]), "");
        assert_eq!(of(&["1.1.1.1:1", "1.1.1.2:1"]), "1.1.1.1:1 1.1.1.2:1");
        let six_first = ["[::6]:1", "[::7]:1", "[::8]:1", "1.1.1.1:1", "1.1.1.2:1"];
        assert_eq!(
            of(&six_first),
            "[::6]:1 1.1.1.1:1 [::7]:1 1.1.1.2:1 [::8]:1"
        );
        let four_first = ["1.1.1.1:1", "1.1.1.2:1", "[::6]:1"];
        assert_eq!(of(&four_first), "1.1.1.1:1 [::6]:1 1.1.1.2:1");
    }

    #[test]
    fn many_addresses_of_one_family_leave_room_for_the_other() {
        let six = (1..=100).map(|n| SocketAddr::new([0, 0, 0, 0, 0, 0, 0, n].into(), 1));
        let four = (1..=100).map(|n| SocketAddr::new([127, 0, 0, n].into(), 1));
        let order = interleaved(six.chain(four));
        assert_eq!(order.len(), MAX_ADDRESSES);
        assert_eq!(
            order.iter().filter(|a| a.is_ipv4()).count(),
            MAX_ADDRESSES / 2
        );
    }

    #[test]
    fn silent_address_does_not_delay_the_next() {
        let all = addresses(&["[::1]:1", "127.0.0.1:2", "127.0.0.1:3"]);
        let tried = RefCell::new(Vec::new());
        let won = run(race(&all, AT_ONCE, |address| {
            tried.borrow_mut().push(address);
            async move {
                match address.port() {
                    3 => Ok(address),
                    _ => pending().await,
                }
            }
        }));
        assert_eq!(won.unwrap(), all[2]);
        assert_eq!(tried.into_inner(), all);
    }

    #[test]
    fn failure_starts_the_next_and_success_ends_the_rest() {
        struct Attempt<'a>(&'a RefCell<Vec<u16>>, u16);
        impl Drop for Attempt<'_> {
            fn drop(&mut self) {
                self.0.borrow_mut().push(self.1);
            }
        }
        let all = addresses(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"]);
        let ended = RefCell::new(Vec::new());
        // No delay passes here, so each attempt starts because another failed.
        let won = run(race(&all, NEVER, |address| {
            let attempt = Attempt(&ended, address.port());
            async move {
                match attempt.1 {
                    3 => Ok(3),
                    _ => Err(io::ErrorKind::ConnectionRefused.into()),
                }
            }
        }));
        assert_eq!(won.unwrap(), 3);
        assert_eq!(*ended.borrow(), [1, 2, 3]);
        // The first is silent and then dropped. The last never starts.
        ended.borrow_mut().clear();
        let won = run(race(&all, AT_ONCE, |address| {
            let attempt = Attempt(&ended, address.port());
            async move {
                match attempt.1 {
                    2 => Ok(2),
                    _ => pending().await,
                }
            }
        }));
        assert_eq!(won.unwrap(), 2);
        ended.borrow_mut().sort();
        assert_eq!(*ended.borrow(), [1, 2]);
    }

    #[test]
    fn late_success_of_a_slow_address_counts() {
        let all = addresses(&["127.0.0.1:1", "127.0.0.1:2"]);
        let others_failed = tokio::sync::Notify::new();
        let won = run(race(&all, AT_ONCE, |address| {
            let others_failed = &others_failed;
            async move {
                if address.port() == 1 {
                    others_failed.notified().await;
                    return Ok(1);
                }
                others_failed.notify_one();
                Err(io::ErrorKind::ConnectionRefused.into())
            }
        }));
        assert_eq!(won.unwrap(), 1);
    }

    #[test]
    fn error_lists_why_each_address_failed() {
        let all = addresses(&["127.0.0.1:1", "[::1]:2"]);
        let failures = run(race(&all, NEVER, |address| async move {
            Err::<(), _>(match address {
                SocketAddr::V4(_) => io::ErrorKind::ConnectionRefused.into(),
                SocketAddr::V6(_) => io::Error::from(io::ErrorKind::NetworkUnreachable),
            })
        }))
        .unwrap_err();
        let error = unreachable(&failures, None);
        assert_eq!(error.status(), Status::Connect);
        assert_eq!(
            error.message(),
            "127.0.0.1:1: connection refused; [::1]:2: network unreachable"
        );
        assert!(run(race(&[], NEVER, |_| pending::<io::Result<()>>())).is_err());
    }

    #[test]
    fn closed_ipv4_port_leads_to_ipv6() {
        run(async {
            let six = TcpListener::bind("[::1]:0").await;
            let Ok(listener) = six else {
                return eprintln!("no IPv6 loopback on this machine");
            };
            let address = listener.local_addr().unwrap();
            let closed = SocketAddr::new([127, 0, 0, 1].into(), address.port());
            let stream = connect(&[closed, address], None).await.unwrap();
            drop(stream);
            assert!(listener.accept().await.unwrap().1.is_ipv6());
        });
    }

    /// Makes a listener with a full queue that accepts nothing, so the kernel no longer answers.
    #[test]
    fn hanging_host_does_not_delay_an_answering_one() {
        run(async {
            let silent = TcpSocket::new_v4().unwrap();
            silent.bind(([127, 0, 0, 1], 0).into()).unwrap();
            let silent = silent.listen(1).unwrap();
            let full = silent.local_addr().unwrap();
            let mut queue = Vec::new();
            while let Ok(queued) = tokio::time::timeout(2 * ATTEMPT_DELAY, connect_to(full)).await {
                queue.push(queued);
                assert!(queue.len() < 100, "it fills up");
            }
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let answers = listener.local_addr().unwrap();
            let stream = connect(&[full, answers], None).await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            drop((stream, accepted, queue));
        });
    }

    #[test]
    fn sockets_are_never_written_in_vectors() {
        use tokio::io::AsyncWrite;
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let socket = connect_to(listener.local_addr().unwrap()).await.unwrap();
            assert!(socket.is_write_vectored(), "what `Counted` is there for");
            let counted = Counted::from(socket);
            assert!(!counted.is_write_vectored());
            // Also the writes of HTTP, to proxies and for the key set.
            let http = hyper_util::rt::TokioIo::new(counted);
            assert!(!hyper::rt::Write::is_write_vectored(&http));
        });
    }
}
