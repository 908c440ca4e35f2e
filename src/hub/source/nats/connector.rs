//! One connection to a NATS server, through the client library.
//!
//! The library would reconnect and subscribe again by itself, and nobody could tell where in a subscription's messages that was. So a
//! connection lives once: whatever ends it is an event here, what had come by then is still in the queues, and the next connection is
//! another [`Link`] in a runtime of its own.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_nats::{
    Client, ConnectOptions, Event, HeaderMap, ServerAddr, ServerError, Subscriber, client::PublishErrorKind,
};
use bytes::Bytes;
use futures_util::{
    Stream, StreamExt,
    stream::{Abortable, SelectAll},
};
use tokio::sync::{Notify, mpsc};

/// Ends a subscription when it is aborted.
pub(super) use futures_util::stream::AbortHandle as SubscriptionHandle;

use super::{Fault, NatsAuth, NatsConfig, NatsLogin, url::NatsAddress};
pub(super) use super::{
    headers::Headers,
    received::{LinkEvent, Message, PublishError},
};
use crate::source::{credentials::Logins, tls::client_config};

/// What the server lists the connection as.
const CLIENT_NAME: &str = "fanfare";

/// What the library reads at once. It reads up to 128 times before anybody else runs, and all of that has to fit into the queues
/// of the subscriptions ([`NatsConfig::queue_messages_max`]).
const READ_BUFFER_BYTES: u16 = 16 * 1024;

/// The most messages that are handed on together.
const TURN_MESSAGES_MAX: usize = 8192;

/// Makes connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    config: NatsConfig,
}

/// One connection. Its subscriptions have tags, by which what comes is told apart.
pub(super) struct Link<T> {
    client: Client,
    events: mpsc::UnboundedReceiver<Event>,
    streams: SelectAll<Abortable<Tagged<T>>>,
}

/// What has come since the last time.
#[derive(Debug)]
pub(super) struct Arrivals<T> {
    /// Messages of one subscription each, in order.
    pub(super) messages: Vec<(T, Vec<Message>)>,
    /// What else the library tells. What `messages` has of a subscription came before.
    pub(super) events: Vec<LinkEvent>,
}

/// A subscription that yields all that waits, up to a turn's worth.
#[derive(Debug)]
struct Tagged<T> {
    tag: T,
    subscriber: Subscriber,
}

impl Connector {
    /// Fails if `config` names files that cannot be used.
    pub(super) fn new(config: &NatsConfig) -> io::Result<Self> {
        let files = config.tls_files();
        // The library reads them again at each connection; one that cannot be used stops the start.
        if config.login.url.is_tls() || files != Default::default() {
            client_config(&files)?;
        }
        Ok(Self { config: config.clone() })
    }

    /// The login in force.
    pub(super) fn login(&self) -> Arc<NatsLogin> {
        self.config.logins.current(&self.config.login)
    }

    /// The login in force, which `replace_login` of the configuration changes.
    pub(super) fn logins(&self) -> &Logins<NatsLogin> {
        &self.config.logins
    }

    /// Connects to one of the servers, and logs in. What a server says against the login counts more than that another is away.
    pub(super) async fn connect<T: Clone + Unpin>(&self, login: &NatsLogin) -> Result<Link<T>, Fault> {
        let servers = login.url.servers();
        let first = rand::random::<u32>() as usize % servers.len().max(1);
        let mut failure = Fault::Unreachable("no server is named".to_owned());
        for server in servers.iter().cycle().skip(first).take(servers.len()) {
            match self.connect_to(server, login).await {
                Ok(link) => return Ok(link),
                Err(fault) if failure.is_refused_login() => drop(fault),
                Err(fault) => failure = fault,
            }
        }
        Err(failure)
    }

    async fn connect_to<T: Clone + Unpin>(&self, server: &NatsAddress, login: &NatsLogin) -> Result<Link<T>, Fault> {
        let (sender, events) = mpsc::unbounded_channel();
        let is_used = AtomicBool::new(false);
        let options = ConnectOptions::new()
            .name(CLIENT_NAME)
            .connection_timeout(self.config.connect_timeout)
            .subscription_capacity(self.config.queue_messages_max)
            .read_buffer_capacity(READ_BUFFER_BYTES)
            .ignore_discovered_servers()
            .require_tls(server.is_tls)
            // Never a second time: see above.
            .reconnect_delay_callback(move |_| {
                if is_used.swap(true, Ordering::Relaxed) { Duration::MAX } else { Duration::ZERO }
            })
            .event_callback(move |event| {
                // Fails only if the link is gone.
                let _ = sender.send(event);
                std::future::ready(())
            });
        let options = self.log_in(self.trust(options), login.auth())?;
        let address: ServerAddr =
            server.to_string().parse().map_err(|error: io::Error| Fault::Unreachable(error.to_string()))?;
        let client = options.connect(address).await?;
        Ok(Link { client, events, streams: SelectAll::new() })
    }

    fn trust(&self, mut options: ConnectOptions) -> ConnectOptions {
        // The library takes the process's provider; if there is one already, it stays.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        if let Some(file) = &self.config.ca_file {
            options = options.add_root_certificates(file.clone());
        }
        if let (Some(certificate), Some(key)) = (&self.config.certificate_file, &self.config.key_file) {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        options
    }

    fn log_in(&self, options: ConnectOptions, auth: &NatsAuth) -> Result<ConnectOptions, Fault> {
        Ok(match auth.clone() {
            NatsAuth::None => options,
            NatsAuth::User { user, password } => options.user_and_password(user, password),
            NatsAuth::Token(token) => options.token(token),
            NatsAuth::Nkey(seed) => options.nkey(seed),
            NatsAuth::Credentials(text) => options
                .credentials(&text)
                .map_err(|_| Fault::Rejected("the credentials have no JWT, or no seed of an NKey".to_owned()))?,
        })
    }
}

