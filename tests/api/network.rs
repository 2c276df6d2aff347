//! A network between client and enclave that a test can make slow, silent, lossy or dead while it
//! is in use.
//!
//! It forwards TCP, and knows the frame headers of the server's WebSocket messages. Each connection
//! has four plain threads, a reader and a writer for each direction. The reader limits the
//! bandwidth, and the queue between the two holds the bytes in transit. So latency costs no
//! throughput, and a slow line holds few bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The bytes of one read, and the most reads in transit. When these are reached, the sender waits.
const PIECE: usize = 16 << 10;
const QUEUE: usize = 64;
/// Receive buffer of a proxied socket. Small, so that the kernel does not hide a slow line.
const RECEIVE_BUFFER: libc::c_int = 32 << 10;
/// The longest time until a thread notices a change by the test.
const TICK: Duration = Duration::from_millis(10);
/// With limited bandwidth, one read takes the bytes of this fraction of a second.
const SLICES_PER_SECOND: u64 = 20;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Direction {
    ToServer,
    ToClient,
}
pub use Direction::*;

/// The way a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Ending {
    /// RST on both sides.
    Reset,
    /// FIN on both sides.
    Finish,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Times {
    /// Only the first connection that reaches this point.
    Once,
    EachConnection,
}

#[derive(Clone, Copy, PartialEq)]
enum Damage {
    Lose,
    Swap,
    Duplicate,
    Flip,
}

struct Cut {
    direction: Direction,
    after: u64,
    ending: Ending,
    times: Times,
}

#[derive(Default)]
struct Knobs {
    latency: [Duration; 2],
    bytes_per_second: [Option<u64>; 2],
    black_hole: bool,
    refuse: bool,
    silence: Option<Duration>,
    reset_idle: Option<Duration>,
    cuts: Vec<Cut>,
    damages: Vec<(usize, Damage)>,
    stopping: bool,
}

/// The state of a connection. It only moves down this list.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum State {
    Open,
    HalfOpen,
    Cut(Ending),
    Over,
}

struct Shared {
    server: u16,
    knobs: Mutex<Knobs>,
    turned: Condvar,
    came: AtomicUsize,
    connections: Mutex<Vec<Connection>>,
}

struct Connection {
    state: Arc<Mutex<State>>,
    thread: JoinHandle<()>,
}

/// A listening port that forwards connections to the enclave. Dropping it resets open connections
/// and joins its threads.
pub struct Network {
    shared: Arc<Shared>,
    port: u16,
    acceptor: Option<JoinHandle<()>>,
}

