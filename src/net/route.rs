//! The proxy and the TLS roots of connections. The WebSocket and the fetch of the key set use the
//! same.

use std::sync::Arc;

use rustls::ClientConfig;

use super::proxy::{Proxies, Proxy};
use super::{Endpoint, roots};
use crate::error::Result;

/// The source of the TLS roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Mozilla's compiled-in list.
    Bundled,
    /// The system's store.
    System,
}

/// Proxy and roots of connections. By default the bundled roots, without a proxy.
#[derive(Clone)]
pub struct Route {
    proxies: Proxies,
    tls: Arc<ClientConfig>,
}

impl Route {
    /// Sets the proxy.
    pub fn set_proxies(&mut self, proxies: Proxies) {
        self.proxies = proxies;
    }

    /// Sets the roots. Keeps the old ones on failure.
    pub fn set_roots(&mut self, from: Roots) -> Result<()> {
        self.tls = match from {
            Roots::Bundled => roots::bundled(),
            Roots::System => roots::system()?,
        };
        Ok(())
    }

    /// Sets roots from the application. Keeps the old ones on failure.
    pub fn set_roots_pem(&mut self, pem: &str) -> Result<()> {
        self.tls = roots::pem(pem)?;
        Ok(())
    }

    /// Returns the proxy for `endpoint`. Fails if a required proxy cannot be used.
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

/// Compares the proxy, and the roots with their TLS sessions.
impl PartialEq for Route {
    fn eq(&self, other: &Route) -> bool {
        self.proxies == other.proxies && Arc::ptr_eq(&self.tls, &other.tls)
    }
}
