//! Which topics the streams have, and how far logs were carried into them: what a bridge asks.

use std::{collections::BTreeSet, io};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{
    api::{Api, Refused, StreamInfo, read},
    config::{StreamSpec, subject},
    link::JetLink,
    pages::{Newest, NewestBounds, Stored, SubjectReader},
};
use crate::{
    event::digest,
    source::{
        CarriedUpto, LogCatalog,
        nats::{
            Connector, Fault,
            link::Message,
            message::{EventHeaders, carried_upto, gap_of},
        },
    },
    topic::{Pattern, Topic},
};

/// So many of a topic's newest messages are searched for one that a bridge has carried: others may publish there, too.
const SEARCHED_COUNT: usize = 1024;
const SEARCHED_BYTES: usize = 16 << 20;

/// Asks through a connection of its own, which it opens when it needs one.
pub(super) struct SubjectCatalog {
    runtime: tokio::runtime::Runtime,
    api: Api,
    specs: Vec<StreamSpec>,
    connector: Connector,
    link: Option<JetLink>,
}

/// How many messages a stream has on which subjects.
#[derive(Deserialize)]
struct SubjectPage {
    #[serde(default)]
    total: usize,
    state: SubjectCounts,
}

#[derive(Deserialize)]
struct SubjectCounts {
    #[serde(default)]
    subjects: std::collections::HashMap<String, u64>,
}

/// Why there is no answer, in words.
struct Unanswered(String);

impl From<Fault> for Unanswered {
    fn from(fault: Fault) -> Self {
        Self(fault.to_string())
    }
}

impl From<Refused> for Unanswered {
    fn from(refused: Refused) -> Self {
        Self(refused.to_string())
    }
}

impl SubjectCatalog {
    pub(super) fn new(api: Api, specs: &[StreamSpec], connector: Connector) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, api, specs: specs.to_vec(), connector, link: None })
    }

    /// Asks `question` through a connection, which is kept if it has served. One that was idle may have broken unnoticed, and is
    /// replaced once.
    fn ask<T>(
        &mut self,
        question: impl AsyncFn(&mut JetLink, &Api, &[StreamSpec]) -> Result<T, Unanswered>,
    ) -> Result<T, String> {
        let (api, specs, connector) = (&self.api, &self.specs, &self.connector);
        let kept = self.link.take();
        let (link, answer) = self.runtime.block_on(async {
            if let Some(mut link) = kept
                && let Ok(answer) = question(&mut link, api, specs).await
            {
                return (Some(link), Ok(answer));
            }
            let login = connector.login();
            match JetLink::open(connector, &login).await {
                Ok(mut link) => match question(&mut link, api, specs).await {
                    Ok(answer) => (Some(link), Ok(answer)),
                    Err(Unanswered(why)) => (None, Err(why)),
                },
                Err(fault) => (None, Err(fault.to_string())),
            }
        });
        self.link = link;
        answer
    }
}

impl LogCatalog for SubjectCatalog {
    fn topics(&mut self, patterns: &[Pattern]) -> Result<Vec<Topic>, String> {
        self.ask(async |link, api, specs| {
            let mut found = BTreeSet::new();
            for spec in specs {
                for pattern in patterns {
                    list(link, api, spec, &subject(pattern), &mut found).await?;
                }
            }
            Ok(found.into_iter().collect())
        })
    }

    fn carried(&mut self, topic: &Topic, origin: &str) -> Result<Option<CarriedUpto>, String> {
        self.ask(async |link, api, specs| {
            let Some(spec) = specs.iter().find(|spec| spec.keeps(topic)) else { return Ok(None) };
            for count in [1, SEARCHED_COUNT] {
                let newest = newest(link, api, &spec.name, topic.as_str(), count).await?;
                let found = newest.messages.iter().rev().find_map(|stored| carried_with(stored, origin));
                if found.is_some() || newest.is_all {
                    return Ok(found);
                }
            }
            Ok(None)
        })
    }
}

/// The topics of a stream under `filter`, in as many pages as the server makes of them.
async fn list(
    link: &mut JetLink,
    api: &Api,
    spec: &StreamSpec,
    filter: &str,
    found: &mut BTreeSet<Topic>,
) -> Result<(), Unanswered> {
    let mut offset = 0;
    loop {
        let request = json!({ "subjects_filter": filter, "offset": offset }).to_string();
        let page: SubjectPage = read(&link.request(api.stream_info(&spec.name), request.into()).await??)?;
        let subjects = page.state.subjects;
        offset += subjects.len();
        let is_end = subjects.is_empty() || page.total <= offset;
        found.extend(subjects.keys().filter_map(|subject| Topic::parse(subject).ok()));
        if is_end {
            return Ok(());
        }
    }
}

async fn newest(
    link: &mut JetLink,
    api: &Api,
    stream: &str,
    subject: &str,
    count: usize,
) -> Result<Newest, Unanswered> {
    let info: StreamInfo = read(&link.request(api.stream_info(stream), Bytes::new()).await??)?;
    let reader = SubjectReader::open(link, api, stream, subject, 1).await??;
    let bounds = NewestBounds { count, bytes: SEARCHED_BYTES, since: 0 };
    Ok(Newest::read(reader, link, api, (subject, info.state.last_seq), bounds).await??)
}

/// How far the log `origin` is carried with this message, if it is of that log.
fn carried_with(stored: &Stored, origin: &str) -> Option<CarriedUpto> {
    let message: &Message = &stored.message;
    let id = carried_upto(message, origin)?;
    let kind = EventHeaders::of(message).kind;
    let content = gap_of(message).is_none().then(|| digest(kind.as_deref(), &message.payload));
    Some(CarriedUpto { id, content })
}
