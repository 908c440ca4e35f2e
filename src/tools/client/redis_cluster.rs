//! Finding the node of a Redis Cluster that has a channel.

use redis::RedisError;

/// The nodes that a URL names: `redis+cluster://[user:password@]host[:port][,host[:port]…]`, or `rediss+cluster://…`.
pub(crate) struct ClusterNodes {
    /// `redis` or `rediss`.
    scheme: String,
    /// `user:password`, encoded as it was; empty for none.
    login: String,
    hosts: Vec<String>,
}

impl ClusterNodes {
    /// `None` if `url` names no cluster. The error quotes nothing of the URL.
    pub(crate) fn parse(url: &str) -> Option<Result<Self, String>> {
        let (scheme, rest) =
            url.split_once("+cluster://").filter(|(scheme, _)| ["redis", "rediss"].contains(scheme))?;
        // A password may hold a slash, but not an `@`.
        let (login, hosts) = rest.rsplit_once('@').unwrap_or(("", rest));
        let hosts = hosts.strip_suffix('/').unwrap_or(hosts);
        if hosts.contains('/') {
            return Some(Err("a cluster has one database only: leave out what follows the nodes".to_owned()));
        }
        let hosts: Vec<String> = hosts.split(',').map(str::to_owned).collect();
        if hosts.iter().any(String::is_empty) {
            return Some(Err("a node is missing: redis+cluster://host:port,host:port".to_owned()));
        }
        Some(Ok(Self { scheme: scheme.to_owned(), login: login.to_owned(), hosts }))
    }

    /// The URLs of the nodes that are named.
    pub(crate) fn urls(&self) -> impl Iterator<Item = (&str, String)> {
        self.hosts.iter().map(|host| (host.as_str(), self.url_of(host)))
    }

    /// The URL of a node, with the login.
    pub(crate) fn url_of(&self, host: &str) -> String {
        let at = if self.login.is_empty() { "" } else { "@" };
        format!("{}://{}{at}{host}", self.scheme, self.login)
    }
}

/// The node that has the slot, as the node at `asked` says (`MOVED`); `None` if it says something else. It may leave out its own host.
pub(crate) fn moved_to(error: &RedisError, asked: &str) -> Option<String> {
    let detail = error.detail().filter(|_| error.code() == Some("MOVED"))?;
    let (host, port) = detail.split(' ').nth(1)?.rsplit_once(':')?;
    let own = || asked.rsplit_once(':').map_or(asked, |(host, _)| host);
    let host = match host {
        "" | "?" => own().to_owned(),
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        host => host.to_owned(),
    };
    Some(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_a_url() {
        let check = |url: &str, expected: &[&str]| {
            let nodes = ClusterNodes::parse(url).expect("a cluster").expect("a good URL");
            assert_eq!(nodes.urls().map(|(_, url)| url).collect::<Vec<_>>(), expected, "{url}");
        };
        check("redis+cluster://a,b:1", &["redis://a", "redis://b:1"]);
        check("rediss+cluster://me:s/cret@[::1]:7/", &["rediss://me:s/cret@[::1]:7"]);
        for other in ["redis://a", "http+cluster://a", "redis+sentinel://a/main"] {
            assert!(ClusterNodes::parse(other).is_none(), "{other}");
        }
        for bad in ["redis+cluster://", "redis+cluster://a,,b", "redis+cluster://a/3"] {
            assert!(ClusterNodes::parse(bad).is_some_and(|nodes| nodes.is_err()), "{bad}");
        }
    }

    #[test]
    fn where_a_slot_is() {
        let check = |text: &str, expected: Option<&str>| {
            let answer = redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).expect("an answer");
            let redis::Value::ServerError(error) = answer else { panic!("{answer:?}") };
            assert_eq!(moved_to(&error.into(), "node:7000").as_deref(), expected, "{text}");
        };
        check("MOVED 1 10.0.0.1:7001", Some("10.0.0.1:7001"));
        check("MOVED 1 :7001", Some("node:7001"));
        check("MOVED 1 ::1:7001", Some("[::1]:7001"));
        check("ASK 1 10.0.0.1:7001", None);
        check("MOVED 1", None);
        check("ERR MOVED 1 a:1", None);
    }
}
