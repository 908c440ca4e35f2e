//! What a token is worth, in words: for `fanfare token check`. It comes of the same functions as a client's identity. The token itself is
//! not in the words.

use jsonwebtoken::decode_header;
use serde_json::Value;

use super::{
    AuthRules, ClaimRule, Claims, Credential, Identity,
    mapping::{Mismatch, PatternTemplate, Unfilled},
    rules::{Unverified, Verified, payload_of},
};
use crate::clock::Moment;

impl AuthRules {
    /// Which rights `token` (or an API key) has at `unix_s`, and by which rule, a line for each. The error says why a client that shows it
    /// is refused.
    pub fn explain(&self, token: &str, unix_s: f64) -> Result<Vec<String>, String> {
        if self.settings.token_bytes_max < token.len() {
            return Err(format!("it has {} bytes; auth.token_bytes_max is less", token.len()));
        }
        if let Some(identity) = self.api_keys.identify(token) {
            self.explain_denied(&identity)?;
            let mut lines = vec![format!("accepted: the API key {:?}", identity.subject)];
            lines.extend(describe(&identity, "its [[api_keys]] table"));
            return Ok(lines);
        }
        let Verified { mut claims, key, is_fetched } =
            self.verify(token).map_err(|it| self.explain_unverified(token, it))?;
        claims.check(&self.settings, unix_s).map_err(|_| self.explain_claims(&claims, unix_s))?;
        let mut lines = vec![format!("accepted: sub {:?}, valid for {:.0} s more", claims.sub, claims.exp - unix_s)];
        let id = claims.jti.take().map(Box::from);
        let identity = match claims.fanfare_login.filter(|_| !is_fetched) {
            Some(login_unix_s) => {
                let user = self.users.find(&claims.sub).filter(|user| !user.is_disabled);
                let user = user.ok_or("its user is not in users.file any more, or is disabled there")?;
                let identity = user.identify(&claims.sub, login_unix_s, Moment(0));
                lines.extend(describe(&identity, "users.file"));
                identity
            }
            None => {
                let payload = payload_of(token).unwrap_or_default();
                let own = claims.clone().identify(Default::default(), Moment(0));
                lines.extend(describe(&own.map_err(|_| "a pattern in its claims is none")?, "the token's own claim"));
                let members: Value = serde_json::from_str(&payload).unwrap_or_default();
                for (index, rule) in self.settings.rules.iter().enumerate() {
                    lines.extend(explain_rule(index + 1, rule, &members));
                }
                let identity = self.identify(claims, Some(payload), Moment(0));
                identity.map_err(|_| "[[auth.rule]] tables would give it more patterns than auth.rule_patterns_max")?
            }
        };
        self.explain_denied(&Identity { credential: Credential::Token { key, id }, ..identity })?;
        Ok(lines)
    }

    fn explain_denied(&self, identity: &Identity) -> Result<(), String> {
        self.denied.check(identity).map_err(|_| "auth.deny_file names its jti or sub".to_owned())
    }

    fn explain_unverified(&self, token: &str, unverified: Unverified) -> String {
        if let Unverified::UnknownKey(_, id) = unverified {
            return match id {
                Some(id) => format!("its key {id:?} (kid) is not in the key set of the identity provider"),
                None => {
                    "it names no key (kid), and none in the key set of the identity provider has signed it".to_owned()
                }
            };
        }
        let Ok(header) = decode_header(token) else {
            return "it is no JSON Web Token, which has three parts with dots between them, and no API key".to_owned();
        };
        if !self.settings.algorithms.iter().any(|algorithm| algorithm.native() == header.alg) {
            let known: Vec<&str> = self.settings.algorithms.iter().map(|algorithm| algorithm.name()).collect();
            return format!("it is signed with {:?}, and auth.algorithms has {}", header.alg, known.join(", "));
        }
        "its signature is of none of the keys, its claims lack `exp` or have one of another type, or its header has `crit`".to_owned()
    }

    fn explain_claims(&self, claims: &Claims, unix_s: f64) -> String {
        let settings = &self.settings;
        if !settings.issuer.is_empty() && claims.iss.as_ref() != Some(&settings.issuer) {
            return format!("its issuer (iss) is {:?}, and auth.issuer is {:?}", claims.iss, settings.issuer);
        }
        if !settings.audience.is_empty() && !claims.aud.names(&settings.audience) {
            return format!("its audience (aud) is {:?}, and auth.audience is {:?}", claims.aud, settings.audience);
        }
        match claims.nbf {
            Some(nbf) if unix_s < nbf => format!("it is not valid for {:.0} s yet (nbf)", nbf - unix_s),
            _ => format!("it expired {:.0} s ago (exp)", unix_s - claims.exp),
        }
    }
}

/// The role and the rights of `identity`, which come from `origin`.
fn describe(identity: &Identity, origin: &str) -> Vec<String> {
    let role = identity.role.iter().map(|role| format!("role {role:?}: {origin}"));
    let subscribe = identity.subscribe.patterns().map(|pattern| format!("may subscribe to {pattern}: {origin}"));
    let publish = identity.publish.patterns().map(|pattern| format!("may publish to {pattern}: {origin}"));
    role.chain(subscribe).chain(publish).collect()
}

fn explain_rule(number: usize, rule: &ClaimRule, claims: &Value) -> Vec<String> {
    let value = if rule.value.is_empty() { "any value".to_owned() } else { format!("{:?}", rule.value) };
    let name = format!("[[auth.rule]] {number} ({}: {value})", rule.claim);
    match rule.check(claims) {
        Err(Mismatch::Missing) => return vec![format!("nothing by {name}: the token does not have the claim")],
        Err(Mismatch::OtherValue) => return vec![format!("nothing by {name}: the claim has other values")],
        Ok(()) => {}
    }
    let role = (!rule.role.is_empty()).then(|| format!("role {:?}, unless a rule before gives one: {name}", rule.role));
    let fill = |what: &'static str, template: &PatternTemplate| match template.fill(claims) {
        Ok(patterns) => patterns.iter().map(|pattern| format!("may {what} {pattern}: {name}")).collect::<Vec<_>>(),
        Err(unfilled) => vec![format!("nothing by {template} in {name}: {}", explain_unfilled(unfilled))],
    };
    let subscribe = rule.subscribe.iter().flat_map(|template| fill("subscribe to", template));
    let publish = rule.publish.iter().flat_map(|template| fill("publish to", template));
    role.into_iter().chain(subscribe).chain(publish).collect()
}

fn explain_unfilled(unfilled: Unfilled) -> String {
    match unfilled {
        Unfilled::Missing(claim) => format!("the token has no text in the claim `{claim}`"),
        Unfilled::NoSegment(claim, value) => {
            format!(
                "`{claim}` is {value:?}, which is no segment of a topic's name (letters, digits, `_`, `-`, `:` and `/`)"
            )
        }
        Unfilled::TwoLists(one, other) => format!("both `{one}` and `{other}` have several values"),
        Unfilled::TooLong => "no topic's name is so long".to_owned(),
    }
}
