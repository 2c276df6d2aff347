//! The part of a client that its handles and its streams share.

use std::sync::Arc;

use super::meter::Meter;
use crate::lifecycle::Lifecycle;

/// Keeps a client open. The client closes when its keeper is dropped.
pub(super) struct Keeper {
    pub(super) life: Arc<Lifecycle>,
    /// Counts unread bytes of its streams.
    pub(super) meter: Arc<Meter>,
}

impl Keeper {
    pub(super) fn new(life: Arc<Lifecycle>) -> Arc<Keeper> {
        let meter = Arc::new(Meter::new(life.limits().bounds.client));
        Arc::new(Keeper { life, meter })
    }

    pub(super) fn close(&self) {
        self.meter.close();
        self.life.close();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.close();
    }
}
