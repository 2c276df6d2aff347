//! The settings of clients. Only the token has no default.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use once_cell::sync::Lazy;

use super::sinks::{ChangeSink, ReleaseSink, Sinks, StageSink, TokenProvider};
use crate::attestation::{Policy, Verifier};
use crate::error::{Error, Result, Status};
use crate::host::{Callbacks, Level, Log, Sink};
use crate::lifecycle::policy::{Reconnect, Renew};
use crate::lifecycle::{Means, Observer, Rules};
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

/// The settings of clients. Several clients can use a configuration, even at once. They share the
/// policy's verified releases and the key set.
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
    /// Receives the stages of connecting.
    pub stages: Option<StageSink>,
    /// Provides a token for each connection.
    pub provider: Option<Arc<dyn TokenProvider>>,
    /// The application answers token questions.
    pub ask_token: bool,
    /// The application answers release questions.
    pub ask_release: bool,
    /// Decides on a changed release.
    pub release: Option<ReleaseSink>,
    /// Receives connection events.
    pub changes: Option<ChangeSink>,
    /// Failed attempts in a row after which the client ends. 0 turns reconnecting off.
    pub attempts: usize,
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
            stages: None,
            provider: None,
            ask_token: false,
            ask_release: false,
            release: None,
            changes: None,
            attempts: 0,
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

    /// Checks that the settings are complete.
    pub(super) fn check(&self) -> Result<()> {
        if self.token.is_none() && self.provider.is_none() {
            return Err(Error::new(
                Status::InvalidArgument,
                "token: none was set, and no provider",
            ));
        }
        Ok(())
    }

    /// Checks that there is a token, or somebody to ask for one.
    pub(super) fn check_ask(&self) -> Result<()> {
        match self.ask_token {
            true => Ok(()),
            false => self.check(),
        }
    }

    /// Returns whether a setting needs a callback thread.
    pub(super) fn needs_callbacks(&self) -> bool {
        self.log.is_some()
            || self.stages.is_some()
            || self.provider.is_some()
            || self.release.is_some()
            || self.changes.is_some()
    }

    /// The rules of a client's life, and its token.
    pub(super) fn rules(&self) -> (Rules, Option<Token>) {
        let rules = Rules {
            reconnect: (self.attempts > 0).then_some(Reconnect {
                attempts: self.attempts.try_into().unwrap_or(u32::MAX),
                first: self.first_retry,
                most: self.longest_retry,
            }),
            retry_first: false,
            renew: Renew {
                max_age: (!self.max_age.is_zero()).then_some(self.max_age),
                with_evidence: self.renew_with_evidence,
            },
            leeway: self.verifier.policy().leeway(),
            asks_token: self.provider.is_some() || self.ask_token,
            asks_release: self.release.is_some() || self.ask_release,
            answer: self.limits.answer,
        };
        // A provider takes the place of the configured token.
        let token = self.token.clone().filter(|_| self.provider.is_none());
        (rules, token)
    }

    /// Everything that a client's tasks need.
    pub(super) fn means(
        &self,
        callbacks: Option<&Arc<Callbacks>>,
        observers: Vec<Arc<dyn Observer>>,
    ) -> Means {
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
            observers,
            log,
            callbacks: callbacks.cloned(),
            ended: Arc::default(),
        }
    }

    /// The application's callbacks.
    pub(super) fn sinks(&self, thread: &Arc<Callbacks>) -> Sinks {
        Sinks {
            stages: self.stages.clone(),
            provider: self.provider.clone(),
            release: self.release.clone(),
            changes: self.changes.clone(),
            thread: thread.clone(),
            state: Mutex::default(),
            untold: Arc::default(),
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config::new()
    }
}
