//! The greeting of a connection: `HELLO 3` with the login, or `AUTH` and `CLIENT SETNAME` where the server knows no RESP3; then what
//! role the server has.

use super::{CLIENT_NAME, ExpectedReply, PubSubSession, RoleQuestion, SessionStage};
use crate::{
    clock::Moment,
    protocol::resp::Reply,
    source::redis::{
        RedisUrl, Role,
        error_codes::is_denial,
        pubsub::{fault::Fault, subscriptions::Subscriptions},
    },
};

impl PubSubSession {
    pub(super) fn say_hello(&mut self, url: &RedisUrl) {
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = url.password() {
            // Redis calls the user that a password alone logs in as "default".
            hello.extend([b"AUTH", url.username().unwrap_or("default").as_bytes(), password.as_bytes()]);
        }
        hello.extend([b"SETNAME".as_slice(), CLIENT_NAME]);
        self.send(&hello, ExpectedReply::Hello);
    }

    pub(super) fn greet_in_resp2(&mut self, url: &RedisUrl) {
        self.stage = SessionStage::GreetingInResp2;
        match (url.username(), url.password()) {
            (Some(name), Some(password)) => {
                self.send(&[b"AUTH", name.as_bytes(), password.as_bytes()], ExpectedReply::Step { needed: true });
            }
            (None, Some(password)) => self.send(&[b"AUTH", password.as_bytes()], ExpectedReply::Step { needed: true }),
            (_, None) => {}
        }
        self.send(&[b"CLIENT", b"SETNAME", CLIENT_NAME], ExpectedReply::Step { needed: false });
        // The last step: its answer shows that the login is accepted, even if access rules forbid to choose a name.
        self.send(&[b"PING"], ExpectedReply::Step { needed: true });
    }

    pub(super) fn ask_role(&mut self) {
        match self.role_question {
            Some(RoleQuestion::Role) => self.send(&[b"ROLE"], ExpectedReply::Role(RoleQuestion::Role)),
            Some(RoleQuestion::Hello) => self.send(&[b"HELLO"], ExpectedReply::Role(RoleQuestion::Hello)),
            None => {}
        }
    }

    /// Takes the answer to `question`. Fails if the server is not, or no longer, one to use.
    pub(super) fn on_role(&mut self, question: RoleQuestion, reply: &Reply<'_>) -> Result<(), Fault> {
        let role = match (question, reply) {
            (_, Reply::Error(text)) if !is_denial(text) => return Err(Fault::Rejected((*text).to_owned())),
            (RoleQuestion::Role, Reply::Error(_)) => {
                let is_told = self.greeted_role != Role::Unknown;
                self.role_question = is_told.then_some(RoleQuestion::Hello);
                Some(self.greeted_role)
            }
            (RoleQuestion::Hello, Reply::Error(_)) => {
                self.role_question = None;
                Some(Role::Unknown)
            }
            (RoleQuestion::Role, reply) => Role::of_reply(reply),
            (RoleQuestion::Hello, reply) => Some(hello_role(reply)),
        };
        let role = role.ok_or_else(|| Fault::BadReply("ROLE is answered by a list".to_owned()))?;
        role.check(self.allow_replica).map_err(Fault::Unfit)
    }

    /// Channels are the same in every database, so the URL's database needs no `SELECT` here.
    pub(super) fn become_ready(&mut self, subscriptions: &mut Subscriptions, now: Moment) {
        let resp3 = self.stage == SessionStage::Greeting;
        self.stage = SessionStage::Ready;
        self.next_ping = now;
        if !resp3 {
            self.role_question = None;
        } else if !self.has_lost_probe() {
            // RESP2 has no publishing on a connection that subscribes.
            self.subscribe_probe();
        }
        // What is read of a cluster comes from many servers, in no common order. In RESP2 nothing can be asked or published.
        if !resp3 || self.is_sharded() || self.is_cluster_node {
            self.marks.switch_off();
        } else if self.marks.are_on() {
            self.subscribe_marks();
        }
        subscriptions.on_connected();
    }
}

/// What the server is by its answer to `HELLO`.
pub(super) fn hello_role(answer: &Reply<'_>) -> Role {
    hello_field(answer, b"role").map_or(Role::Unknown, Role::of_hello)
}

/// What the answer to `HELLO` has under `name`.
pub(super) fn hello_field<'a>(answer: &Reply<'a>, name: &[u8]) -> Option<&'a [u8]> {
    let Reply::Map(pairs) = answer else { return None };
    pairs.iter().find_map(|(found, value)| match (found, value) {
        (Reply::Bulk(Some(found)), Reply::Bulk(Some(value))) if *found == name => Some(*value),
        _ => None,
    })
}
