//! Connections through proxies, with TLS roots from the application, with resumed sessions, and
//! over both address families. The host names are invented, and TLS ends in a front before the
//! local enclave.

use std::ffi::{c_char, c_void};
use std::net::TcpListener;
use std::process::Command;
use std::ptr;
use std::sync::{Arc, Mutex};

use confer::ffi::config::*;
use confer::ffi::connect::*;
use confer::ffi::log::*;
use confer::ffi::policy::*;
use confer::ffi::settings::*;
use confer::ffi::status::*;
use confer::ffi::types::*;
use rustls::HandshakeKind;
use serde_json::Value;

use crate::harness::*;
use crate::network::*;
use crate::servers::*;

/// Credentials that tests search for, plain and as HTTP sends them.
const SECRET: &str = "hunter2";
const BASE64: &str = "bWU6aHVudGVyMg=="; // me:hunter2

/// An enclave and its key server, each behind a TLS front.
struct World {
    enclave: Enclave,
    identity: Identity,
    front: Front,
    keys: Front,
    /// The enclave's policy, with the key set behind its front at `KEYS_NAME`.
    policy: String,
}

impl World {
    fn start() -> World {
        let (enclave, identity) = (Enclave::start(None), Identity::new());
        let policy = std::fs::read_to_string(&enclave.policy).unwrap();
        let mut policy: Value = serde_json::from_str(&policy).unwrap();
        let url = policy["ita"]["jwks_url"].as_str().unwrap().to_owned();
        let (port, path) = port_and_path(&url);
        let keys = Front::start(&identity, port);
        policy["ita"]["jwks_url"] = format!("https://{KEYS_NAME}:{}{path}", keys.port).into();
        let front = Front::start(&identity, port_and_path(&enclave.url).0);
        World {
            enclave,
            identity,
            front,
            keys,
            policy: policy.to_string(),
        }
    }

    /// Makes a configuration for the enclave at this host name.
    fn config(&self, host: &str) -> Config {
        self.complete(config(&self.enclave), host)
    }

    fn complete(&self, config: Config, host: &str) -> Config {
        let mut policy = ptr::null_mut();
        config.set_endpoint(&format!("wss://{host}:{}/websocket", self.front.port));
        set(&config, confer_config_set_roots_pem, &self.identity.pem).unwrap();
        let text = &self.policy;
        unsafe {
            call(|e| confer_policy_parse(text.as_ptr().cast(), text.len(), &mut policy, e))
                .unwrap();
            call(|e| confer_config_set_policy(config.0, policy, e)).unwrap();
            confer_policy_free(policy);
        }
        config
    }

    /// The same, with a key set at an IP address.
    fn config_near(&self, host: &str) -> Config {
        let config = self.config(host);
        let (mut policy, path) = (ptr::null_mut(), &self.enclave.policy);
        unsafe {
            call(|e| confer_policy_load(path.as_ptr().cast(), path.len(), &mut policy, e)).unwrap();
            call(|e| confer_config_set_policy(config.0, policy, e)).unwrap();
            confer_policy_free(policy);
        }
        config
    }

