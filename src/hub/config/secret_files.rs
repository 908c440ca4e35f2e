//! Warns of files with secrets or rights that others than their owner may write.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::raw::RawConfig;

/// The mode bits that let the group and others write a file.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A warning for each file with secrets, keys, users or rights that others may write: they could grant anybody access.
pub(super) fn warnings(raw: &RawConfig, folder: &Path) -> Vec<String> {
    let auth = &raw.auth_files;
    let named: [(&str, &Option<PathBuf>); 19] = [
        ("auth.secret_file", &auth.secret_file),
        ("auth.public_key_file", &auth.public_key_file),
        ("auth.private_key_file", &auth.private_key_file),
        ("auth.jwks_file", &auth.jwks_file),
        ("auth.jwks_ca_file", &raw.auth.key_set.ca_file),
        ("auth.deny_file", &auth.deny_file),
        ("users.file", &auth.users_file),
        ("redis.url_file", &raw.redis_url_file),
        ("redis.sentinel_password_file", &raw.sentinel_password_file),
        ("redis.key_file", &raw.redis.key_file),
        ("redis.ca_file", &raw.redis.ca_file),
        ("nats.url_file", &raw.nats_url_file),
        ("nats.password_file", &raw.nats_auth.password_file),
        ("nats.token_file", &raw.nats_auth.token_file),
        ("nats.nkey_file", &raw.nats_auth.nkey_file),
        ("nats.credentials_file", &raw.nats_auth.credentials_file),
        ("nats.key_file", &raw.nats.key_file),
        ("nats.ca_file", &raw.nats.ca_file),
        ("store.url_file", &raw.store_url_file),
    ];
    let of_keys = raw.api_keys.iter().map(|key| ("api_keys: key_file", &key.file));
    let all = named.into_iter().chain(of_keys);
    all.filter_map(|(key, file)| warn(key, &folder.join(file.as_ref()?))).collect()
}

fn warn(key: &str, path: &Path) -> Option<String> {
    // One that cannot be looked at cannot be read either, and that is an error already.
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
    let file = path.display();
    let is_open = mode & WRITABLE_BY_OTHERS != 0;
    is_open.then(|| format!("{key}: others may write {file} (mode {mode:04o}): chmod go-w {file}"))
}
