//! Checks the configuration as a whole (rules that concern several keys, or files) and makes the [`Config`].

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    address::{Address, Pin, refuse_open},
    bridge::prepare_sources,
    cluster::check_cluster,
    files::Files,
    layers::LayeredConfig,
    log::check_level,
    problem::{ConfigError, Problem},
    raw::{AuthFiles, RawApiKey, RawConfig, RawNatsAuth},
    reload::ConfigSnapshot,
    secret_files,
    topic_sources::{check_kept_by_jetstream, check_ready, check_topic_sources},
    topics::Topics,
    types::{Config, ProxyConfig, ServerConfig, core_count},
};
use crate::{
    audit::{AuditConfig, AuditTarget},
    auth::{ApiKey, AuthRules, Mode, Secrets},
    endpoint::{CompatApi, Cors},
    source::{
        SourcesConfig,
        nats::{NatsAuth, NatsConfig, NatsLogin, NatsLoginFiles, NatsUrl, check_pattern},
        redis::{LoginFiles, RedisConfig, RedisUrl, SentinelLogin},
    },
    store::{self, StoreLogin, StoreUrl},
};

/// A key, and what is wrong with its value.
pub(super) type KeyError = (&'static str, String);

/// Checks `layered` as a whole. Fails with all errors found.
pub(super) fn resolve(layered: &LayeredConfig, files: &Files) -> Result<Config, ConfigError> {
    let LayeredConfig { raw, folder, warnings, .. } = layered;
    let mut wrong = Vec::new();
    check_addresses(raw, &mut wrong);
    check_proxy(&raw.proxy, &mut wrong);
    check_cors(&raw.cors, &mut wrong);
    check_hosts(&raw.server.hosts, &mut wrong);
    check_namespaces(&raw.esp.namespaces, &mut wrong);
    wrong.extend(check_level(&raw.log.level).err().map(|message| ("log.level", message)));
    check_topic_sources(raw, &mut wrong);
    check_kept_by_jetstream(raw, &mut wrong);
    check_ready(raw, &mut wrong);
    check_compat(raw, &mut wrong);
    let redis = resolve_redis(raw, folder, files).unwrap_or_else(|found| {
        wrong.push(found);
        None
    });
    let nats = resolve_nats(raw, folder, files).unwrap_or_else(|found| {
        wrong.push(found);
        None
    });
    let auth = resolve_auth(raw, folder, files).unwrap_or_else(|found| {
        wrong.push(found);
        AuthRules::default()
    });
    let auth = Arc::new(auth);
    let store = resolve_store(raw, folder, files).unwrap_or_else(|found| {
        wrong.push(found);
        None
    });
    let server = resolve_server(&raw.server, &mut wrong);
    let warnings =
        warnings.iter().cloned().chain(secret_files::warnings(raw, folder)).chain(warn_of_audience(raw)).collect();
    let settings = ConfigSnapshot::of(layered, files);
    let demo = raw.demo_enabled.then(|| raw.demo.clone());
    let mut sources =
        SourcesConfig { redis, redis_stream: raw.redis_stream.clone(), nats, jetstream: raw.jetstream.clone(), demo };
    wrong.extend(prepare_sources(raw, &mut sources));
    wrong.extend(check_cluster(raw, sources.redis.as_ref()));
    let audit = resolve_audit(&raw.audit, folder);
    let config = Config { server, sources, auth, store, audit, warnings, settings, ..resolve_rest(raw) };
    if wrong.is_empty() { Ok(config) } else { Err(locate(wrong, layered)) }
}

fn locate(wrong: Vec<KeyError>, layered: &LayeredConfig) -> ConfigError {
    let problems = wrong.into_iter().map(|(key, message)| match layered.sources.get(key) {
        Some(source) => Problem { source: Some(source.clone()), message },
        None => Problem { source: None, message: format!("{key}: {message}") },
    });
    ConfigError::new(problems.collect())
}

/// The parts of the configuration that are taken over as they are.
fn resolve_rest(raw: &RawConfig) -> Config {
    let classes = raw.classes.iter();
    let classes = classes.filter_map(|class| Some((class.matching.pattern()?.clone(), class.source.of(&class.class))));
    Config {
        server: ServerConfig::default(),
        compat: raw.compat.clone(),
        admin: raw.admin.clone(),
        limits: raw.limits.clone(),
        topics: Topics { default: raw.default_class.clone(), classes: classes.collect(), source: raw.default_source.0 },
        sources: SourcesConfig::default(),
        auth: Arc::default(),
        bridge: raw.bridge.clone(),
        quotas: raw.quotas.clone(),
        store: None,
        ready: raw.ready.clone(),
        proxy: raw.proxy.clone(),
        cors: raw.cors.clone(),
        sse: raw.sse.clone(),
        esp: raw.esp.clone(),
        websocket: raw.websocket.clone(),
        engine: raw.engine,
        log: raw.log.clone(),
        audit: raw.audit.clone(),
        drain: raw.drain.clone(),
        fleet: raw.fleet.clone(),
        warnings: Vec::new(),
        settings: ConfigSnapshot::default(),
    }
}

/// A file is looked for beside the configuration's own.
fn resolve_audit(raw: &AuditConfig, folder: &Path) -> AuditConfig {
    let to = match &raw.to {
        AuditTarget::File(path) => AuditTarget::File(folder.join(path)),
        other => other.clone(),
    };
    AuditConfig { to, ..raw.clone() }
}

fn resolve_server(raw: &ServerConfig, wrong: &mut Vec<KeyError>) -> ServerConfig {
    let mut server = raw.clone();
    if let Pin::Cores(cores) = &raw.pin
        && cores.len() < raw.reactors
    {
        wrong.push(("server.pin", format!("{} reactors need as many cores, not {}", raw.reactors, cores.len())));
    }
    if server.reactors == 0 {
        server.reactors = match &server.pin {
            Pin::Cores(cores) => cores.len(),
            Pin::Off | Pin::Automatic => core_count(),
        };
    }
    server
}

fn check_addresses(raw: &RawConfig, wrong: &mut Vec<KeyError>) {
    if raw.server.listen.is_empty() {
        wrong.push(("server.listen", "the hub needs an address to listen at".into()));
    }
    let listed = [("server.listen", &raw.server.listen), ("admin.listen", &raw.admin.listen)];
    let mut seen: Vec<&Address> = Vec::new();
    for (key, address) in listed.into_iter().flat_map(|(key, list)| list.iter().map(move |address| (key, address))) {
        if seen.contains(&address) && !matches!(address, Address::Tcp(tcp) if tcp.port() == 0) {
            wrong.push((key, format!("{address} is listed twice")));
        }
        if !address.is_local() && !raw.server.insecure && raw.auth.mode == Mode::None {
            wrong.push((key, refuse_open(address)));
        }
        seen.push(address);
    }
}

fn check_proxy(proxy: &ProxyConfig, wrong: &mut Vec<KeyError>) {
    if proxy.proxy_protocol && proxy.trusted.0.is_empty() {
        wrong.push(("proxy.proxy_protocol", "name the proxies in `proxy.trusted`: nobody else is believed".into()));
    }
}

fn check_cors(cors: &Cors, wrong: &mut Vec<KeyError>) {
    for origin in &cors.allow_origins {
        if origin != "*" && !is_origin(origin) {
            let message =
                format!("`{origin}` is not an origin: write a scheme and a host, such as https://example.org");
            wrong.push(("cors.allow_origins", message));
        }
    }
    let names_none = cors.allow_origins.iter().all(|origin| origin == "*");
    if cors.allow_credentials && (names_none || cors.allow_origins.iter().any(|origin| origin == "*")) {
        let message = "with credentials each origin must be named in `cors.allow_origins`: browsers refuse `*`";
        wrong.push(("cors.allow_credentials", message.into()));
    }
}

fn check_hosts(hosts: &[String], wrong: &mut Vec<KeyError>) {
    let is_name = |host: &str| {
        !host.is_empty() && host.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._:".contains(letter))
    };
    for host in hosts.iter().filter(|host| *host != "*") {
        let name = host.strip_prefix("*.").unwrap_or(host);
        let has_port = name.parse::<std::net::IpAddr>().is_err() && name.contains(':');
        if !is_name(name) || has_port {
            let message = format!("`{host}` is no host: write its name alone, such as hub.example or *.hub.example");
            wrong.push(("server.hosts", message));
        }
    }
}

fn check_namespaces(namespaces: &[String], wrong: &mut Vec<KeyError>) {
    for namespace in namespaces.iter().filter(|namespace| !namespace.starts_with('/') || namespace.contains(',')) {
        let message = format!("`{namespace}` is no namespace: it begins with a slash, and has no comma");
        wrong.push(("esp.namespaces", message));
    }
}

/// An origin as a browser serialises it (RFC 6454 section 6.2): lower case, no path, no slash at the end.
/// Or all of a domain's, with `*` for the first label.
fn is_origin(text: &str) -> bool {
    let text = text.replacen("://*.", "://any.", 1);
    text == "null"
        || text.split_once("://").is_some_and(|(scheme, host)| {
            let plain = |letter: char| letter.is_ascii_graphic() && !letter.is_ascii_uppercase();
            !scheme.is_empty()
                && !host.is_empty()
                && text.chars().all(plain)
                && !host.contains(['/', '?', '#', '@', '*'])
                && host != "any."
        })
}

/// Keys of a compatibility API that `compat` does not list would have no effect.
fn check_compat(raw: &RawConfig, wrong: &mut Vec<KeyError>) {
    let store = if raw.store_url_file.is_some() { "store.url_file" } else { "store.url" };
    let parts = [
        (raw.demo_enabled, CompatApi::EventStreams, "demo.enabled", "events are made up for streams of that API alone"),
        (has_store(raw), CompatApi::Esp, store, "the database keeps what comes in by that API alone"),
    ];
    for (is_wanted, api, key, why) in parts {
        if is_wanted && !raw.compat.has(api) {
            wrong.push((
                key,
                format!("it needs the API `{api}`, which compat leaves out: {why}. Add it, or unset this key"),
            ));
        }
    }
}

pub(super) fn has_store(raw: &RawConfig) -> bool {
    !raw.store_url.is_empty() || raw.store_url_file.is_some()
}

fn resolve_redis(raw: &RawConfig, folder: &Path, files: &Files) -> Result<Option<RedisConfig>, KeyError> {
    let (key, url) = match &raw.redis_url_file {
        None => ("redis.url", raw.redis_url.clone()),
        Some(_) if !raw.redis_url.is_empty() => {
            return Err(("redis.url_file", "redis.url and redis.url_file are both set: keep one".into()));
        }
        Some(file) => {
            ("redis.url_file", read_secret(&folder.join(file), files).map_err(|message| ("redis.url_file", message))?)
        }
    };
    check_redis(&raw.redis)?;
    if url.is_empty() {
        return Ok(None);
    }
    let sentinel_login = resolve_sentinel_login(raw, folder, files)?;
    let in_folder = |file: &Option<PathBuf>| file.as_ref().map(|file| folder.join(file));
    Ok(Some(RedisConfig {
        url: RedisUrl::parse(&url).map_err(|error| (key, error.to_string()))?,
        ca_file: in_folder(&raw.redis.ca_file),
        certificate_file: in_folder(&raw.redis.certificate_file),
        key_file: in_folder(&raw.redis.key_file),
        sentinel_login,
        login_files: LoginFiles {
            url: in_folder(&raw.redis_url_file),
            sentinel_password: in_folder(&raw.sentinel_password_file),
        },
        always: raw.server.default_topics.clone(),
        message_bytes_max: raw.limits.event_bytes_max,
        idempotency_window: raw.limits.idempotency_window,
        ..raw.redis.clone()
    }))
}

fn resolve_sentinel_login(raw: &RawConfig, folder: &Path, files: &Files) -> Result<SentinelLogin, KeyError> {
    const KEY: &str = "redis.sentinel_password_file";
    let login = raw.redis.sentinel_login.clone();
    match &raw.sentinel_password_file {
        None => Ok(login),
        Some(_) if !login.password.is_empty() => {
            Err((KEY, "redis.sentinel_password and redis.sentinel_password_file are both set: keep one".into()))
        }
        Some(file) => {
            let password = read_secret(&folder.join(file), files).map_err(|message| (KEY, message))?;
            Ok(SentinelLogin { password, ..login })
        }
    }
}

fn resolve_nats(raw: &RawConfig, folder: &Path, files: &Files) -> Result<Option<NatsConfig>, KeyError> {
    let (key, url) = match &raw.nats_url_file {
        None => ("nats.url", raw.nats_url.clone()),
        Some(_) if !raw.nats_url.is_empty() => {
            return Err(("nats.url_file", "nats.url and nats.url_file are both set: keep one".into()));
        }
        Some(file) => {
            ("nats.url_file", read_secret(&folder.join(file), files).map_err(|message| ("nats.url_file", message))?)
        }
    };
    check_nats(&raw.nats)?;
    if url.is_empty() {
        return Ok(None);
    }
    let url = NatsUrl::parse(&url).map_err(|error| (key, error.to_string()))?;
    let (auth, auth_file) = resolve_nats_auth(&raw.nats_auth, folder, files)?;
    if auth != NatsAuth::None && url.has_login() {
        return Err((key, "it holds a login, and other keys of the section do as well: keep one".into()));
    }
    let in_folder = |file: &Option<PathBuf>| file.as_ref().map(|file| folder.join(file));
    let files = NatsLoginFiles { url: in_folder(&raw.nats_url_file), auth: auth_file };
    Ok(Some(NatsConfig {
        login: NatsLogin { url, auth, files },
        ca_file: in_folder(&raw.nats.ca_file),
        certificate_file: in_folder(&raw.nats.certificate_file),
        key_file: in_folder(&raw.nats.key_file),
        always: raw.server.default_topics.clone(),
        message_bytes_max: raw.limits.event_bytes_max,
        idempotency_window: raw.limits.idempotency_window,
        ..raw.nats.clone()
    }))
}

/// The login outside of the URL, and the file that it was read from.
fn resolve_nats_auth(raw: &RawNatsAuth, folder: &Path, files: &Files) -> Result<(NatsAuth, Option<PathBuf>), KeyError> {
    let RawNatsAuth { user, password, password_file, token, token_file, nkey_file, credentials_file } = raw;
    let kinds = [
        ("nats.user", !user.is_empty() || !password.is_empty() || password_file.is_some()),
        ("nats.token", !token.is_empty() || token_file.is_some()),
        ("nats.nkey_file", nkey_file.is_some()),
        ("nats.credentials_file", credentials_file.is_some()),
    ];
    let mut set = kinds.into_iter().filter_map(|(key, is_set)| is_set.then_some(key));
    if let (Some(first), Some(second)) = (set.next(), set.next()) {
        return Err((second, format!("{first} is set as well: the hub logs in by one of them, so keep one")));
    }
    let secret =
        |key: &'static str, text: &String, file: &Option<PathBuf>| match file.as_ref().map(|it| folder.join(it)) {
            None => Ok((text.clone(), None)),
            Some(_) if !text.is_empty() => {
                Err((key, "the secret stands in the configuration as well: keep one".to_owned()))
            }
            Some(file) => Ok((read_secret(&file, files).map_err(|message| (key, message))?, Some(file))),
        };
    let none = String::new();
    if !user.is_empty() {
        let (password, file) = secret("nats.password_file", password, password_file)?;
        return Ok((NatsAuth::User { user: user.clone(), password }, file));
    }
    if !password.is_empty() || password_file.is_some() {
        return Err(("nats.user", "there is a password, and no user: set nats.user".into()));
    }
    let (token, file) = secret("nats.token_file", token, token_file)?;
    if !token.is_empty() {
        return Ok((NatsAuth::Token(token), file));
    }
    let (seed, file) = secret("nats.nkey_file", &none, nkey_file)?;
    if !seed.is_empty() {
        return Ok((NatsAuth::Nkey(seed), file));
    }
    let (text, file) = secret("nats.credentials_file", &none, credentials_file)?;
    Ok(if text.is_empty() { (NatsAuth::None, None) } else { (NatsAuth::Credentials(text), file) })
}

