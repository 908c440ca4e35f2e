//! The flags by which all tools reach a hub or Redis.

use clap::Args;

use super::{
    access::HubAccess,
    credential::{CredentialOptions, Header},
    flag::unshown,
    redis::{RedisTarget, RedisUrl},
    tls::{TlsClient, TlsOptions},
    url::HubUrl,
};

/// What `--help` calls these flags.
const ACCESS: &str = "Access";

/// The flags by which all tools sign in at a hub and check its certificate.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = ACCESS)]
pub(crate) struct AccessOptions {
    #[command(flatten)]
    credentials: CredentialOptions,
    /// Add this header to each request; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = unshown(Header::parse))]
    headers: Vec<Header>,
    #[command(flatten)]
    tls: TlsOptions,
}

impl AccessOptions {
    /// The hub at `url` with the credentials, headers and TLS settings of the flags and the environment. Reads the files that they
    /// name. The error names the flag.
    pub(crate) fn hub(&self, url: &HubUrl) -> Result<HubAccess, String> {
        let credential = match self.headers.iter().find(|header| header.signs_in()) {
            None => self.credentials.resolve()?,
            Some(header) if self.credentials.named()?.is_some() => {
                return Err(format!("--header {} is a second way to sign in: leave one of them out", header.name()));
            }
            Some(_) => None,
        };
        let headers = self.headers.iter().cloned().map(Header::into_pair);
        let tls = url.tls_host().map(|host| TlsClient::new(host, &self.tls)).transpose()?;
        Ok(HubAccess::new(url.clone(), credential, headers, tls))
    }

    /// The Redis at `url`, whose certificate is checked as a hub's is. Reads the files that the flags name.
    pub(crate) fn redis(&self, url: &RedisUrl) -> Result<RedisTarget, String> {
        RedisTarget::new(url.clone(), &self.tls)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        access: AccessOptions,
    }

    fn parse(arguments: &[&str]) -> Result<AccessOptions, String> {
        let parsed = CommandLine::try_parse_from(["tool"].iter().chain(arguments));
        parsed.map(|line| line.access).map_err(|error| error.to_string())
    }

    fn hub(arguments: &[&str]) -> Result<HubAccess, String> {
        parse(arguments)?.hub(&"http://hub:1".parse().expect("a good URL"))
    }

    #[test]
    fn requests_carry_what_the_flags_say() {
        let folder = std::env::temp_dir().join(format!("fanfare-access-{}", std::process::id()));
        std::fs::write(&folder, "t.o.k\n").expect("a temporary file");
        let path = folder.to_str().expect("UTF-8").to_owned();
        let check = |arguments: &[&str], expected: &[(&str, &str)]| {
            let hub = hub(arguments).expect("good flags");
            assert_eq!(hub.headers().collect::<Vec<_>>(), expected, "{arguments:?}");
        };
        check(&[], &[]);
        check(&["--token", "t.o.k"], &[("Authorization", "Bearer t.o.k")]);
        check(&["--token-file", &path], &[("Authorization", "Bearer t.o.k")]);
        check(&["--api-key", "k", "--header", "X-A:  b c "], &[("X-API-Key", "k"), ("X-A", "b c")]);
        check(&["--header", "authorization: Basic x"], &[("authorization", "Basic x")]);
        std::fs::remove_file(folder).expect("it was just written");
    }

    #[test]
    fn a_token_is_read_anew_from_its_file() {
        let path = std::env::temp_dir().join(format!("fanfare-rotated-{}", std::process::id()));
        let rotate = |token: &str| std::fs::write(&path, token).expect("a temporary file");
        rotate("first");
        let flags = ["--token-file", path.to_str().expect("UTF-8"), "--header", "X-A: b"];
        let mut hub = hub(&flags).expect("good flags");
        let check = |hub: &HubAccess, token: &str| {
            assert_eq!(
                hub.headers().collect::<Vec<_>>(),
                [("Authorization", &*format!("Bearer {token}")), ("X-A", "b")]
            );
        };
        check(&hub, "first");
        rotate("second\n");
        assert_eq!(hub.renew(), Ok(true));
        check(&hub, "second");
        // One that is being written, or gone.
        rotate("");
        assert!(hub.renew().is_err_and(|error| error.contains("not a token")));
        std::fs::remove_file(&path).expect("it was just written");
        assert!(hub.renew().is_err_and(|error| error.contains("No such file")));
        check(&hub, "second");
    }

    #[test]
    fn a_pipe_is_read_once() {
        use std::{io::Write, os::fd::AsRawFd};
        let (reader, mut writer) = io::pipe().expect("pipes can be had");
        writer.write_all(b"t.o.k\n").expect("it has room");
        drop(writer);
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let mut hub = hub(&["--token-file", &path]).expect("good flags");
        assert_eq!(hub.renew(), Ok(false));
        assert_eq!(hub.headers().collect::<Vec<_>>(), [("Authorization", "Bearer t.o.k")]);
    }

    #[test]
    fn errors_say_what_to_do_and_show_no_secret() {
        let check = |arguments: &[&str], expected: &str| {
            let error = hub(arguments).expect_err("bad flags");
            assert!(error.contains(expected) && !error.contains("s3cret"), "{arguments:?}: {error}");
        };
        check(&["--token", "s3cret s3cret"], "invalid value for '--token <TOKEN>': it must be printable ASCII");
        check(&["--token", ""], "--token <TOKEN>");
        check(&["--api-key", "s3crét"], "invalid value for '--api-key <KEY>'");
        check(&["--header", "s3cret"], "invalid value for '--header <NAME: VALUE>': expected NAME: VALUE");
        check(&["--header", "X: s3cret\r\nY: z"], "on one line");
        check(&["--header", "X Y: s3cret"], "on one line");
        for own in ["Host", "content-length", "Sec-WebSocket-Key"] {
            check(&["--header", &format!("{own}: s3cret")], "is written by the tool itself");
        }
        check(&["--token", "s3cret", "--token-file", "f"], "cannot be used with");
        check(&["--token", "s3cret", "--api-key", "s3cret"], "cannot be used with");
        check(&["--token", "s3cret", "--header", "Authorization: s3cret"], "a second way to sign in");
        check(&["--token-file", "/nowhere/token"], "--token-file /nowhere/token: No such file");
    }

    #[test]
    fn debugging_shows_no_secret() {
        let options = parse(&["--token", "s3cret", "--header", "X: s3cret"]).expect("good flags");
        let hub = options.hub(&"http://hub:1".parse().expect("a good URL")).expect("good flags");
        assert!(!format!("{options:?} {hub:?}").contains("s3cret"));
    }
}
