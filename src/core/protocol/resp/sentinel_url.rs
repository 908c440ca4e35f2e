//! URLs that name Redis Sentinels instead of a Redis server.

use std::fmt;

/// `redis+sentinel://[user:password@]host[:port][,host[:port]…]/service[/db][?…]`, or `rediss+sentinel://…`, in its parts.
/// The login is the server's, not the sentinels'. `Debug` does not show it.
pub struct SentinelUrl<'u> {
    /// `redis` or `rediss` (TLS), for the server and for each sentinel.
    pub scheme: &'static str,
    /// The sentinels, each `host:port`, at least one. Their syntax is not checked here.
    pub hosts: Vec<String>,
    /// The name under which the sentinels watch the server.
    pub service: &'u str,
    /// `user:password`, encoded as it was; empty for none.
    login: &'u str,
    /// What follows the service, without the slash; empty for the default.
    database: &'u str,
    /// With its question mark or number sign; empty for none.
    query: &'u str,
}

/// The port of a sentinel whose URL names none.
const SENTINEL_PORT: u16 = 26379;

impl<'u> SentinelUrl<'u> {
    /// Parses `text`; `None` if it does not name sentinels. The error says what is missing and quotes nothing of the text.
    pub fn parse(text: &'u str) -> Option<Result<Self, &'static str>> {
        let (scheme, rest) = match text.split_once("+sentinel://") {
            Some(("redis", rest)) => ("redis", rest),
            Some(("rediss", rest)) => ("rediss", rest),
            _ => return None,
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (path, query) = path.split_at(path.find(['?', '#']).unwrap_or(path.len()));
        let (service, database) = path.split_once('/').unwrap_or((path, ""));
        if service.is_empty() || !service.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            return Some(Err("the name of the service that the sentinels watch is missing: …host:port/service"));
        }
        let hosts = hosts.split(',').map(with_port).collect();
        Some(Ok(Self { scheme, hosts, service, login, database, query }))
    }

    /// The URL of a server at `host`, `host:port`, with the login and the database.
    pub fn server_url(&self, host: &str) -> String {
        let Self { scheme, login, database, query, .. } = self;
        let at = if login.is_empty() { "" } else { "@" };
        format!("{scheme}://{login}{at}{host}/{database}{query}")
    }

    /// The URL of a sentinel at `host`, `host:port`, without a login.
    pub fn sentinel_url(&self, host: &str) -> String {
        format!("{}://{host}", self.scheme)
    }
}

impl fmt::Debug for SentinelUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, hosts, service, database, .. } = self;
        write!(f, "SentinelUrl({scheme} {hosts:?} {service} {database})")
    }
}

/// `host` with a sentinel's usual port, if it has none. The colons in an IPv6 address stand before a bracket.
fn with_port(host: &str) -> String {
    let port = host.rsplit_once(':').map(|(_, port)| port);
    match port {
        Some(port) if !port.contains(']') => host.to_owned(),
        _ => format!("{host}:{SENTINEL_PORT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let check = |text: &str, hosts: &[&str], service: &str, server: &str, sentinel: &str| {
            let url = SentinelUrl::parse(text).expect("it names sentinels").expect("it is whole");
            assert_eq!(url.hosts, hosts, "{text}");
            assert_eq!(url.service, service, "{text}");
            assert_eq!(
                (url.server_url("m:1").as_str(), url.sentinel_url("s:2").as_str()),
                (server, sentinel),
                "{text}"
            );
        };
        check("redis+sentinel://a/main", &["a:26379"], "main", "redis://m:1/", "redis://s:2");
        let all = "rediss+sentinel://me:se%40cret@a:7,[::1],[::1]:8/my.main/3?protocol=resp3";
        let hosts = ["a:7", "[::1]:26379", "[::1]:8"];
        check(all, &hosts, "my.main", "rediss://me:se%40cret@m:1/3?protocol=resp3", "rediss://s:2");
        let shown = format!("{:?}", SentinelUrl::parse(all));
        assert!(shown.contains("my.main") && !shown.contains("cret"), "{shown}");
    }

    #[test]
    fn what_is_no_such_url() {
        for other in ["", "redis://h", "rediss://h/1", "http+sentinel://h/s", "unix:///run/r.sock"] {
            assert!(SentinelUrl::parse(other).is_none(), "{other}");
        }
        for bad in ["redis+sentinel://h", "redis+sentinel://h/", "redis+sentinel://h//1", "redis+sentinel://h/a%20b"] {
            assert!(SentinelUrl::parse(bad).is_some_and(|url| url.is_err()), "{bad}");
        }
    }
}