fn check_nats(nats: &NatsConfig) -> Result<(), KeyError> {
    if nats.backoff_max < nats.backoff_min {
        return Err(("nats.backoff_max", "it is below nats.backoff_min".into()));
    }
    if nats.proof_age_max < nats.ping_interval {
        return Err(("nats.proof_age_max", "it is below nats.ping_interval: no proof could be fresh enough".into()));
    }
    if let Some(bad) = nats.subscribe.iter().find_map(|text| check_pattern(text).err()) {
        return Err(("nats.subscribe", bad));
    }
    if check_pattern(&nats.inbox_prefix).is_err() || nats.inbox_prefix.contains(['*', '>']) {
        return Err(("nats.inbox_prefix", "it is no subject: tokens with dots between them, without wildcards".into()));
    }
    if nats.certificate_file.is_some() != nats.key_file.is_some() {
        return Err(("nats.key_file", "nats.certificate_file and nats.key_file go together".into()));
    }
    Ok(())
}

fn resolve_auth(raw: &RawConfig, folder: &Path, files: &Files) -> Result<AuthRules, KeyError> {
    let AuthFiles { secret, secret_file, public_key_file, private_key_file, jwks_file, users_file, deny_file } =
        &raw.auth_files;
    let read = |key: &'static str, file: &Option<PathBuf>| match file {
        Some(file) => read_secret(&folder.join(file), files).map_err(|message| (key, message)),
        None => Ok(String::new()),
    };
    if !secret.is_empty() && secret_file.is_some() {
        return Err(("auth.secret_file", "auth.secret and auth.secret_file are both set: keep one".into()));
    }
    let secrets = Secrets {
        secret: match secret_file {
            Some(file) => read_key(&folder.join(file), files).map_err(|message| ("auth.secret_file", message))?,
            None => secret.as_bytes().to_vec(),
        },
        public_key: read("auth.public_key_file", public_key_file)?,
        private_key: read("auth.private_key_file", private_key_file)?,
        jwks: read("auth.jwks_file", jwks_file)?,
        users: read("users.file", users_file)?,
        denied: read_list(deny_file, folder, files).map_err(|message| ("auth.deny_file", message))?,
        api_keys: raw.api_keys.iter().map(|key| resolve_api_key(key, folder, files)).collect::<Result<_, _>>()?,
    };
    let mut settings = raw.auth.clone();
    settings.key_set.ca_file = settings.key_set.ca_file.map(|file| folder.join(file));
    AuthRules::new(settings, secrets)
}

