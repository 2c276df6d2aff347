//! Forces races between the core's decisions and what the driver does about them.

use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;
use crate::attestation::{Policy, Verifier};
use crate::host::{Log, testing};
use crate::lifecycle::core::sim::{evidenced, rules};
use crate::lifecycle::core::{Action, closed};
use crate::net::{Endpoint, KeySources, Route, Stream};
use crate::noise::testing::pair;
use crate::session::{Established, Flow, Idle, Pace, Piece, Settings, worker_gone};

/// Longer than any test.
const HOUR: Duration = Duration::from_secs(3_600);

/// A client of this runtime whose first attempt is under way. The attempt has no task.
fn client(runtime: Arc<Runtime>, idle: Duration) -> (Arc<Lifecycle>, AttemptId) {
    let means = Means {
        settings: Settings {
            endpoint: Endpoint::websocket("ws://localhost:1/").unwrap(),
            route: Route::default(),
            verifier: Arc::new(Verifier::new(Policy::production()).unwrap()),
            keys: KeySources::default().at(None, None, &Route::default()),
            limits: Limits {
                idle: Idle::both(idle),
                ..Limits::default()
            },
        },
        log: Log::default(),
        callbacks: None,
        stats: Arc::default(),
        ended: Arc::default(),
    };
    let token = Token::new("t").unwrap();
    let client = Lifecycle::new(rules(), Some(token), means, runtime, None);
    let attempt = begun(&client);
    (client, attempt)
}

/// Takes the next attempt from the core's actions.
fn begun(client: &Lifecycle) -> AttemptId {
    let mut state = client.state();
    loop {
        match state.core.poll_action() {
            Some(Action::Dial { attempt, .. }) => return attempt,
            Some(_) => {}
            None => panic!("no attempt begins"),
        }
    }
}

/// Another thread works off the actions, and has not come to the next ones.
fn interrupt(client: &Lifecycle) {
    client.state().acting = true;
}

/// The other thread goes on.
fn go_on(client: &Lifecycle) {
    let mut state = client.state();
    state.acting = false;
    client.act(state);
}

/// A connection whose task is never polled. It ends when this is dropped.
type Connection = (ConnectionId, std::pin::Pin<Box<dyn Future<Output = Error>>>);

/// The attempt makes a connection.
fn connect(client: &Lifecycle, attempt: AttemptId) -> Connection {
    let evidenced = evidenced("a", None);
    client.verified(attempt, evidenced.clone());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let socket = Stream::Plain(TcpStream::from_std(socket).unwrap().into());
    let upgraded = WebSocketStream::from_raw_socket(socket, Role::Client, None);
    let established = Established {
        socket: futures_util::FutureExt::now_or_never(upgraded).expect("it waits for nothing"),
        channel: pair().0,
        evidenced: evidenced.clone(),
    };
    let (session, task) = Session::new(established, client.limits, client.stats.clone());
    let connection = client.connected(attempt, &session, evidenced);
    (connection.expect("the attempt is current"), Box::pin(task))
}

/// Passes on how a request ended.
struct Ends(mpsc::Sender<Result<()>>);

impl Receiver for Ends {
    fn pieces(&mut self, _: &mut Vec<Piece>) -> Flow {
        Flow::More
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    fn pause_if_full(&self) -> bool {
        false
    }
    fn end(self: Box<Self>, result: Result<()>) {
        self.0.send(result).unwrap();
    }
}

/// Sends a request. Its end comes from the channel.
fn request(client: &Lifecycle) -> mpsc::Receiver<Result<()>> {
    let (ends, ended) = mpsc::channel();
    let request = Request {
        verb: "GET".into(),
        path: "/x".into(),
        body: bytes::Bytes::new(),
        upload: None,
        pace: Pace::Events,
    };
    let exchange = client.exchange();
    let receiver = Box::new(Ends(ends));
    client.request(request, &exchange, receiver).unwrap();
    ended
}

fn place(client: &Lifecycle) -> Option<ConnectionId> {
    match &client.state().requests[&1] {
        Place::Here(_) => None,
        Place::On { connection, .. } => Some(*connection),
    }
}

#[test]
fn connection_that_breaks_before_the_sending_loses_no_request() {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _inside = tokio.enter();
    for loss_is_reported in [true, false] {
        let (client, attempt) = client(Arc::default(), HOUR);
        client.state().runtime = None; // no other thread takes part
        interrupt(&client);
        let (first, task) = connect(&client, attempt);
        let ended = request(&client);
        // The core has decided to send it on this connection, which breaks now.
        drop(task);
        let lose = || client.lost(first, worker_gone());
        if loss_is_reported {
            lose();
        }
        go_on(&client);
        assert_eq!(place(&client), None);
        if !loss_is_reported {
            lose();
        }
        interrupt(&client);
        client.network_changed();
        let (second, task) = connect(&client, begun(&client));
        assert!(second > first);
        go_on(&client);
        assert_eq!(place(&client), Some(second));
        assert!(ended.try_recv().is_err(), "it has not ended");

        client.close();
        drop(task);
        let end = ended.recv().unwrap().unwrap_err();
        assert_eq!(end.status(), closed().status());
        assert!(ended.recv().is_err(), "it ends once");
    }
}

#[test]
fn timer_starts_again_if_its_worker_dies_at_the_start() {
    for (deaths, end, ends_client) in [
        (0, Status::StreamIdle, false),
        (1, Status::StreamIdle, false),
        // No second worker helps, so nothing can be waited for.
        (2, worker_gone().status(), true),
    ] {
        let (client, attempt) = client(Arc::default(), Duration::ZERO);
        interrupt(&client);
        let ended = request(&client);
        let refused = Error::new(Status::Connect, "refused").with_retry_delay(Some(HOUR));
        client.attempt_failed(attempt, refused);
        testing::kill_chosen_workers(deaths);
        go_on(&client);
        // The timer ends the request, whose patience is over.
        let error = ended.recv().unwrap().unwrap_err();
        assert_eq!(error.status(), end, "{deaths} deaths");
        assert_eq!(client.phase() == Phase::Ended, ends_client);
        assert!(ended.recv().is_err(), "it ends once");
    }
}
