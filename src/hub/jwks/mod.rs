//! The thread that fetches the key set of an identity provider, and fetches it again: when it is old, and when clients show tokens of
//! keys that are not in it. No reactor waits for it. While the provider is away, or gives what is no key set, the last good set stays.

mod fetch;
mod status;

use std::{io, sync::Arc, thread, time::Duration};

use tracing::{info, warn};

pub use fetch::{FetchedSet, KeySetClient};
pub(crate) use status::KeySetStatus;

use crate::{
    auth::{Auth, FetchedKeys},
    clock::{Clock, Moment},
};

/// Starts the thread, if `auth` uses a key set that is fetched. The thread ends with the process. `on_new` is called when tokens of other
/// keys than before are valid.
pub(crate) fn start(
    auth: &Auth,
    clock: Clock,
    status: Arc<KeySetStatus>,
    on_new: impl Fn() + Send + 'static,
) -> io::Result<()> {
    let settings = auth.settings().clone();
    let client = KeySetClient::new(&settings.key_set, &settings.issuer)?;
    let fetcher = Fetcher { auth: auth.clone(), clock, client, status, fault: None };
    thread::Builder::new().name("jwks".to_owned()).spawn(move || fetcher.run(on_new)).map(drop)
}

struct Fetcher {
    auth: Auth,
    clock: Clock,
    client: KeySetClient,
    status: Arc<KeySetStatus>,
    /// What was wrong with the last fetch, so that a log line does not come with each.
    fault: Option<String>,
}

impl Fetcher {
    fn run(mut self, on_new: impl Fn()) {
        let interval_min = self.auth.settings().key_set.interval_min;
        loop {
            let wait = self.fetch(&on_new);
            // Whatever clients want.
            thread::sleep(interval_min);
            self.auth.key_requests().wait(wait.saturating_sub(interval_min));
        }
    }

    /// Fetches the set once. Returns how long it is good for.
    fn fetch(&mut self, on_new: impl Fn()) -> Duration {
        let began = self.clock.now();
        let fetched = self.client.fetch().and_then(|FetchedSet { text, max_age }| {
            let keys = FetchedKeys::parse(&text, &self.auth.algorithms())?;
            Ok((keys, max_age))
        });
        let refresh = self.auth.settings().key_set.refresh;
        match fetched {
            Ok((keys, max_age)) => {
                let count = keys.count();
                self.on_good(keys, began, on_new);
                self.status.on_fetched(count, self.clock.now());
                max_age.unwrap_or(refresh).min(refresh)
            }
            Err(fault) => {
                if self.fault.as_ref() != Some(&fault) {
                    warn!(%fault, "cannot fetch the key set of the identity provider; the keys that are known stay");
                }
                self.status.on_failure(&fault, self.clock.now());
                self.fault = Some(fault);
                Duration::ZERO
            }
        }
    }

    fn on_good(&mut self, keys: FetchedKeys, began: Moment, on_new: impl Fn()) {
        let count = keys.count();
        let is_new = self.auth.replace_fetched(keys, began);
        if is_new || self.fault.take().is_some() {
            info!(keys = count, is_new, "fetched the key set of the identity provider");
        }
        if is_new {
            on_new();
        }
    }
}
