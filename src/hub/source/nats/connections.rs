//! What the threads of NATS have in common: each lives on one connection after another.

use std::{
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tracing::error;

use super::{Fault, ThreadWaker};

/// A thread that lives on one connection after another.
pub(super) trait Connections {
    /// What the log calls the thread.
    const NAME: &str;

    fn waker(&self) -> &ThreadWaker;

    /// How long to wait where there is not even a runtime to connect in.
    fn backoff_max(&self) -> Duration;

    /// Waits until it is time, connects, and serves; ends well at the end of the hub.
    async fn live(&mut self) -> Result<(), Fault>;

    /// The connection is gone, or could not be made; the next attempt waits.
    fn fail(&mut self, fault: &Fault);

    /// Lives until the end of the hub. Each connection has a runtime of its own, whose end ends what was begun in it, such as looking
    /// up a name.
    fn live_on(&mut self) {
        while !self.waker().is_stopped() {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                // Descriptors are spent: as good as a server that cannot be reached.
                Err(problem) => {
                    error!("no runtime for {}: {problem}", Self::NAME);
                    std::thread::sleep(self.backoff_max());
                    continue;
                }
            };
            let ended = runtime.block_on(tokio::task::unconstrained(self.live()));
            runtime.shutdown_background();
            match ended {
                Ok(()) => return,
                Err(fault) => self.fail(&fault),
            }
        }
    }
}

/// The outcome of `task`, unless `other` is done before it.
pub(super) async fn unless_before<T>(mut task: Pin<&mut impl Future<Output = T>>, other: impl Future) -> Option<T> {
    let mut other = pin!(other);
    std::future::poll_fn(|context| match task.as_mut().poll(context) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => other.as_mut().poll(context).map(|_| None),
    })
    .await
}
