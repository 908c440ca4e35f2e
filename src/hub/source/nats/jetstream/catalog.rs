//! Which topics the streams have: what a bridge asks.

use std::{collections::BTreeSet, io};

use serde::Deserialize;
use serde_json::json;

use super::{
    api::{Api, Refused, read},
    config::{StreamSpec, subject},
    link::JetLink,
};
use crate::{
    source::{
        LogCatalog,
        nats::{Connector, Fault},
    },
    topic::{Pattern, Topic},
};

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
