//! The routes of all APIs, in the order in which they are matched.

use super::{
    Application, Context, Route,
    compat::{esp, event_streams, iot_pods},
    native,
    socket_io::{self, events},
};

/// The hub's own application. It answers no `Dialect::Messages` connection: all its
/// dialects are its own.
pub static HUB: Application = Application { routes: ROUTES, answer_message: |_, _| None, sockets: events::HANDLERS };

/// The first route that matches decides. A topic may have any name, so patterns that begin with a topic come last.
static ROUTES: &[&[Route]] =
    &[native::ROUTES, event_streams::ROUTES, socket_io::ROUTES, native::SIGN_IN_ROUTES, esp::ROUTES, iot_pods::ROUTES];

/// The first route that matches `path` at this listener, and the text that stands for the `{topic}` of its pattern.
pub(super) fn find_route<'path>(path: &'path str, context: &Context<'_>) -> Option<(&'static Route, &'path str)> {
    let tables = context.hub.application().routes.iter();
    let mut routes = tables.flat_map(|table| table.iter()).filter(|route| route.is_served(context));
    routes.find_map(|route| Some((route, route.match_path(path)?)))
}
