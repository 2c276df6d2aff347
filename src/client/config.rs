//! What a client is made from. Every setting has a default but the token.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use once_cell::sync::Lazy;

use crate::attestation::{Policy, Verifier};
use crate::error::{Error, Result, Status};
use crate::host::{Callbacks, Level, Log, Sink};
use crate::link::{ChangeSink, Dialer, Reconnect, ReleaseSink, Renew, TokenProvider};
use crate::net::{Endpoint, KeySource, KeySources, Proxies, Roots, Route, Token};
use crate::session::{Limits, Settings, Stage};

/// The key sets that this process knows.
static KEYS: Lazy<KeySources> = Lazy::new(KeySources::default);

/// The production policy's verifier, one for the process, so that what it verified is remembered.
pub fn production_verifier() -> Arc<Verifier> {
    static PRODUCTION: Lazy<Arc<Verifier>> = Lazy::new(|| {
        Arc::new(Verifier::new(Policy::production()).expect("the built-in policy holds"))
    });
    PRODUCTION.clone()
}

/// Told of the stages of connecting, on the client's callback thread. `None`: connecting ended.
pub type StageSink = Arc<dyn Fn(Option<Stage>) + Send + Sync>;

/// The settings of clients. A configuration can serve many, one after the other or at once; they share what its policy
/// has verified and the key set.
pub struct Config {
    endpoint: Endpoint,
    route: Route,
    token: Option<Token>,
    verifier: Arc<Verifier>,
    cache: Option<PathBuf>,
    keys: Arc<KeySource>,
    /// Time limits.
    pub limits: Limits,
    /// Where the log goes.
    pub log: Option<(Level, Arc<dyn Sink>)>,
    /// Who is told of the stages.
    pub stages: Option<StageSink>,
    /// Who gives a token for each connection.
    pub provider: Option<Arc<dyn TokenProvider>>,
    /// Who is asked whether another release will do.
    pub release: Option<ReleaseSink>,
    /// Who is told of what becomes of the connection.
    pub changes: Option<ChangeSink>,
    /// Failed attempts in a row after which the client ends; 0: a connection that breaks is not made again.
    pub attempts: usize,
    /// The longest delay before the first attempt.
    pub first_retry: Duration,
    /// The longest delay before any attempt.
    pub longest_retry: Duration,
    /// The age at which a connection that works is replaced; zero for any.
    pub max_age: Duration,
    /// Whether it is replaced when its evidence expires.
    pub renew_with_evidence: bool,
}

impl Config {
    /// The service itself, with the production policy; only the token is missing.
    pub fn new() -> Config {
        let (verifier, route) = (production_verifier(), Route::default());
        Config {
            endpoint: Endpoint::websocket(Endpoint::PRODUCTION)
                .expect("the built-in endpoint holds"),
            token: None,
            keys: KEYS.at(verifier.policy().jwks_url(), None, &route),
            route,
            verifier,
            cache: None,
            limits: Limits::default(),
            log: None,
            stages: None,
            provider: None,
            release: None,
            changes: None,
            attempts: 0,
            first_retry: Duration::from_millis(500),
            longest_retry: Duration::from_secs(30),
            max_age: Duration::ZERO,
            renew_with_evidence: false,
        }
    }

    /// The URL of the WebSocket, without the token.
    pub fn set_endpoint(&mut self, url: &str) -> Result<()> {
        self.endpoint = Endpoint::websocket(url)?;
        Ok(())
    }

    /// The proxy, by its URL; empty for none.
    pub fn set_proxy(&mut self, url: &str) -> Result<()> {
        self.route.set_proxies(Proxies::given(url)?);
        self.find_keys();
        Ok(())
    }

    /// The proxy that the process's environment names, with its exceptions.
    pub fn set_proxy_from_environment(&mut self) -> Result<()> {
        let proxies = Proxies::from_environment(|name| std::env::var_os(name))?;
        self.route.set_proxies(proxies);
        self.find_keys();
        Ok(())
    }

    /// Whose certificates count for TLS.
    pub fn set_roots(&mut self, roots: Roots) -> Result<()> {
        self.route.set_roots(roots)?;
        self.find_keys();
        Ok(())
    }

    /// The application's own roots for TLS.
    pub fn set_roots_pem(&mut self, pem: &str) -> Result<()> {
        self.route.set_roots_pem(pem)?;
        self.find_keys();
        Ok(())
    }

    /// The account's token.
    pub fn set_token(&mut self, token: &str) -> Result<()> {
        self.token = Some(Token::new(token)?);
        Ok(())
    }

    /// What is trusted.
    pub fn set_policy(&mut self, verifier: Arc<Verifier>) {
        self.verifier = verifier;
        self.find_keys();
    }

    /// Where fetched key sets are kept.
    pub fn set_cache(&mut self, path: PathBuf) {
        self.cache = Some(path);
        self.find_keys();
    }

    fn find_keys(&mut self) {
        let url = self.verifier.policy().jwks_url();
        self.keys = KEYS.at(url, self.cache.as_deref(), &self.route);
    }

    /// Whether it is complete.
    pub(super) fn check(&self) -> Result<()> {
        if self.token.is_none() && self.provider.is_none() {
            return Err(Error::new(
                Status::InvalidArgument,
                "token: none was set, and no provider",
            ));
        }
        Ok(())
    }

    /// Whether something of it runs on a client's callback thread.
    pub(super) fn needs_callbacks(&self) -> bool {
        self.log.is_some()
            || self.stages.is_some()
            || self.provider.is_some()
            || self.release.is_some()
            || self.changes.is_some()
    }

    /// What connections are made with.
    pub(super) fn dialer(&self, callbacks: Option<&Arc<Callbacks>>) -> Dialer {
        let log = match (&self.log, callbacks) {
            (Some((level, sink)), Some(thread)) => Log::new(*level, sink.clone(), thread),
            _ => Log::default(),
        };
        Dialer {
            settings: Settings {
                endpoint: self.endpoint.clone(),
                route: self.route.clone(),
                verifier: self.verifier.clone(),
                keys: self.keys.clone(),
                limits: self.limits,
            },
            token: self.token.clone(),
            provider: self.provider.clone(),
            release: self.release.clone(),
            changes: self.changes.clone(),
            reconnect: (self.attempts > 0).then_some(Reconnect {
                attempts: self.attempts.try_into().unwrap_or(u32::MAX),
                first: self.first_retry,
                most: self.longest_retry,
            }),
            renew: Renew {
                max_age: (!self.max_age.is_zero()).then_some(self.max_age),
                with_evidence: self.renew_with_evidence,
            },
            log,
            refused_token: Mutex::default(),
            untold: Arc::default(),
            callbacks: callbacks.cloned(),
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config::new()
    }
}