    /// Checks that a text has no secret of the proxy or the account.
    fn assert_shows_no_secret(&self, text: &str) {
        for secret in [SECRET, BASE64, &self.enclave.token, PROMPT] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

fn port_and_path(url: &str) -> (u16, String) {
    let (_, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap();
    let (_, port) = authority.rsplit_once(':').unwrap();
    (port.parse().unwrap(), format!("/{path}"))
}

type Setter = unsafe extern "C" fn(
    *mut confer_config,
    *const c_char,
    usize,
    *mut *mut confer::ffi::types::confer_error,
) -> confer_status;

fn set(config: &Config, setter: Setter, text: &str) -> Result<confer_status, Failure> {
    call(|e| unsafe { setter(config.0, text.as_ptr().cast(), text.len(), e) })
}

fn chats(client: &Client) {
    let (answer, end) = read(&pull(client, PROMPT).unwrap());
    end.unwrap();
    assert_eq!(answer, format!("You said: {PROMPT}"));
}

/// Records the log.
fn log(config: &Config) -> Arc<Mutex<Vec<String>>> {
    type Records = Arc<Mutex<Vec<String>>>;
    unsafe extern "C" fn log(data: *mut c_void, _: i32, _: *const c_char, message: *const c_char) {
        let records = unsafe { &*data.cast::<Records>() };
        records
            .lock()
            .unwrap()
            .push(text(message).unwrap().to_owned());
    }
    unsafe extern "C" fn destroy(data: *mut c_void) {
        drop(unsafe { Box::from_raw(data.cast::<Records>()) });
    }
    let records = Records::default();
    let data = Box::into_raw(Box::new(records.clone())).cast();
    call(|e| unsafe {
        let (log, destroy) = (Some(log as _), Some(destroy as _));
        confer_config_set_log(config.0, CONFER_LOG_DEBUG, log, data, destroy, e)
    })
    .unwrap();
    records
}

#[test]
fn proxies_work_and_never_see_the_token() {
    let world = World::start();
    for (scheme, credentials, manner) in [
        ("http", "", Manner::Connect(None)),
        ("http", "me:hunter2@", Manner::Connect(Some(BASE64))),
        ("socks5", "", Manner::Socks5(None)),
        (
            "socks5",
            "me:hunter2@",
            Manner::Socks5(Some(("me", SECRET))),
        ),
        ("socks5h", "me:hunter2@", Manner::Socks5(None)), // offered, but not requested
    ] {
        let proxy = Proxy::start(manner);
        // Only the proxy knows this name. The stages begin after the answer to the question, so the
        // watch sees all of them.
        let config = world.complete(asking(&world.enclave), ENCLAVE_NAME);
        let url = format!("{scheme}://{credentials}localhost:{}", proxy.port);
        set(&config, confer_config_set_proxy, &url).unwrap();
        let records = log(&config);
        let client = start(&config);
        let token = world.enclave.token.clone();
        let watch = Watch::answering(&client, move |_, event| give(event, &token));
        wait(&client).unwrap();
        chats(&client);
        close(&client);
        let targets = [
            format!("{ENCLAVE_NAME}:{}", world.front.port),
            format!("{KEYS_NAME}:{}", world.keys.port),
        ];
        assert_eq!(proxy.targets(), targets);
        assert!(proxy.saw(ENCLAVE_NAME) && !proxy.saw("GET /"));
        assert!(!proxy.saw(&world.enclave.token) && !proxy.saw(PROMPT));
        world.assert_shows_no_secret(&records.lock().unwrap().join("\n"));
        let stages = watch.until(&News::Connected(false)).into_iter();
        let stages = stages.filter(|news| matches!(news, News::Stage(_)));
        assert!(stages.eq([0, 1, 7, 2, 3, 4, 5, 6].map(News::Stage)));
    }
}

#[test]
fn refused_proxy_credentials_never_appear_in_the_error() {
    let world = World::start();
    let socks = Manner::Socks5(Some(("me", "other")));
    for (url, manner, http_status, why) in [
        (
            "http://me:hunter2@",
            Manner::Connect(Some("b3RoZXI=")),
            407,
            "HTTP status 407. It offers Basic; it does not accept this user name and password",
        ),
        (
            "http://",
            Manner::Connect(Some(BASE64)),
            407,
            "HTTP status 407. It offers Basic; put user name and password into the proxy's URL",
        ),
        (
            "http://me:hunter2@",
            Manner::Answers(&[b"HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\n\
                Proxy-Authenticate: bWU6aHVudGVyMg==, NTLM\r\nContent-Length: 0\r\n\r\n"]),
            407,
            "HTTP status 407. It offers Negotiate, NTLM; this library supports only Basic",
        ),
        (
            "http://me:hunter2@",
            Manner::Answers(&[b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"]),
            407,
            "HTTP status 407. It names no scheme; it does not accept this user name and password",
        ),
        (
            "socks5://me:hunter2@",
            socks,
            0,
            "rejected the user name and password",
        ),
        ("socks5://", socks, 0, "requires a user name and password"),
    ] {
        let proxy = Proxy::start(manner);
        let config = world.config(ENCLAVE_NAME);
        set(
            &config,
            confer_config_set_proxy,
            &format!("{url}127.0.0.1:{}", proxy.port),
        )
        .unwrap();
        let records = log(&config);
        let failure = connect(&config).err().unwrap();
        assert_eq!(failure.status(), CONFER_E_PROXY, "{failure:?}");
        assert_eq!(failure.http_status(), http_status);
        assert!(
            !failure.retryable(),
            "the same credentials will not do later"
        );
        assert!(failure.message().contains(why), "{failure:?}");
        assert!(
            failure
                .message()
                .contains(&format!("127.0.0.1:{}", proxy.port))
        );
        world.assert_shows_no_secret(failure.message());
        world.assert_shows_no_secret(&records.lock().unwrap().join("\n"));
        assert!(!world.enclave.saw("accepted"));
    }
}

/// Repeated credentials would lock the account.
#[test]
fn refused_proxy_credentials_are_sent_only_once() {
    for (scheme, good, bad) in [
        (
            "http",
            Manner::Connect(Some(BASE64)),
            Manner::Connect(Some("b3RoZXI=")),
        ),
        (
            "socks5",
            Manner::Socks5(Some(("me", SECRET))),
            Manner::Socks5(Some(("me", "other"))),
        ),
    ] {
        let mut world = World::start();
        let proxy = Proxy::start(good);
        let config = world.config(ENCLAVE_NAME);
        let url = format!("{scheme}://me:{SECRET}@127.0.0.1:{}", proxy.port);
        set(&config, confer_config_set_proxy, &url).unwrap();
        config.set_retries(1_000, 1, 10);
        let (client, watch) = watched(&config);
        chats(&client);
        let sent = if scheme == "http" { BASE64 } else { SECRET };
        let (dials, credentials) = (proxy.connections(), proxy.count(sent));
        assert_eq!(dials, credentials);
        proxy.change(bad);
        world.enclave.kill();
        watch.until(&News::Ended(CONFER_E_PROXY));
        let end = check(&client).unwrap_err();
        assert_eq!(end.status(), CONFER_E_PROXY, "{end:?}");
        assert!(!end.retryable());
        let refused = pull(&client, PROMPT).err().unwrap();
        assert_eq!(refused.status(), CONFER_E_PROXY);
        assert_eq!(proxy.connections(), dials + 1);
        assert_eq!(proxy.count(sent), credentials + 1);
    }
}

/// An HTTP proxy's answer, without its end.
const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";
/// A SOCKS5 proxy that needs no authentication.
const HELLO: &[u8] = &[5, 0];

#[test]
fn misbehaving_proxy_fails_its_stage() {
    let world = World::start();
    for (scheme, manner, retryable, why) in [
        (
            "http",
            Manner::Answers(&[b"\x01\x02 nonsense\r\n\r\n"]),
            false,
            "CONNECT: ",
        ),
        (
            "http",
            Manner::Answers(&[b"SSH-2.0-server\r\n\r\n"]),
            false,
            "CONNECT: ",
        ),
        ("http", Manner::Endless(OK, b"X: y\r\n"), false, "CONNECT: "),
        ("http", Manner::Endless(OK, b"X"), false, "CONNECT: "),
        ("http", Manner::Endless(b"", b" "), false, "CONNECT: "),
        ("http", Manner::Answers(&[]), true, "CONNECT: "),
        (
            "http",
            Manner::Answers(&[b"HTTP/1.1 200"]),
            true,
            "CONNECT: ",
        ),
        (
            "http",
            Manner::Answers(&[b"HTTP/1.1 200 OK\r\n\r\n\x16early"]),
            true,
            "more than its answer",
        ),
        (
            "http",
            Manner::Answers(&[b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"]),
            false,
            "HTTP status 302",
        ),
        (
            "http",
            Manner::Answers(&[b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nyour fate"]),
            false,
            "HTTP status 403",
        ),
        (
            "http",
            Manner::Answers(&[b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\n"]),
            true,
            "HTTP status 503",
        ),
        ("socks5", Manner::Answers(&[]), true, "SOCKS5: "),
        (
            "socks5",
            Manner::Answers(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"]),
            false,
            "version 72",
        ),
        ("socks5", Manner::Answers(&[&[5, 2]]), false, "method 2"),
        (
            "socks5",
            Manner::Answers(&[&[5, 0xff]]),
            false,
            "requires a user name and password",
        ),
        (
            "socks5",
            Manner::Answers(&[HELLO, &[4, 0, 0, 1]]),
            false,
            "version 4",
        ),
        (
            "socks5",
            Manner::Answers(&[HELLO, &[5, 2, 0, 1]]),
            false,
            "not allowed by the ruleset",
        ),
        (
            "socks5",
            Manner::Answers(&[HELLO, &[5, 5, 0, 1]]),
            true,
            "connection refused",
        ),
        (
            "socks5",
            Manner::Answers(&[HELLO, &[5, 99, 0, 1]]),
            true,
            "reply 99",
        ),
        (
            "socks5",
            Manner::Answers(&[HELLO, &[5, 0, 0, 9]]),
            false,
            "type 9",
        ),
        (
            "socks5",
            Manner::Answers(&[HELLO, &[5, 0, 0, 1, 127, 0]]),
            true,
            "SOCKS5: ",
        ),
        (
            "socks5",
            Manner::Answers(&[HELLO, &[5, 0, 0, 3, 255]]),
            true,
            "SOCKS5: ",
        ),
    ] {
        let proxy = Proxy::start(manner);
        let config = world.config(ENCLAVE_NAME);
        let url = format!("{scheme}://127.0.0.1:{}", proxy.port);
        set(&config, confer_config_set_proxy, &url).unwrap();
        let failure = connect(&config).err().unwrap();
        assert_eq!(failure.status(), CONFER_E_PROXY, "{why}: {failure:?}");
        assert_eq!(failure.retryable(), retryable, "{failure:?}");
        assert!(failure.message().contains(why), "{why}: {failure:?}");
        assert!(!failure.message().contains("fate"), "{failure:?}");
    }
    assert!(world.front.handshakes().is_empty());
}

#[test]
fn hanging_proxy_times_out_and_is_named() {
    let world = World::start();
    let continues = Manner::Endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n");
    for (scheme, manner) in [
        ("http", Manner::Silent),
        ("http", continues),
        ("socks5", Manner::Silent),
    ] {
        let proxy = Proxy::start(manner);
        let config = world.config(ENCLAVE_NAME);
        let url = format!("{scheme}://127.0.0.1:{}", proxy.port);
        set(&config, confer_config_set_proxy, &url).unwrap();
        config.set_duration(CONFER_DURATION_STAGE_PROXY, 200);
        let failure = connect(&config).err().unwrap();
        assert_eq!(failure.status(), CONFER_E_STAGE_TIMEOUT);
        assert_eq!(failure.message(), "proxy: no result within 200 ms");
        assert!(failure.retryable());
    }
}

#[test]
fn missing_proxy_is_named_and_never_bypassed() {
    let world = World::start();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let config = world.config_near("localhost");
    set(
        &config,
        confer_config_set_proxy,
        &format!("http://me:hunter2@{address}"),
    )
    .unwrap();
    let failure = connect(&config).err().unwrap();
    assert_eq!(failure.status(), CONFER_E_CONNECT);
    let begin = format!("proxy http://{address}: {address}: ");
    assert!(failure.message().starts_with(&begin), "{failure:?}");
    world.assert_shows_no_secret(failure.message());
    assert!(!world.enclave.saw("accepted"));
    // An empty text removes the proxy.
    set(&config, confer_config_set_proxy, "").unwrap();
    chats(&connect(&config).unwrap());
}

#[test]
fn local_endpoint_never_uses_a_proxy() {
    let enclave = Enclave::start(None);
    let proxy = Proxy::start(Manner::Connect(None));
    let config = config(&enclave); // ws://
    set(
        &config,
        confer_config_set_proxy,
        &format!("http://127.0.0.1:{}", proxy.port),
    )
    .unwrap();
    let failure = connect(&config).err().unwrap();
    assert_eq!(failure.status(), CONFER_E_INVALID_URL);
    assert!(failure.message().contains("on this machine"), "{failure:?}");
    assert!(!enclave.saw("accepted"));
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn invalid_settings_leave_the_old_ones() {
    let world = World::start();
    let config = world.config_near("localhost");
    let failure = set(
        &config,
        confer_config_set_proxy,
        "https://me:hunter2@proxy.test",
    )
    .unwrap_err();
    assert_eq!(failure.status(), CONFER_E_INVALID_URL);
    world.assert_shows_no_secret(failure.message());
    for roots in [-1, 2] {
        let failure = call(|e| unsafe { confer_config_set_roots(config.0, roots, e) }).unwrap_err();
        assert_eq!(failure.status(), CONFER_E_INVALID_ARGUMENT);
    }
    let failure = set(&config, confer_config_set_roots_pem, "no certificate").unwrap_err();
    assert_eq!(failure.status(), CONFER_E_INVALID_ARGUMENT);
    let long = " ".repeat(2 << 20);
    let failure = set(&config, confer_config_set_roots_pem, &long).unwrap_err();
    assert_eq!(failure.status(), CONFER_E_TOO_LARGE);
    chats(&connect(&config).unwrap());
}

#[test]
fn authority_counts_only_if_the_application_adds_it() {
    let world = World::start();
    let config = world.config_near("localhost");
    let bundled = |e| unsafe { confer_config_set_roots(config.0, CONFER_ROOTS_BUNDLED, e) };
    call(bundled).unwrap();
    let failure = connect(&config).err().unwrap();
    assert_eq!(failure.status(), CONFER_E_TLS);
    assert!(!world.enclave.saw("accepted"));
    set(&config, confer_config_set_roots_pem, &world.identity.pem).unwrap();
    chats(&connect(&config).unwrap());
}

#[test]
fn clients_of_a_configuration_share_tls_sessions() {
    let world = World::start();
    let (one, other) = (
        world.config_near("localhost"),
        world.config_near("localhost"),
    );
    for config in [&one, &one, &one, &other] {
        chats(&connect(config).unwrap());
    }
    let kinds = [
        HandshakeKind::Full,
        HandshakeKind::Resumed,
        HandshakeKind::Resumed,
        HandshakeKind::Full,
    ];
    assert_eq!(world.front.handshakes(), kinds);
}

#[test]
fn connection_cut_within_tls_is_retried() {
    const WITHIN: u64 = 100; // inside the answer to a ClientHello
    let world = World::start();
    let network = Network::to(world.front.port);
    let config = world.config_near("localhost");
    let url = format!("wss://localhost:{}/websocket", network.port());
    set(&config, confer_config_set_endpoint, &url).unwrap();
    config.set_retries(1_000, 50, 400);
    let records = log(&config);
    let client = connect(&config).unwrap();
    chats(&client);
    records.lock().unwrap().clear();
    network.refuse(true); // so that the cut hits a new connection
    network.cut();
    // A request may leave before the cut is noticed.
    until("the cut is noticed", || !is_connected(&client));
    network.cut_after(ToClient, WITHIN, Ending::Reset, Times::Once);
    network.refuse(false);
    chats(&client);
    let records = records.lock().unwrap().join("\n");
    assert!(records.contains("CONFER_E_TLS"), "{records}");
    world.assert_shows_no_secret(&records);
    assert_eq!(counter(&client, CONFER_COUNTER_CONNECTIONS), 2);
    assert!(counter(&client, CONFER_COUNTER_FAILED_ATTEMPTS) >= 1);
}

#[test]
fn client_connects_over_ipv6() {
    let world = World::start();
    let upstream = port_and_path(&world.enclave.url).0;
    let address = ([0, 0, 0, 0, 0, 0, 0, 1], 0).into();
    let Ok(front) = Front::on(address, &world.identity, upstream) else {
        return eprintln!("no IPv6 loopback on this machine");
    };
    let config = world.config_near("localhost");
    let url = format!("wss://[::1]:{}/websocket", front.port);
    set(&config, confer_config_set_endpoint, &url).unwrap();
    chats(&connect(&config).unwrap());
    // The proxy gets an address, not a name.
    for (scheme, manner) in [
        ("http", Manner::Connect(None)),
        ("socks5", Manner::Socks5(None)),
    ] {
        let proxy = Proxy::start(manner);
        let config = world.config(ENCLAVE_NAME);
        let url = format!("wss://[::1]:{}/websocket", world.front.port);
        set(&config, confer_config_set_endpoint, &url).unwrap();
        set(
            &config,
            confer_config_set_proxy,
            &format!("{scheme}://127.0.0.1:{}", proxy.port),
        )
        .unwrap();
        chats(&connect(&config).unwrap());
        assert_eq!(proxy.targets()[0], format!("[::1]:{}", world.front.port));
    }
}

/// Returns the outcome of connecting and of a chat, in a new process, so that its environment is
/// not shared.
fn elsewhere(world: &World, host: &str, environment: &[(&str, &str)]) -> String {
    let url = format!("wss://{host}:{}/websocket", world.front.port);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "networks::client_in_a_separate_process"]);
    command.args(["--ignored", "--nocapture"]);
    for (name, _) in std::env::vars_os() {
        let lower = name.to_string_lossy().to_ascii_lowercase();
        if lower.ends_with("_proxy") || lower.starts_with("ssl_cert_") {
            command.env_remove(name);
        }
    }
    command
        .envs(environment.iter().copied())
        .env("TEST_URL", url)
        .env("TEST_TOKEN", &world.enclave.token)
        .env("TEST_POLICY", &world.policy);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    world.assert_shows_no_secret(&text);
    let outcome = text.lines().find_map(|line| line.strip_prefix("outcome "));
    outcome.unwrap_or_else(|| panic!("{output:?}")).to_owned()
}

/// Its environment controls it.
#[test]
#[ignore = "other tests run it in a separate process"]
fn client_in_a_separate_process() {
    let Ok(url) = std::env::var("TEST_URL") else {
        return;
    };
    let (token, policy) = (std::env::var("TEST_TOKEN"), std::env::var("TEST_POLICY"));
    let outcome = (|| unsafe {
        let (mut config, mut parsed) = (ptr::null_mut(), ptr::null_mut());
        call(|e| confer_config_new(&mut config, e))?;
        let config = Config(config);
        set(&config, confer_config_set_endpoint, &url)?;
        set(&config, confer_config_set_token, &token.unwrap())?;
        let policy = policy.unwrap();
        call(|e| confer_policy_parse(policy.as_ptr().cast(), policy.len(), &mut parsed, e))?;
        call(|e| confer_config_set_policy(config.0, parsed, e))?;
        confer_policy_free(parsed);
        call(|e| confer_config_set_roots(config.0, CONFER_ROOTS_SYSTEM, e))?;
        call(|e| confer_config_set_proxy_from_environment(config.0, e))?;
        let client = connect(&config)?;
        chats(&client);
        close(&client);
        Ok::<_, Failure>(())
    })();
    match outcome {
        Ok(()) => println!("\noutcome OK"),
        Err(failure) => println!("\noutcome {failure:?}"),
    }
}

#[test]
fn environment_sets_proxy_and_roots_on_request() {
    let world = World::start();
    let roots = fresh("roots");
    std::fs::write(&roots, &world.identity.pem).unwrap();
    let roots = ("SSL_CERT_FILE", roots.to_str().unwrap());
    for (name, manner, scheme) in [
        (
            "HTTPS_PROXY",
            Manner::Connect(Some(BASE64)),
            "http://me:hunter2@",
        ),
        (
            "all_proxy",
            Manner::Socks5(Some(("me", SECRET))),
            "socks5h://me:hunter2@",
        ),
    ] {
        let proxy = Proxy::start(manner);
        let url = format!("{scheme}127.0.0.1:{}", proxy.port);
        let environment = [(name, url.as_str()), roots];
        assert_eq!(elsewhere(&world, ENCLAVE_NAME, &environment), "OK");
        assert_eq!(proxy.targets().len(), 2);
        // With an exception for the enclave, only the key set goes through the proxy.
        let environment = [
            (name, url.as_str()),
            roots,
            ("NO_PROXY", "localhost,other.test"),
        ];
        assert_eq!(elsewhere(&world, "localhost", &environment), "OK");
        assert_eq!(
            proxy.targets()[2..],
            [format!("{KEYS_NAME}:{}", world.keys.port)]
        );
    }
    let outcome = elsewhere(
        &world,
        ENCLAVE_NAME,
        &[roots, ("HTTPS_PROXY", "ftp://me:hunter2@x")],
    );
    assert!(
        outcome.starts_with("CONFER_E_INVALID_URL: HTTPS_PROXY: "),
        "{outcome}"
    );
}

#[test]
fn system_without_roots_is_an_error_naming_the_store() {
    let world = World::start();
    let missing = fresh("no-such-roots");
    let missing = missing.to_str().unwrap();
    let outcome = elsewhere(&world, "localhost", &[("SSL_CERT_FILE", missing)]);
    assert!(outcome.starts_with("CONFER_E_FILE: roots: "), "{outcome}");
    assert!(outcome.contains(missing), "{outcome}");
}
