//! How sockets are made: through which proxy, and whose certificates count. The WebSocket and the fetch of the key set take
//! the same way.

use std::sync::Arc;

use rustls::ClientConfig;

use super::proxy::{Proxies, Proxy};
use super::{Endpoint, roots};
use crate::error::Result;

/// Where the roots of TLS come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Mozilla's list, which is compiled in.
    Bundled,
    /// The system's store.
    System,
}

/// A way to endpoints. The default: no proxy, and the bundled roots.
#[derive(Clone)]
pub struct Route {
    proxies: Proxies,
    tls: Arc<ClientConfig>,
}

impl Route {
    /// Sets which proxy is used.
    pub fn set_proxies(&mut self, proxies: Proxies) {
        self.proxies = proxies;
    }

    /// Sets the roots. On failure the ones before stay.
    pub fn set_roots(&mut self, from: Roots) -> Result<()> {
        self.tls = match from {
            Roots::Bundled => roots::bundled(),
            Roots::System => roots::system()?,
        };
        Ok(())
    }

    /// Sets roots of the application's own. On failure the ones before stay.
    pub fn set_roots_pem(&mut self, pem: &str) -> Result<()> {
        self.tls = roots::pem(pem)?;
        Ok(())
    }

    /// The proxy that leads to `endpoint`; an error if it cannot.
    pub fn proxy(&self, endpoint: &Endpoint) -> Result<Option<&Proxy>> {
        self.proxies.between(endpoint)
    }

    pub(super) fn tls(&self) -> &Arc<ClientConfig> {
        &self.tls
    }
}

impl Default for Route {
    fn default() -> Route {
        Route {
            proxies: Proxies::default(),
            tls: roots::bundled(),
        }
    }
}

/// The same proxy, and the same roots with the sessions that were begun under them.
impl PartialEq for Route {
    fn eq(&self, other: &Route) -> bool {
        self.proxies == other.proxies && Arc::ptr_eq(&self.tls, &other.tls)
    }
}