impl Network {
    /// Starts a network in front of a server on this loopback port.
    pub fn to(server: u16) -> Network {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        set_option(&listener, libc::SO_RCVBUF, &RECEIVE_BUFFER); // accepted sockets inherit this
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            server,
            knobs: Mutex::default(),
            turned: Condvar::new(),
            came: AtomicUsize::new(0),
            connections: Mutex::default(),
        });
        let acceptor = thread::spawn({
            let shared = shared.clone();
            move || shared.accept(&listener)
        });
        Network {
            shared,
            port,
            acceptor: Some(acceptor),
        }
    }

    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/websocket", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the number of connections, including refused ones.
    pub fn connections(&self) -> usize {
        self.shared.came.load(Ordering::SeqCst)
    }

    /// Delays each byte by this time.
    pub fn latency(&self, direction: Direction, latency: Duration) {
        self.turn(|knobs| knobs.latency[direction as usize] = latency);
    }

    /// Limits the bytes per second. `None` removes the limit.
    pub fn bandwidth(&self, direction: Direction, bytes_per_second: Option<u64>) {
        assert_ne!(bytes_per_second, Some(0), "that is a black hole");
        self.turn(|knobs| knobs.bytes_per_second[direction as usize] = bytes_per_second);
    }

    /// While on, accepts connections, but reads and delivers nothing. Bytes in transit arrive
    /// afterwards.
    pub fn black_hole(&self, on: bool) {
        self.turn(|knobs| knobs.black_hole = on);
    }

    /// While on, resets new connections.
    pub fn refuse(&self, on: bool) {
        self.turn(|knobs| knobs.refuse = on);
    }

    /// Resets a connection whose client is silent for this long, as the service does after 5
    /// minutes.
    pub fn close_silent(&self, after: Duration) {
        self.turn(|knobs| knobs.silence = Some(after));
    }

    /// Resets a connection whose server is silent for this long, after the client's system has
    /// received everything.
    pub fn reset_idle(&self, after: Duration) {
        self.turn(|knobs| knobs.reset_idle = Some(after));
    }

    /// Returns the number of open connections.
    pub fn open(&self) -> usize {
        let connections = lock(&self.shared.connections);
        let open = connections
            .iter()
            .filter(|it| *lock(&it.state) != State::Over);
        open.count()
    }

    /// From now on, servers see their clients leave, but clients see nothing.
    pub fn half_open(&self) {
        for connection in lock(&self.shared.connections).iter() {
            lower(&connection.state, State::HalfOpen);
        }
        self.shared.turned.notify_all();
    }

    /// Resets both sides of every connection before it returns.
    pub fn cut(&self) {
        let connections = std::mem::take(&mut *lock(&self.shared.connections));
        for connection in &connections {
            lower(&connection.state, State::Cut(Ending::Reset));
        }
        self.shared.turned.notify_all();
        for connection in connections {
            connection.thread.join().unwrap();
        }
    }

    /// Cuts a connection after this many bytes in one direction, counted from its start.
    pub fn cut_after(&self, direction: Direction, bytes: u64, ending: Ending, times: Times) {
        let cut = Cut {
            direction,
            after: bytes,
            ending,
            times,
        };
        self.turn(|knobs| knobs.cuts.push(cut));
    }

    /// Drops the server's message `n`. Counts from 1 in each connection, after the answer to the
    /// upgrade, without control frames: 1 is the handshake's. This and the next three act once.
    pub fn lose_message(&self, n: usize) {
        self.damage(n, Damage::Lose);
    }

    /// Delivers the server's message `n` after the next one.
    pub fn swap_messages(&self, n: usize) {
        self.damage(n, Damage::Swap);
    }

    /// Delivers the server's message `n` twice.
    pub fn duplicate_message(&self, n: usize) {
        self.damage(n, Damage::Duplicate);
    }

    /// Flips one bit in the middle of the server's message `n`.
    pub fn flip_byte(&self, n: usize) {
        self.damage(n, Damage::Flip);
    }

    fn damage(&self, n: usize, damage: Damage) {
        self.turn(|knobs| knobs.damages.push((n, damage)));
    }

    fn turn(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut lock(&self.shared.knobs));
        self.shared.turned.notify_all();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.turn(|knobs| knobs.stopping = true);
        let _ = TcpStream::connect(("127.0.0.1", self.port)); // wakes the acceptor
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.cut();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn lower(state: &Mutex<State>, to: State) {
    let mut state = lock(state);
    if *state < to {
        *state = to;
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            let (stopping, refuse) = {
                let knobs = lock(&self.knobs);
                (knobs.stopping, knobs.refuse)
            };
            if stopping {
                return;
            }
            self.came.fetch_add(1, Ordering::SeqCst);
            let client = client.unwrap();
            if refuse {
                reset_on_close(&client);
                continue;
            }
            let state = Arc::new(Mutex::new(State::Open));
            let thread = thread::spawn({
                let (shared, state) = (self.clone(), state.clone());
                move || shared.serve(client, &state)
            });
            let mut connections = lock(&self.connections);
            connections.retain(|connection| *lock(&connection.state) != State::Over);
            connections.push(Connection { state, thread });
        }
    }

    /// Forwards one connection until it ends.
    fn serve(&self, client: TcpStream, state: &Mutex<State>) {
        self.hold(state);
        // A server that does not run looks like one that closes the connection.
        if let Ok(server) = TcpStream::connect(("127.0.0.1", self.server)) {
            for socket in [&client, &server] {
                socket.set_nodelay(true).unwrap();
                socket.set_read_timeout(Some(TICK)).unwrap();
                socket.set_write_timeout(Some(TICK)).unwrap();
            }
            thread::scope(|scope| {
                for (direction, from, to) in
                    [(ToServer, &client, &server), (ToClient, &server, &client)]
                {
                    let (queue, queued) = sync_channel(QUEUE);
                    scope.spawn(move || self.read(direction, from, &queue, state));
                    scope.spawn(move || self.write(direction, to, &queued, state));
                }
            });
            self.end(client, server, state);
        }
        lower(state, State::Over);
    }

    fn end(&self, client: TcpStream, server: TcpStream, state: &Mutex<State>) {
        if *lock(state) == State::HalfOpen {
            let _ = server.shutdown(Shutdown::Both);
            while *lock(state) == State::HalfOpen {
                self.wait(TICK);
            }
        }
        let ending = *lock(state);
        for socket in [&client, &server] {
            match ending {
                State::Cut(Ending::Reset) => reset_on_close(socket),
                _ => _ = socket.shutdown(Shutdown::Write),
            }
        }
        if ending == State::Cut(Ending::Finish) {
            // Closing with unread bytes would reset the connection, so they are read until both
            // sides leave or the test ends.
            let mut gone = [false; 2];
            while gone != [true; 2] && *lock(state) == ending && !lock(&self.knobs).stopping {
                for (mut socket, gone) in [&client, &server].into_iter().zip(&mut gone) {
                    match socket.read(&mut [0; PIECE]) {
                        Err(error) if is_timeout(&error) => {}
                        read => *gone |= !matches!(read, Ok(1..)),
                    }
                }
            }
        }
    }

    fn read(
        &self,
        direction: Direction,
        mut from: &TcpStream,
        queue: &SyncSender<(Instant, Vec<u8>)>,
        state: &Mutex<State>,
    ) {
        let mut messages = Messages::default();
        let mut piece = vec![0; PIECE];
        let mut heard = Instant::now();
        while self.hold(state) {
            let speed = lock(&self.knobs).bytes_per_second[direction as usize];
            let most = match speed {
                Some(speed) => (speed / SLICES_PER_SECOND).clamp(1, PIECE as u64) as usize,
                None => PIECE,
            };
            let length = match from.read(&mut piece[..most]) {
                Ok(0) => return, // ends the queue and the writer
                Ok(length) => length,
                Err(error) if is_timeout(&error) => {
                    let silence = lock(&self.knobs).silence;
                    if direction == ToServer && silence.is_some_and(|it| heard.elapsed() > it) {
                        return lower(state, State::Cut(Ending::Reset));
                    }
                    continue;
                }
                Err(_) => return lower(state, State::Cut(Ending::Reset)),
            };
            heard = Instant::now();
            if let Some(speed) = speed {
                let takes = Duration::from_secs_f64(length as f64 / speed as f64);
                self.wait_until(Instant::now() + takes, state);
            }
            let arriving = if direction == ToClient {
                messages.take(&piece[..length], &mut lock(&self.knobs).damages)
            } else {
                piece[..length].to_vec()
            };
            if !arriving.is_empty() && queue.send((Instant::now(), arriving)).is_err() {
                return;
            }
        }
    }

    fn write(
        &self,
        direction: Direction,
        to: &TcpStream,
        queued: &Receiver<(Instant, Vec<u8>)>,
        state: &Mutex<State>,
    ) {
        let mut arrived = 0;
        let mut last = Instant::now();
        while *lock(state) == State::Open {
            let (since, bytes) = match queued.recv_timeout(TICK) {
                Ok(piece) => piece,
                Err(RecvTimeoutError::Timeout) => {
                    let idle = lock(&self.knobs).reset_idle;
                    let idle = idle.is_some_and(|idle| last.elapsed() > idle);
                    if direction == ToClient && idle && unacknowledged(to) == 0 {
                        return lower(state, State::Cut(Ending::Reset));
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    // Forwards the sender's FIN. A cut ends elsewhere, perhaps with a reset.
                    if *lock(state) == State::Open {
                        let _ = to.shutdown(Shutdown::Write);
                    }
                    return;
                }
            };
            let latency = lock(&self.knobs).latency[direction as usize];
            self.wait_until(since + latency, state);
            if !self.pass_on(direction, to, &bytes, &mut arrived, state) {
                return;
            }
            last = Instant::now();
        }
    }

    /// Delivers the bytes that are due. Returns false when the connection has ended.
    fn pass_on(
        &self,
        direction: Direction,
        mut to: &TcpStream,
        mut bytes: &[u8],
        arrived: &mut u64,
        state: &Mutex<State>,
    ) -> bool {
        while !bytes.is_empty() {
            if !self.hold(state) {
                return false;
            }
            let most = self.allowance(direction, *arrived, bytes.len(), state);
            if most == 0 {
                return false;
            }
            match to.write(&bytes[..most]) {
                Ok(written) => {
                    *arrived += written as u64;
                    bytes = &bytes[written..];
                }
                Err(error) if is_timeout(&error) => {}
                Err(_) => {
                    lower(state, State::Cut(Ending::Reset));
                    return false;
                }
            }
        }
        // A cut at exactly this byte does not wait for the next one.
        self.allowance(direction, *arrived, 1, state) > 0
    }

    /// Returns how many bytes are due now. Makes a due cut, and then returns 0.
    fn allowance(
        &self,
        direction: Direction,
        arrived: u64,
        wanted: usize,
        state: &Mutex<State>,
    ) -> usize {
        let mut knobs = lock(&self.knobs);
        let cuts = knobs.cuts.iter().enumerate();
        let cuts = cuts.filter(|(_, cut)| cut.direction == direction);
        let Some((at, cut)) = cuts.min_by_key(|(_, cut)| cut.after) else {
            return wanted;
        };
        let left = cut.after.saturating_sub(arrived);
        if left == 0 {
            lower(state, State::Cut(cut.ending));
            if cut.times == Times::Once {
                knobs.cuts.remove(at);
            }
        }
        (wanted as u64).min(left) as usize
    }

    /// Waits during a black hole. Returns false when the connection has ended.
    fn hold(&self, state: &Mutex<State>) -> bool {
        loop {
            if *lock(state) != State::Open {
                return false;
            }
            if !lock(&self.knobs).black_hole {
                return true;
            }
            self.wait(TICK);
        }
    }

    fn wait_until(&self, time: Instant, state: &Mutex<State>) {
        while *lock(state) == State::Open {
            let left = time.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            // The condition variable does not need this limit, but a wait may be shorter than a
            // tick.
            self.wait(left.min(TICK));
        }
    }

    fn wait(&self, time: Duration) {
        let knobs = lock(&self.knobs);
        if !knobs.stopping {
            drop(self.turned.wait_timeout(knobs, time));
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    use ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

fn reset_on_close(socket: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    set_option(socket, libc::SO_LINGER, &linger);
}

/// Returns the bytes that the other end's system has not acknowledged.
fn unacknowledged(socket: &impl AsRawFd) -> libc::c_int {
    let mut bytes = 0;
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    assert_eq!(asked, 0, "{}", std::io::Error::last_os_error());
    bytes
}

fn set_option<T>(socket: &impl AsRawFd, option: libc::c_int, value: &T) {
    let size = size_of::<T>() as libc::socklen_t;
    let value: *const T = value;
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            value.cast(),
            size,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

/// Finds the messages of a WebSocket server (RFC 6455, 5.2), and damages some. Forwards anything
/// that does not begin like an answer to an upgrade.
#[derive(Default)]
struct Messages {
    phase: Phase,
    buffer: Vec<u8>,
    count: usize,
    /// A message to deliver after the next one.
    swapped: Option<Vec<u8>>,
}

#[derive(Default, PartialEq)]
enum Phase {
    #[default]
    Head,
    Frames,
    Other,
}

impl Messages {
    const HEAD: &'static [u8] = b"HTTP/1.1 101 ";

    fn take(&mut self, bytes: &[u8], damages: &mut Vec<(usize, Damage)>) -> Vec<u8> {
        if self.phase == Phase::Other {
            return bytes.to_vec();
        }
        self.buffer.extend_from_slice(bytes);
        let mut out = Vec::new();
        if self.phase == Phase::Head {
            let known = self.buffer.len().min(Self::HEAD.len());
            if self.buffer[..known] != Self::HEAD[..known] {
                self.phase = Phase::Other;
                return std::mem::take(&mut self.buffer);
            }
            let end = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            let Some(end) = end else { return out };
            out.extend(self.buffer.drain(..end + 4));
            self.phase = Phase::Frames;
        }
        while let Some(header) = frame(&self.buffer) {
            let frame: Vec<u8> = self.buffer.drain(..header.0 + header.1).collect();
            self.pass(frame, header.0, damages, &mut out);
        }
        out
    }

    fn pass(
        &mut self,
        mut frame: Vec<u8>,
        header: usize,
        damages: &mut Vec<(usize, Damage)>,
        out: &mut Vec<u8>,
    ) {
        const CONTROL: u8 = 0x8;
        if frame[0] & CONTROL != 0 {
            return out.extend(frame);
        }
        self.count += 1;
        let due = damages.iter().position(|(n, _)| *n == self.count);
        match due.map(|at| damages.swap_remove(at).1) {
            Some(Damage::Lose) => return,
            Some(Damage::Swap) => {
                self.swapped = Some(frame);
                return;
            }
            Some(Damage::Duplicate) => out.extend(frame.clone()),
            Some(Damage::Flip) => {
                let middle = header + (frame.len() - header) / 2;
                frame[middle] ^= 1;
            }
            None => {}
        }
        out.extend(frame);
        out.extend(self.swapped.take().unwrap_or_default());
    }
}

/// Returns the lengths of header and payload of the frame at the start of a buffer, if it is
/// complete.
fn frame(buffer: &[u8]) -> Option<(usize, usize)> {
    let (header, payload) = match buffer.get(1)? & 0x7f {
        126 => (
            4,
            u16::from_be_bytes(buffer.get(2..4)?.try_into().ok()?).into(),
        ),
        127 => (
            10,
            u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?) as usize,
        ),
        short => (2, usize::from(short)),
    };
    (buffer.len() >= header + payload).then_some((header, payload))
}

mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const SILENCE: Duration = Duration::from_millis(300);

    /// Starts a server that does one thing with each connection. It ends with the process.
    fn serve(each: fn(TcpStream)) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || each(stream.unwrap()));
            }
        });
        port
    }

    fn echo(stream: TcpStream) {
        let _ = std::io::copy(&mut &stream, &mut &stream);
    }

    fn dial(network: &Network) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", network.port())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes, reads as many, and returns the time this took.
    fn round_trip(mut stream: &TcpStream, bytes: &[u8]) -> Duration {
        let began = Instant::now();
        thread::scope(|scope| {
            let mut writer = stream;
            scope.spawn(move || writer.write_all(bytes).unwrap());
            let mut back = vec![0; bytes.len()];
            stream.read_exact(&mut back).unwrap();
            assert!(back == bytes, "something else came back");
        });
        began.elapsed()
    }

    fn is_silent(mut stream: &TcpStream) -> bool {
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        let read = stream.read(&mut [0; 1]);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(read, Err(error) if is_timeout(&error))
    }

    fn is_reset(mut stream: &TcpStream) -> bool {
        let read = stream.read(&mut [0; 1]);
        matches!(read, Err(error) if error.kind() == ErrorKind::ConnectionReset)
    }

    fn some(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at / 7) as u8).collect()
    }

    #[test]
    fn bytes_and_ends_arrive_both_ways() {
        let network = Network::to(serve(echo));
        let mut stream = dial(&network);
        round_trip(&stream, &some(3_000_000));
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
        drop(dial(&network));
        let began = Instant::now();
        while network.connections() < 2 {
            assert!(began.elapsed() < PATIENCE);
            thread::yield_now();
        }
    }

    #[test]
    fn latency_is_added_once_per_direction() {
        let network = Network::to(serve(echo));
        let stream = dial(&network);
        network.latency(ToServer, Duration::from_millis(100));
        network.latency(ToClient, Duration::from_millis(150));
        let took = round_trip(&stream, &some(1_000_000));
        assert!(took >= Duration::from_millis(250), "{took:?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
        network.latency(ToServer, Duration::ZERO);
        network.latency(ToClient, Duration::ZERO);
        crate::harness::until("a round trip without latency", || {
            round_trip(&stream, b"x") < Duration::from_millis(250)
        });
    }

    #[test]
    fn bandwidth_is_limited() {
        let network = Network::to(serve(echo));
        network.bandwidth(ToClient, Some(40_000));
        let took = round_trip(&dial(&network), &some(20_000));
        assert!(took >= Duration::from_millis(450), "{took:?}");
    }

    #[test]
    fn black_hole_delivers_its_bytes_afterwards() {
        let network = Network::to(serve(echo));
        let mut before = dial(&network);
        round_trip(&before, b"before");
        network.black_hole(true);
        let mut after = dial(&network);
        before.write_all(b"x").unwrap();
        after.write_all(b"y").unwrap();
        assert!(is_silent(&before) && is_silent(&after));
        network.black_hole(false);
        let mut byte = [0; 1];
        before.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        after.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"y");
    }

    /// The server counts the connections that clients closed, and reports the number on another one.
    #[test]
    fn half_open_connection_ends_only_for_the_server() {
        static ENDED: AtomicUsize = AtomicUsize::new(0);
        let network = Network::to(serve(|stream| {
            echo(stream);
            ENDED.fetch_add(1, Ordering::SeqCst);
        }));
        let mut stream = dial(&network);
        round_trip(&stream, b"before");
        network.half_open();
        let began = Instant::now();
        while ENDED.load(Ordering::SeqCst) == 0 {
            assert!(began.elapsed() < PATIENCE, "the server saw nothing");
            thread::yield_now();
        }
        stream.write_all(b"hello?").unwrap();
        assert!(is_silent(&stream));
        round_trip(&dial(&network), b"another is well");
    }

    #[test]
    fn cut_resets_only_open_connections() {
        let network = Network::to(serve(echo));
        let streams = [(); 3].map(|()| dial(&network));
        for stream in &streams {
            round_trip(stream, b"before");
        }
        network.cut();
        assert!(streams.iter().all(is_reset));
        round_trip(&dial(&network), b"after");
    }

    #[test]
    fn cut_happens_at_the_exact_byte() {
        let network = Network::to(serve(echo));
        network.cut_after(ToClient, 70_000, Ending::Finish, Times::Once);
        let (mut stream, mut arrived) = (dial(&network), Vec::new());
        let mut writer = stream.try_clone().unwrap();
        let writing = thread::spawn(move || writer.write_all(&some(200_000)));
        stream.read_to_end(&mut arrived).unwrap();
        assert!(arrived == some(70_000), "{} bytes arrived", arrived.len());
        drop(stream);
        let _ = writing.join().unwrap(); // as many bytes as possible
        round_trip(&dial(&network), &some(100_000));

        network.cut_after(ToServer, 10, Ending::Reset, Times::EachConnection);
        for _ in 0..2 {
            let mut stream = dial(&network);
            stream.write_all(&[7; 10]).unwrap();
            let end = stream.read_to_end(&mut Vec::new());
            assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    }

    #[test]
    fn refused_connection_is_reset() {
        let network = Network::to(serve(echo));
        network.refuse(true);
        let refused = TcpStream::connect(("127.0.0.1", network.port()));
        assert!(refused.is_err() || is_reset(&refused.unwrap()));
        network.refuse(false);
        round_trip(&dial(&network), b"after");
        assert_eq!(network.connections(), 2);
    }

    /// Sends an answer to an upgrade, and messages with all three kinds of length, with a ping
    /// among them.
    fn five_messages(mut stream: TcpStream) {
        let mut all = b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n".to_vec();
        for n in 1..=5 {
            all.extend(message(n));
            if n == 2 {
                all.extend(PING);
            }
        }
        for piece in all.chunks(1_000) {
            stream.write_all(piece).unwrap();
        }
    }

    const PING: [u8; 3] = [0x89, 1, b'p'];

    fn message(n: u8) -> Vec<u8> {
        let payload = vec![n; [1, 125, 126, 65_535, 65_536][n as usize - 1]];
        let mut frame = vec![0x82];
        match payload.len() {
            short @ ..126 => frame.push(short as u8),
            middle @ ..65_536 => {
                frame.extend([[126].as_slice(), &(middle as u16).to_be_bytes()].concat())
            }
            long => frame.extend([[127].as_slice(), &(long as u64).to_be_bytes()].concat()),
        }
        frame.extend(payload);
        frame
    }

    /// Returns the numbers of the five messages as they arrive, `p` for the ping, `?` for an
    /// unknown one.
    fn arrivals(damage: impl Fn(&Network)) -> String {
        let network = Network::to(serve(five_messages));
        damage(&network);
        let mut all = Vec::new();
        dial(&network).read_to_end(&mut all).unwrap();
        let head = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let (mut rest, mut seen) = (&all[head..], String::new());
        while let Some((header, payload)) = frame(rest) {
            let (this, after) = rest.split_at(header + payload);
            let known = (1..=5).find(|n| message(*n) == this);
            seen.push(match known {
                Some(n) => (b'0' + n) as char,
                None if this == PING => 'p',
                None => '?',
            });
            rest = after;
        }
        assert!(rest.is_empty());
        seen
    }

    #[test]
    fn messages_are_damaged_by_number() {
        assert_eq!(arrivals(|_| {}), "12p345");
        assert_eq!(arrivals(|network| network.lose_message(4)), "12p35");
        assert_eq!(arrivals(|network| network.swap_messages(2)), "1p3245");
        assert_eq!(arrivals(|network| network.duplicate_message(5)), "12p3455");
        for n in 1..=5 {
            let expected = "12p345".replace(&n.to_string(), "?");
            assert_eq!(arrivals(|network| network.flip_byte(n)), expected);
        }
        let both = |network: &Network| {
            network.lose_message(1);
            network.duplicate_message(2);
        };
        assert_eq!(arrivals(both), "22p345");
    }

    #[test]
    fn dropped_network_leaves_nothing() {
        let network = Network::to(serve(echo));
        let stream = dial(&network);
        round_trip(&stream, b"before");
        network.black_hole(true);
        drop(network); // joins its threads and closes its listener
        assert!(is_reset(&stream));
    }
}
