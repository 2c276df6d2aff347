//! Intel's key set: from memory, from the application's cache file, or fetched (attestation section
//! 2, `jwks_url`).
//!
//! Nothing here trusts a key set: `attestation` decides which of its keys count. Only its size is
//! limited. One fetch serves all connections that wait for it.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;

use super::{Endpoint, Route, connect, resolve, secure, tunnel};
use crate::attestation::JwkSet;
use crate::error::{Error, Result, Status};
use crate::host::{Asked, FILES};

/// Intel's key set was 11 KiB in 2023.
const MAX_KEY_SET: usize = 1 << 20;
/// Longest wait of a connection for the cache file to be written.
const MAX_WRITE: Duration = Duration::from_secs(1);

/// The key sets of this process, by source.
#[derive(Default)]
pub struct KeySources(Mutex<Vec<Weak<KeySource>>>);

impl KeySources {
    /// Returns the source for this URL, cache file and route. Clients with different routes do not
    /// share one: a proxy that hangs must not stop a client that connects without it. They do share
    /// the cache file.
    pub fn at(&self, url: Option<&str>, cache: Option<&Path>, route: &Route) -> Arc<KeySource> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|source| source.strong_count() > 0);
        let same = |source: &Arc<KeySource>| {
            source.url.as_deref() == url
                && source.cache.as_deref() == cache
                && source.route == *route
        };
        if let Some(source) = known.iter().filter_map(Weak::upgrade).find(same) {
            return source;
        }
        let source = Arc::new(KeySource {
            url: url.map(str::to_owned),
            cache: cache.map(Path::to_owned),
            route: route.clone(),
            state: Mutex::default(),
            turn: tokio::sync::Mutex::new(()),
        });
        known.push(Arc::downgrade(&source));
        source
    }
}

/// A URL, cache file and route for a key set.
pub struct KeySource {
    url: Option<String>,
    cache: Option<PathBuf>,
    route: Route,
    state: Mutex<State>,
    /// Held during a fetch, so that only one runs.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<JwkSet>>,
    /// Number of fetches. A waiter uses it to take the result of a fetch that has just ended.
    fetches: u64,
    failure: Option<Error>,
    cache_was_read: bool,
    /// A fetched key set is being written to the cache file.
    writing: Option<Asked<Option<String>>>,
}

/// A key set that is newer than the known one.
pub struct Newer {
    /// The keys.
    pub keys: Arc<JwkSet>,
    /// The caller's own fetch, or one it waited for, returned these keys. A missing key is not
    /// available.
    pub fetched: bool,
}

impl KeySource {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the key set from memory or the cache file. A file that is not a key set is an error:
    /// it is probably the wrong file, and a fetch would overwrite it.
    pub async fn known(&self) -> Result<Option<Arc<JwkSet>>> {
        let Some(path) = self.cache.clone().filter(|_| !self.state().cache_was_read) else {
            return Ok(self.state().keys.clone());
        };
        let from_file = FILES.ask(move || read_cache(&path)).result().await?;
        let mut state = self.state();
        state.cache_was_read = true;
        if state.keys.is_none() {
            state.keys = from_file.map(Arc::new);
        }
        Ok(state.keys.clone())
    }

    /// Waits up to `MAX_WRITE` until the cache file is written. Returns the reason of a failure.
    /// A failure stops no connection, and the wait does not count towards its time limits.
    pub async fn kept(&self) -> Option<String> {
        let writing = self.state().writing.take()?;
        let what = match tokio::time::timeout(MAX_WRITE, writing.result()).await {
            Ok(Ok(failure)) => return failure,
            Ok(Err(error)) => error.message().to_owned(),
            Err(_) => format!("not written within {} ms", MAX_WRITE.as_millis()),
        };
        let path = self.cache.as_deref().unwrap_or(Path::new(""));
        Some(format!("jwks_cache_file: {}: {what}", path.display()))
    }

    /// Returns a key set newer than `known`, from another connection's fetch or a new one. Returns
    /// `None` if the policy has no URL.
    pub async fn newer_than(&self, known: Option<&Arc<JwkSet>>) -> Result<Option<Newer>> {
        let Some(url) = &self.url else {
            return Ok(None);
        };
        let before = self.state().fetches;
        let _turn = self.turn.lock().await;
        {
            let state = self.state();
            let fetched = state.fetches != before; // by a call that this one waited for
            if let Some(keys) = &state.keys
                && known.is_none_or(|known| !Arc::ptr_eq(known, keys))
            {
                let keys = keys.clone();
                return Ok(Some(Newer { keys, fetched }));
            }
            if fetched && let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
        }
        let endpoint = Endpoint::https(url)?;
        let fetched = match get(&endpoint, &self.route).await {
            Ok(text) => match JwkSet::parse(&text) {
                Ok(keys) => Ok((Arc::new(keys), text)),
                Err(e) => Err(unusable(&endpoint, &e.to_string())),
            },
            Err(error) => Err(error),
        };
        let mut state = self.state();
        state.fetches += 1;
        state.failure = fetched.as_ref().err().cloned();
        let (keys, text) = fetched?;
        state.keys = Some(keys.clone());
        if let Some(path) = self.cache.clone() {
            state.writing = Some(FILES.ask(move || Ok(write_cache(&path, &text).err())));
        }
        let fetched = true;
        Ok(Some(Newer { keys, fetched }))
    }
}

