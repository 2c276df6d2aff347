//! The settings of clients. Only the token has no default.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use once_cell::sync::Lazy;

use crate::attestation::{Policy, Verifier};
use crate::error::{Error, Result, Status};
use crate::host::{Callbacks, Level, Log, Sink};
use crate::lifecycle::policy::{Reconnect, Renew};
use crate::lifecycle::{Means, Rules};
use crate::net::{Endpoint, KeySource, KeySources, Proxies, Roots, Route, Token};
use crate::session::{Limits, Settings};

/// The key sets of this process.
static KEYS: Lazy<KeySources> = Lazy::new(KeySources::default);

/// Returns the verifier of the production policy. The process has only one, so that it remembers
/// verified releases.
pub fn production_verifier() -> Arc<Verifier> {
    static PRODUCTION: Lazy<Arc<Verifier>> = Lazy::new(|| {
        Arc::new(Verifier::new(Policy::production()).expect("the built-in policy holds"))
    });
    PRODUCTION.clone()
}

/// The settings of clients. Several clients can use a configuration at the same time. They share
/// the policy's verified releases and the key set.
pub struct Config {
    endpoint: Endpoint,
    route: Route,
    token: Option<Token>,
    verifier: Arc<Verifier>,
    cache: Option<PathBuf>,
    keys: Arc<KeySource>,
    /// Time limits.
    pub limits: Limits,
    /// The log of clients.
    pub log: Option<(Level, Arc<dyn Sink>)>,
    /// The application answers token questions.
    pub ask_token: bool,
    /// The application answers release questions.
    pub ask_release: bool,
    /// Failed attempts in a row after which the client ends. 0 turns reconnecting off.
    pub attempts: usize,
    /// Time for each answer of the application: for a token, about a release.
    pub answer: Duration,
    /// The longest delay before the first attempt.
    pub first_retry: Duration,
    /// The longest delay before any attempt.
    pub longest_retry: Duration,
    /// The age at which a working connection is replaced. Zero means any age.
    pub max_age: Duration,
    /// Whether a connection is replaced when its evidence expires.
    pub renew_with_evidence: bool,
}

impl Config {
    /// Creates settings for Confer's service with the production policy. The token is missing.
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
            ask_token: false,
            ask_release: false,
            attempts: 0,
            answer: Duration::from_secs(30),
            first_retry: Duration::from_millis(500),
            longest_retry: Duration::from_secs(30),
            max_age: Duration::ZERO,
            renew_with_evidence: false,
        }
    }

    /// Sets the WebSocket's URL, without the token.
    pub fn set_endpoint(&mut self, url: &str) -> Result<()> {
        self.endpoint = Endpoint::websocket(url)?;
        Ok(())
    }

    /// Sets the proxy's URL. An empty one means none.
    pub fn set_proxy(&mut self, url: &str) -> Result<()> {
        self.route.set_proxies(Proxies::given(url)?);
        self.find_keys();
        Ok(())
    }

    /// Uses the proxy and exceptions from the process's environment.
    pub fn set_proxy_from_environment(&mut self) -> Result<()> {
        let proxies = Proxies::from_environment(|name| std::env::var_os(name))?;
        self.route.set_proxies(proxies);
        self.find_keys();
        Ok(())
    }

    /// Sets the source of the TLS roots.
    pub fn set_roots(&mut self, roots: Roots) -> Result<()> {
        self.route.set_roots(roots)?;
        self.find_keys();
        Ok(())
    }

    /// Sets the application's TLS roots.
    pub fn set_roots_pem(&mut self, pem: &str) -> Result<()> {
        self.route.set_roots_pem(pem)?;
        self.find_keys();
        Ok(())
    }

    /// Sets the account's token.
    pub fn set_token(&mut self, token: &str) -> Result<()> {
        self.token = Some(Token::new(token)?);
        Ok(())
    }

    /// Sets the policy.
    pub fn set_policy(&mut self, verifier: Arc<Verifier>) {
        self.verifier = verifier;
        self.find_keys();
    }

    /// Sets the cache file of key sets.
    pub fn set_cache(&mut self, path: PathBuf) {
        self.cache = Some(path);
        self.find_keys();
    }

    fn find_keys(&mut self) {
        let url = self.verifier.policy().jwks_url();
        self.keys = KEYS.at(url, self.cache.as_deref(), &self.route);
    }

    /// Checks that there is a token for the first attempt, or an answer to the question for it.
    pub(super) fn check(&self, can_ask: bool) -> Result<()> {
        match self.token.is_some() || (can_ask && self.ask_token) {
            true => Ok(()),
            false => Err(Error::new(Status::InvalidArgument, "token: none was set")),
        }
    }

    /// The rules of a client's life, and its token. `retry_first`: the first attempt is retried by the
    /// same rules as later ones.
    pub(super) fn rules(&self, retry_first: bool) -> (Rules, Option<Token>) {
        let rules = Rules {
            reconnect: (self.attempts > 0).then_some(Reconnect {
                attempts: self.attempts.try_into().unwrap_or(u32::MAX),
                first: self.first_retry,
                most: self.longest_retry,
            }),
            retry_first,
            renew: Renew {
                max_age: (!self.max_age.is_zero()).then_some(self.max_age),
                with_evidence: self.renew_with_evidence,
            },
            leeway: self.verifier.policy().leeway(),
            asks_token: self.ask_token,
            asks_release: self.ask_release,
            answer: self.answer,
        };
        (rules, self.token.clone())
    }

    /// Everything that a client's tasks need.
    pub(super) fn means(&self, callbacks: Option<&Arc<Callbacks>>) -> Means {
        let log = match (&self.log, callbacks) {
            (Some((level, sink)), Some(thread)) => Log::new(*level, sink.clone(), thread),
            _ => Log::default(),
        };
        Means {
            settings: Settings {
                endpoint: self.endpoint.clone(),
                route: self.route.clone(),
                verifier: self.verifier.clone(),
                keys: self.keys.clone(),
                limits: self.limits,
            },
            log,
            callbacks: callbacks.cloned(),
            stats: Arc::default(),
            ended: Arc::default(),
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config::new()
    }
}
