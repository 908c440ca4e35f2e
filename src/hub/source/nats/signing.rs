//! What the hub shows a server as its login: for keys, the signature of the server's nonce.

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;

use super::NatsAuth;
use crate::protocol::nats::NatsLogin as Shown;

/// The login to send to a server that sent `nonce`; `None`: there is none. The error says what is wrong, and nothing of a secret.
pub(super) fn sign(auth: &NatsAuth, nonce: Option<&str>) -> Result<Option<Shown>, &'static str> {
    Ok(Some(match auth {
        NatsAuth::None => return Ok(None),
        NatsAuth::User { user, password } => Shown::User { user: user.clone(), password: password.clone() },
        NatsAuth::Token(token) => Shown::Token(token.clone()),
        NatsAuth::Nkey(seed) => {
            let keys = key_pair(seed)?;
            Shown::Nkey { public_key: keys.public_key(), signature: signature(&keys, nonce)? }
        }
        NatsAuth::Credentials(text) => {
            let (jwt, seed) = read_credentials(text)
                .ok_or("the credentials have no JWT, or no seed of an NKey (nats.credentials_file)")?;
            Shown::Jwt { jwt: jwt.to_owned(), signature: signature(&key_pair(seed)?, nonce)? }
        }
    }))
}

fn key_pair(seed: &str) -> Result<KeyPair, &'static str> {
    KeyPair::from_seed(seed.trim()).map_err(|_| "the seed is no NKey's seed (SU…)")
}

fn signature(keys: &KeyPair, nonce: Option<&str>) -> Result<String, &'static str> {
    let nonce = nonce.ok_or("the server knows no keys: it sends no nonce to sign")?;
    let signature = keys.sign(nonce.as_bytes()).map_err(|_| "the NKey cannot sign the server's nonce")?;
    Ok(BASE64URL_NOPAD.encode(&signature))
}

/// The JWT and the seed: each is the first line behind one of dashes and `BEGIN`.
fn read_credentials(text: &str) -> Option<(&str, &str)> {
    let mut lines = text.lines().map(str::trim);
    let mut section = |name: &str| {
        lines.find(|line| line.starts_with("---") && line.contains("BEGIN") && line.contains(name))?;
        lines.find(|line| !line.is_empty()).filter(|line| !line.starts_with("---"))
    };
    Some((section("JWT")?, section("SEED")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key pair made for this test.
    const SEED: &str = "SUAPZUER7KHVP225MKLZPG44QDPLN4FUXMC4Y5O33DCLL2S6J2DPNIXETI";
    const PUBLIC: &str = "UALU2DVPOWQRJ7O56RSCFSSSTULQEZUC7BR4HBOPJ5T6EOCGWYKGM4UQ";

    fn credentials(jwt: &str, seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n*** IMPORTANT ***\nKeep it.\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n*****\n"
        )
    }

    fn check_signature(signature: &str) {
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).expect("base64 for URLs");
        let public = KeyPair::from_public_key(PUBLIC).expect("a public key");
        public.verify(b"the nonce", &signature).expect("the key's own signature");
        assert!(public.verify(b"another", &signature).is_err());
    }

    #[test]
    fn keys_sign_the_nonce() {
        let nonce = Some("the nonce");
        let Ok(Some(Shown::Nkey { public_key, signature })) = sign(&NatsAuth::Nkey(format!("{SEED}\n")), nonce) else {
            panic!("an NKey's login");
        };
        assert_eq!(public_key, PUBLIC);
        check_signature(&signature);
        for text in [credentials("e30.e30.x", SEED), credentials("e30.e30.x", SEED).replace('\n', "\r\n")] {
            let Ok(Some(Shown::Jwt { jwt, signature })) = sign(&NatsAuth::Credentials(text), nonce) else {
                panic!("a JWT's login");
            };
            assert_eq!(jwt, "e30.e30.x");
            check_signature(&signature);
        }
    }

    #[test]
    fn what_cannot_sign_is_told_without_its_secret() {
        let check = |auth: NatsAuth, nonce: Option<&str>, expected: &str| {
            let problem = sign(&auth, nonce).expect_err("it cannot sign");
            assert!(problem.contains(expected) && !problem.contains(SEED), "{problem}");
        };
        let key = NatsAuth::Nkey(SEED.to_owned());
        check(key, None, "no nonce");
        check(NatsAuth::Nkey(PUBLIC.to_owned()), Some("n"), "no NKey's seed");
        check(NatsAuth::Nkey(String::new()), Some("n"), "no NKey's seed");
        check(NatsAuth::Credentials(credentials("e30", "x")), Some("n"), "no NKey's seed");
        for text in ["", SEED, "-----BEGIN NATS USER JWT-----\ne30\n", &credentials("", SEED), &credentials("e30", "")]
        {
            check(NatsAuth::Credentials(text.to_owned()), Some("n"), "no JWT");
        }
    }

    #[test]
    fn what_needs_no_nonce_is_shown_as_it_is() {
        let shown = |auth: NatsAuth| sign(&auth, None).expect("it needs no nonce");
        assert_eq!(shown(NatsAuth::None), None);
        assert_eq!(shown(NatsAuth::Token("t".to_owned())), Some(Shown::Token("t".to_owned())));
        let (user, password) = ("ada".to_owned(), "p".to_owned());
        let expected = Some(Shown::User { user: user.clone(), password: password.clone() });
        assert_eq!(shown(NatsAuth::User { user, password }), expected);
    }
}