/// Providers sign for all applications of a company with the same keys.
fn warn_of_audience(raw: &RawConfig) -> Option<String> {
    let is_open = raw.auth.key_set.is_used() && raw.auth.audience.is_empty();
    is_open.then(|| {
        "auth.audience is not set: tokens that the identity provider made for other applications are taken as well"
            .to_owned()
    })
}

fn resolve_api_key(raw: &RawApiKey, folder: &Path, files: &Files) -> Result<ApiKey, KeyError> {
    let RawApiKey { key, file, role } = raw;
    let secret = match file {
        Some(file) => read_secret(&folder.join(file), files).map_err(|message| ("api_keys", message))?,
        None => key.secret.clone(),
    };
    Ok(ApiKey { secret, role: (!role.is_empty()).then(|| role.clone()), ..key.clone() })
}

fn check_redis(redis: &RedisConfig) -> Result<(), KeyError> {
    if redis.backoff_max < redis.backoff_min {
        return Err(("redis.backoff_max", "it is below redis.backoff_min".into()));
    }
    if redis.proof_age_max < redis.ping_interval {
        return Err(("redis.proof_age_max", "it is below redis.ping_interval: no proof could be fresh enough".into()));
    }
    if redis.subscribe.iter().any(String::is_empty) {
        return Err(("redis.subscribe", "a pattern is empty".into()));
    }
    if redis.certificate_file.is_some() != redis.key_file.is_some() {
        return Err(("redis.key_file", "redis.certificate_file and redis.key_file go together".into()));
    }
    Ok(())
}