impl<T: Clone + Unpin> Link<T> {
    /// Subscribes. That the server takes it is not said before something comes back that was sent after it. Aborting ends the
    /// subscription; what has not been handed on by then is dropped.
    pub(super) async fn subscribe(&mut self, tag: T, subject: &str) -> Result<SubscriptionHandle, Fault> {
        let subscriber = self.client.subscribe(subject.to_owned()).await;
        let subscriber = subscriber.map_err(|error| Fault::Closed(Some(error.to_string())))?;
        let (handle, registration) = SubscriptionHandle::new_pair();
        self.streams.push(Abortable::new(Tagged { tag, subscriber }, registration));
        Ok(handle)
    }

    /// Publishes, perhaps with a subject for the answer. That the server takes it is not said either.
    pub(super) async fn publish(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: Option<&Headers>,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let subject = subject.to_owned();
        let published = match (reply.map(str::to_owned), headers.map(for_library)) {
            (None, None) => self.client.publish(subject, payload).await,
            (None, Some(headers)) => self.client.publish_with_headers(subject, headers, payload).await,
            (Some(reply), None) => self.client.publish_with_reply(subject, reply, payload).await,
            (Some(reply), Some(headers)) => {
                self.client.publish_with_reply_and_headers(subject, reply, headers, payload).await
            }
        };
        published.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => PublishError::TooBig,
            _ => PublishError::Closed(error.to_string()),
        })
    }

    /// Waits until something comes, `wake` is notified, or `timeout` has passed.
    pub(super) async fn next(&mut self, wake: &Notify, timeout: Duration) -> Arrivals<T> {
        let mut arrivals = Arrivals { messages: Vec::new(), events: Vec::new() };
        let (mut notified, mut slept) = (pin!(wake.notified()), pin!(tokio::time::sleep(timeout)));
        std::future::poll_fn(|context| {
            let is_due = notified.as_mut().poll(context).is_ready() | slept.as_mut().poll(context).is_ready();
            self.take(&mut arrivals, context);
            let is_empty = arrivals.messages.is_empty() && arrivals.events.is_empty();
            if is_due || !is_empty { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        arrivals
    }

    /// What the library tells of that came before what was received last: it passes events on in a task of its own, which has run
    /// when this returns.
    pub(super) async fn settled_events(&mut self) -> Vec<LinkEvent> {
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
        std::iter::from_fn(|| self.events.try_recv().ok()).filter_map(of_library).collect()
    }

    /// All messages that are left. For a connection that has ended, so that none is added.
    pub(super) fn drain(&mut self) -> Vec<(T, Vec<Message>)> {
        let mut context = Context::from_waker(Waker::noop());
        let mut messages = Vec::new();
        for stream in self.streams.iter_mut() {
            while let Poll::Ready(Some(batch)) = stream.poll_next_unpin(&mut context) {
                messages.push(batch);
            }
        }
        messages
    }

    fn take(&mut self, arrivals: &mut Arrivals<T>, context: &mut Context<'_>) {
        let mut left = TURN_MESSAGES_MAX;
        while 0 < left
            && let Poll::Ready(Some(batch)) = self.streams.poll_next_unpin(context)
        {
            left = left.saturating_sub(batch.1.len());
            arrivals.messages.push(batch);
        }
        while let Poll::Ready(Some(event)) = self.events.poll_recv(context) {
            arrivals.events.extend(of_library(event));
        }
    }
}

/// `None` if nobody has to know.
fn of_library(event: Event) -> Option<LinkEvent> {
    match event {
        Event::Disconnected | Event::Closed => Some(LinkEvent::Closed(None)),
        Event::SlowConsumer(_) | Event::ServerError(ServerError::SlowConsumer(_)) => Some(LinkEvent::Overrun),
        Event::ServerError(ServerError::Other(text)) => Some(LinkEvent::Error(text)),
        Event::ServerError(ServerError::AuthorizationViolation) => {
            Some(LinkEvent::Error("Authorization Violation".to_owned()))
        }
        Event::Connected | Event::LameDuckMode | Event::Draining | Event::ClientError(_) => None,
    }
}

fn for_library(headers: &Headers) -> HeaderMap {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers.block().lines().fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(text(name), text(value));
        map
    })
}

fn received(message: async_nats::Message) -> Message {
    let pairs = |headers: HeaderMap| {
        let pairs = headers.iter().flat_map(|(name, values)| {
            let name = name.to_string();
            values.iter().map(move |value| (name.clone(), value.as_str().to_owned())).collect::<Vec<_>>()
        });
        let pairs: Vec<_> = pairs.collect();
        Headers::of(pairs.iter().map(|(name, value)| (&**name, &**value)))
    };
    Message {
        subject: message.subject.as_str().into(),
        reply: message.reply.map(|reply| reply.as_str().into()),
        headers: message.headers.map(pairs),
        status: message.status.map(|status| status.as_u16()),
        description: message.description.map(Into::into),
        payload: message.payload,
        is_oversize: false,
    }
}

impl<T: Clone + Unpin> Stream for Tagged<T> {
    type Item = (T, Vec<Message>);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut batch = Vec::new();
        while batch.len() < TURN_MESSAGES_MAX {
            match self.subscriber.poll_next_unpin(context) {
                Poll::Ready(Some(message)) => batch.push(received(message)),
                Poll::Ready(None) if batch.is_empty() => return Poll::Ready(None),
                Poll::Pending if batch.is_empty() => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(Some((self.tag.clone(), batch)))
    }
}
