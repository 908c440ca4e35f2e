//! Endpoints: what each URL does. A handler takes a request and its context and returns an [`Answer`]; it never sees a socket.
//!
//! A file uses its own floor and those below it (`tests/arrows/floors.rs`):
//! 1. What a handler gets and returns: the hub's handle ([`hub`]), [`context`], [`route`], [`mod@answer`], [`work`], [`completion`],
//!    [`responder`].
//! 2. [`gate`]: what every request passes. Who asks, from which page, and whether there is room.
//! 3. [`batch`]: many events in one request.
//! 4. The APIs: [`native`], [`socket_io`], and [`compat`] with one folder for each system that the hub replaces.
//! 5. [`routes`], [`dispatch`] and [`admission`]: the table of all routes, and the way from a request to its answer.

mod admission;
mod answer;
mod batch;
mod checked_event;
mod compat;
mod completion;
mod context;
mod dispatch;
mod error_form;
mod extensions;
mod gate;
mod hub;
mod native;
mod responder;
mod route;
mod routes;
mod socket_io;
mod work;

pub use answer::{Answer, EngineAction, EngineRequest, OpenStream};
pub use compat::{CompatApi, CompatApis, esp::wells::Esp};
pub use completion::{AnswerForm, ReceiptWaiter};
pub use context::{AuditedRequest, Context, Overload};
pub use dispatch::answer;
pub(crate) use gate::access::count_forbidden_work;
pub use gate::{cors::Cors, origin::Hosts};
pub use hub::{Application, Config, Hub, MessageHandler, ShutdownPhase};
pub use route::{Handler, Route, public_route};
pub use routes::HUB;
pub use socket_io::{
    application::{
        ConnectAccepted, ConnectRefused, Emit, SocketAction, SocketClient, SocketEvent, SocketHandlers,
        SocketPublication,
    },
    engine_io::open as open_engine,
    recovery::Recovery,
};
pub use work::{OpenWork, Step, Work};

pub(crate) use admission::{BodySender, admit_body, refuse_body, refuse_request};
pub(crate) use compat::{
    esp::telemetry::Telemetry,
    event_streams::{BroadcastQueue, DemoGenerators, command_topics, demo_streams},
};
pub(crate) use completion::Completion;
pub(crate) use gate::{
    overload::STREAMS_USED_UP,
    publish::{complete_frames, complete_request},
};
pub(crate) use native::{
    command::{CommandOutcome, answer_command, answer_long_command},
    fleet::own_heartbeat,
};
pub(crate) use socket_io::{
    application::{publish_for_socket, write_messages},
    engine_io::EngineRefusal,
    recovery::{RecoveredClient, SavedClient, recover},
};

use checked_event::CheckedEvent;
use responder::Responder;