fn read_cache(path: &Path) -> Result<Option<JwkSet>> {
    let name = format!("jwks_cache_file: {}", path.display());
    let failed = |why: String| Error::new(Status::File, format!("{name}: {why}"));
    let unreadable = |e| Error::io(Status::File, &name, &e);
    // Opening a pipe could block forever, and a folder or device is probably the wrong path.
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(failed("it is a directory".into())),
        Ok(found) if !found.is_file() => return Err(failed("it is not a regular file".into())),
        _ => {}
    }
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unreadable(e)),
    };
    let mut text = Vec::new();
    file.take(MAX_KEY_SET as u64 + 1)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    if text.is_empty() {
        return Ok(None); // a fresh temporary file, as mktemp makes it
    }
    if text.len() > MAX_KEY_SET {
        return Err(failed(format!(
            "it has more than {MAX_KEY_SET} bytes, so it is not a key set; the file was left unchanged"
        )));
    }
    match JwkSet::parse(&text) {
        Ok(keys) => Ok(Some(keys)),
        Err(e) => Err(failed(format!(
            "it is not a key set ({e}); the file was left unchanged"
        ))),
    }
}

/// Writes the file atomically, so that a reader or a crash never leaves half a file. Refuses to
/// replace a file that is not a key set, because it may have appeared since it was read.
fn write_cache(path: &Path, text: &[u8]) -> std::result::Result<(), String> {
    read_cache(path).map_err(|e| e.message().to_owned())?;
    let failed = |e: io::Error| {
        format!(
            "jwks_cache_file: {}: {e}; the key set was not kept",
            path.display()
        )
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}.tmp", random()));
    let temporary = path.with_file_name(name);
    let write = || {
        // Must be a new file, because other processes and containers may write at the same time.
        let mut file = fs::File::create_new(&temporary)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&temporary);
        failed(e)
    })
}

/// Returns a random number for a file name. Does not use aws-lc: see `host/exit.rs`.
fn random() -> u64 {
    RandomState::new().hash_one(())
}

/// `Display` of the endpoint omits its query, which may contain a secret.
fn unusable(endpoint: &Endpoint, why: &str) -> Error {
    Error::new(
        Status::Connect,
        format!("Intel's key set from {endpoint}: {why}"),
    )
}

/// Sends one GET over HTTP/1.1. Does not follow redirects.
async fn get(endpoint: &Endpoint, route: &Route) -> Result<Vec<u8>> {
    let failed = |why: String| unusable(endpoint, &why);
    let proxy = route.proxy(endpoint)?;
    let mut socket = connect(&resolve(endpoint, proxy).await?, proxy).await?;
    if let Some(proxy) = proxy {
        socket = tunnel(proxy, endpoint, socket).await?;
    }
    let stream = secure(endpoint, route, socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| failed(e.to_string()))?;
    let request = Request::get(endpoint.target())
        .header(HOST, endpoint.authority())
        .header(ACCEPT, "application/json")
        .body(Empty::<&[u8]>::new())
        .map_err(|e| failed(e.to_string()))?;
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|e| failed(e.to_string()))?;
        if response.status() != StatusCode::OK {
            return Err(failed(format!(
                "the server answered with HTTP status {}",
                response.status().as_u16()
            )));
        }
        let body = Limited::new(response.into_body(), MAX_KEY_SET)
            .collect()
            .await;
        body.map(|body| body.to_bytes().to_vec())
            .map_err(|e| failed(e.to_string()))
    };
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => return answer,
        _ = connection => {}
    }
    answer.await // the server closed; what it had sent before is read to its end
}

#[cfg(test)]
mod tests {
    use super::super::Proxies;
    use super::*;

    #[test]
    fn only_equal_routes_share_a_source() {
        let through = |url: &str| {
            let mut route = Route::default();
            route.set_proxies(Proxies::given(url).unwrap());
            route
        };
        let sources = KeySources::default();
        let at = |route: &Route| sources.at(Some("https://keys.test/"), None, route);
        let direct = at(&Route::default());
        assert!(Arc::ptr_eq(&direct, &at(&through(""))));
        let proxied = at(&through("http://me:x@proxy.test"));
        assert!(!Arc::ptr_eq(&direct, &proxied));
        assert!(Arc::ptr_eq(
            &proxied,
            &at(&through("http://me:x@proxy.test:80"))
        ));
        assert!(!Arc::ptr_eq(
            &proxied,
            &at(&through("http://me:y@proxy.test"))
        ));
        let own = rcgen::generate_simple_self_signed(["keys.test".to_owned()]).unwrap();
        let mut trusting = Route::default();
        trusting.set_roots_pem(&own.cert.pem()).unwrap();
        assert!(!Arc::ptr_eq(&direct, &at(&trusting)));
    }
}