fn resolve_store(raw: &RawConfig, folder: &Path, files: &Files) -> Result<Option<store::Config>, KeyError> {
    let (key, url) = match &raw.store_url_file {
        None => ("store.url", raw.store_url.clone()),
        Some(_) if !raw.store_url.is_empty() => {
            return Err(("store.url_file", "store.url and store.url_file are both set: keep one".into()));
        }
        Some(file) => {
            ("store.url_file", read_secret(&folder.join(file), files).map_err(|message| ("store.url_file", message))?)
        }
    };
    if raw.store.backoff_max < raw.store.backoff_min {
        return Err(("store.backoff_max", "it is below store.backoff_min".into()));
    }
    if url.is_empty() {
        return Ok(None);
    }
    Ok(Some(store::Config {
        login: StoreLogin {
            url: StoreUrl::parse(&url).map_err(|error| (key, error.to_string()))?,
            url_file: raw.store_url_file.as_ref().map(|file| folder.join(file)),
        },
        ca_file: raw.store.ca_file.as_ref().map(|file| folder.join(file)),
        ..raw.store.clone()
    }))
}

/// A file that may well be empty, or none.
fn read_list(file: &Option<PathBuf>, folder: &Path, files: &Files) -> Result<String, String> {
    let Some(path) = file.as_ref().map(|file| folder.join(file)) else { return Ok(String::new()) };
    files.read_text(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// A secret of any bytes. White space around a text is none of it; of bytes that are no text each counts.
fn read_key(path: &Path, files: &Files) -> Result<Vec<u8>, String> {
    let bytes = files.read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let secret = std::str::from_utf8(&bytes).map_or(&bytes[..], |text| text.trim().as_bytes());
    if secret.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(secret.to_vec()) }
}

fn read_secret(path: &Path, files: &Files) -> Result<String, String> {
    let text = files.read_text(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    match text.trim() {
        "" => Err(format!("{} is empty", path.display())),
        secret => Ok(secret.to_owned()),
    }
}
