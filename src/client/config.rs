//! What a client is made from. Every setting has a default but the token.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use once_cell::sync::Lazy;

use super::log::{Level, Sink};
use crate::attestation::{Policy, Verifier};
use crate::error::{Error, Result, Status};
use crate::net::{Endpoint, KeySource, KeySources, Token};
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

/// The longest that any wait can be set to: a day.
const MAX_WAIT: Duration = Duration::from_secs(86_400);

/// Told of the stages of connecting, on the client's callback thread. `None`: connecting ended.
pub type StageSink = Arc<dyn Fn(Option<Stage>) + Send + Sync>;

/// The settings of clients. A configuration can serve many, one after the other or at once; they share what its policy
/// has verified and the key set.
pub struct Config {
    endpoint: Endpoint,
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
}

impl Config {
    /// The service itself, with the production policy; only the token is missing.
    pub fn new() -> Config {
        let verifier = production_verifier();
        Config {
            endpoint: Endpoint::websocket(Endpoint::PRODUCTION)
                .expect("the built-in endpoint holds"),
            token: None,
            keys: KEYS.at(verifier.policy().jwks_url(), None),
            verifier,
            cache: None,
            limits: Limits::default(),
            log: None,
            stages: None,
        }
    }

    /// The URL of the WebSocket, without the token.
    pub fn set_endpoint(&mut self, url: &str) -> Result<()> {
        self.endpoint = Endpoint::websocket(url)?;
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
        self.keys = KEYS.at(self.verifier.policy().jwks_url(), self.cache.as_deref());
    }

    /// Checks a time limit: at least a millisecond, at most a day.
    pub fn wait(name: &str, milliseconds: u64) -> Result<Duration> {
        let wait = Duration::from_millis(milliseconds);
        if wait.is_zero() || wait > MAX_WAIT {
            let message = format!(
                "{name}: {milliseconds} ms; the bounds are 1 and {}",
                MAX_WAIT.as_millis()
            );
            return Err(Error::new(Status::InvalidArgument, message));
        }
        Ok(wait)
    }

    /// What a connection is made from.
    pub(super) fn settings(&self) -> Result<Settings> {
        let token = self.token.clone();
        Ok(Settings {
            endpoint: self.endpoint.clone(),
            token: token
                .ok_or_else(|| Error::new(Status::InvalidArgument, "token: none was set"))?,
            verifier: self.verifier.clone(),
            keys: self.keys.clone(),
            limits: self.limits,
        })
    }
}

impl Default for Config {
    fn default() -> Config {
        Config::new()
    }
}
