use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};

use super::*;

/// Made for these tests, and known to everyone.
const RSA: &[u8] = include_bytes!("rsa-for-tests.der");

const ISSUER: &str = "https://id.example";

fn text(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An issuer with a key of each kind, named after its algorithm.
struct Signer {
    ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
    random: SystemRandom,
}

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self {
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random)
                .unwrap(),
            rsa: RsaKeyPair::from_pkcs8(RSA).unwrap(),
            random,
        }
    }

    fn ec_key(&self) -> Value {
        let point = &self.ec.public_key().as_ref()[1..];
        let (x, y) = point.split_at(32);
        json!({"kty": "EC", "crv": "P-256", "kid": "ES256", "x": text(x), "y": text(y)})
    }

    fn keys(&self) -> Vec<Value> {
        let RsaPublicKeyComponents::<Vec<u8>> { n, e } = self.rsa.public().into();
        let (n, e) = (text(n), text(e));
        let rsa = |name| json!({"kty": "RSA", "kid": name, "alg": name, "n": n, "e": e});
        let x = text(self.ed.public_key());
        vec![
            json!({"kty": "OKP", "crv": "Ed25519", "kid": "EdDSA", "x": x}),
            self.ec_key(),
            rsa("RS256"),
            rsa("PS256"),
        ]
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let rsa = |padding: &'static dyn ring::signature::RsaEncoding| {
            let mut signed = vec![0; self.rsa.public().modulus_len()];
            let key = &self.rsa;
            key.sign(padding, &self.random, message, &mut signed)
                .unwrap();
            signed
        };
        match algorithm {
            "EdDSA" => self.ed.sign(message).as_ref().to_vec(),
            "ES256" => self
                .ec
                .sign(&self.random, message)
                .unwrap()
                .as_ref()
                .to_vec(),
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "PS256" => rsa(&RSA_PSS_SHA256),
            other => panic!("no key signs by {other}"),
        }
    }

    /// A token with these headers and claims, signed by `algorithm`, whatever the headers say.
    fn token(&self, algorithm: &str, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", text(header.to_string()), text(claims.to_string()));
        let signed = self.sign(algorithm, message.as_bytes());
        format!("{message}.{}", text(signed))
    }

    fn good(&self, algorithm: &str) -> String {
        self.token(algorithm, &header(algorithm), &claims())
    }
}

fn header(algorithm: &str) -> Value {
    json!({"alg": algorithm, "typ": "JWT", "kid": algorithm})
}

/// By the clock of this machine, since that is what the library goes by.
fn claims() -> Value {
    let now = crate::ledger::wall().0 / 1_000;
    json!({
        "iss": ISSUER,
        "aud": ["other", "tq"],
        "sub": "alice",
        "exp": now + 600,
        "nbf": now,
        "tq_role": "submitter",
        "tq_namespaces": ["acme"],
    })
}

/// The claims with one of them changed, or left out.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => claims.as_object_mut().unwrap().remove(name),
        value => claims.as_object_mut().unwrap().insert(name.into(), value),
    };
    claims
}

fn write(path: &Path, keys: &[Value]) {
    std::fs::write(path, json!({ "keys": keys }).to_string()).unwrap();
}

fn tokens(path: PathBuf) -> Tokens {
    Tokens::new(Issuer {
        name: ISSUER.into(),
        audience: "tq".into(),
        keys: KeySet::File(path),
    })
}

#[tokio::test]
async fn tokens_of_each_algorithm_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let signer = Signer::new();
    write(&path, &signer.keys());
    let tokens = tokens(path);
    let now = crate::ledger::wall();
    for algorithm in ["EdDSA", "ES256", "RS256", "PS256"] {
        let token = signer.good(algorithm);
        for _ in 0..2 {
            let verified = tokens.check(&token, now).await.unwrap();
            let principal = &*verified.principal;
            assert_eq!(principal.name, "token alice of https://id.example");
            assert_eq!(principal.role, Role::Submitter);
            assert_eq!(principal.scope, Scope::of(["acme".into()]).unwrap());
            assert!(tokens.holds(&verified, now));
            assert!(!tokens.holds(&verified, verified.expires_at));
        }
    }
    let all = signer.token(
        "EdDSA",
        &header("EdDSA"),
        &with("tq_namespaces", json!("*")),
    );
    let verified = tokens.check(&all, now).await.unwrap();
    assert_eq!(verified.principal.scope, Scope::All);
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let signer = Signer::new();
    let mut keys = signer.keys();
    let secret = b"a secret that the issuer has put beside its public keys";
    keys.push(json!({"kty": "oct", "kid": "HS256", "alg": "HS256", "k": text(secret)}));
    keys.push(
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "enc", "use": "enc",
        "x": text(signer.ed.public_key())}),
    );
    write(&path, &keys);
    let tokens = tokens(path);
    let past = crate::ledger::wall().0 / 1_000 - 120;
    let future = past + 600;
    let of = |claims: &Value| signer.token("EdDSA", &header("EdDSA"), claims);
    let hmac = |secret: &[u8], kid: &str| {
        let header = json!({"alg": "HS256", "kid": kid});
        let message = format!(
            "{}.{}",
            text(header.to_string()),
            text(claims().to_string())
        );
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        format!(
            "{message}.{}",
            text(ring::hmac::sign(&key, message.as_bytes()))
        )
    };
    let unsigned = |algorithm: &str| {
        let header = json!({"alg": algorithm, "kid": "EdDSA"});
        format!(
            "{}.{}.",
            text(header.to_string()),
            text(claims().to_string())
        )
    };
    let of_key = |algorithm: &str, kid: &str| {
        signer.token(algorithm, &json!({"alg": algorithm, "kid": kid}), &claims())
    };
    let good = signer.good("EdDSA");
    let altered = {
        let mut parts = good.split('.').map(str::to_owned).collect::<Vec<_>>();
        parts[1] = text(with("tq_role", json!("admin")).to_string());
        parts.join(".")
    };
    let stranger = Signer::new().good("EdDSA");
    let long = of(&with("sub", json!("a".repeat(JWT_BYTES_MAX))));
    for (token, expected) in [
        (of(&with("exp", json!(past))), "ExpiredSignature"),
        (of(&with("exp", Value::Null)), "exp"),
        (of(&with("nbf", json!(future))), "ImmatureSignature"),
        (of(&with("aud", json!("else"))), "InvalidAudience"),
        (of(&with("aud", Value::Null)), "aud"),
        (
            of(&with("iss", json!("https://evil.example"))),
            "InvalidIssuer",
        ),
        (of(&with("iss", Value::Null)), "iss"),
        (of(&with("tq_role", Value::Null)), "no `tq_role`"),
        (of(&with("tq_role", json!("owner"))), "no role `owner`"),
        (
            of(&with("tq_namespaces", Value::Null)),
            "no `tq_namespaces`",
        ),
        (of(&with("tq_namespaces", json!([]))), "is empty"),
        (of(&with("tq_namespaces", json!("acme"))), "neither"),
        (
            of(&with("tq_namespaces", json!(["a b"]))),
            "namespace `a b`",
        ),
        (of(&with("tq_role", json!("host"))), "a host is for all"),
        (altered, "InvalidSignature"),
        (stranger, "InvalidSignature"),
        (format!("{good}x"), "Invalid"),
        (unsigned("none"), "cannot be read"),
        (unsigned("EdDSA"), "Invalid"),
        (hmac(secret, "HS256"), "algorithm HS256 is not taken"),
        // The public key, which everyone has, taken for a secret.
        (
            hmac(signer.ed.public_key().as_ref(), "EdDSA"),
            "algorithm HS256 is not taken",
        ),
        (of_key("ES256", "EdDSA"), "does not hold"),
        (of_key("PS256", "RS256"), "is not that of the key"),
        (of_key("EdDSA", "enc"), "not for signatures"),
        (of_key("EdDSA", "unknown"), "key `unknown` is none of"),
        (
            signer.token("EdDSA", &json!({"alg": "EdDSA"}), &claims()),
            "names no key",
        ),
        (
            signer.token(
                "EdDSA",
                &json!({"alg": "EdDSA", "kid": "EdDSA", "crit": ["b64"], "b64": true}),
                &claims(),
            ),
            "critical",
        ),
        (long, "over the limit"),
        ("a.b.c".into(), "cannot be read"),
        (String::new(), "cannot be read"),
    ] {
        let refused = tokens.check(&token, crate::ledger::wall()).await;
        let refused = refused.map(|verified| verified.principal).unwrap_err();
        let Unverified::Invalid(reason) = refused else {
            panic!("expected `{expected}`: {refused:?}");
        };
        assert!(reason.contains(expected), "expected `{expected}`: {reason}");
    }
    assert!(tokens.check(&good, crate::ledger::wall()).await.is_ok());
}

#[tokio::test]
async fn keys_come_and_go_with_the_issuers_set() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let signer = Signer::new();
    write(&path, &[signer.ec_key()]);
    let tokens = tokens(path.clone());
    let now = crate::ledger::wall();
    let (old, new) = (signer.good("ES256"), signer.good("EdDSA"));
    let held = tokens.check(&old, now).await.unwrap();
    write(&path, &signer.keys()[..1]);
    let refused = tokens.check(&new, now).await;
    assert!(refused.is_err(), "the keys were asked for just now");
    tokens.refresh(Duration::ZERO).await;
    tokens.check(&new, now).await.unwrap();
    assert!(!tokens.holds(&held, now), "its key is gone");
    assert!(tokens.check(&old, now).await.is_err());
    // What cannot be read leaves what there was, and nobody says of others that they are none.
    std::fs::write(&path, "no keys").unwrap();
    tokens.refresh(Duration::ZERO).await;
    tokens.check(&new, now).await.unwrap();
    let unknown = tokens.check(&old, now).await.unwrap_err();
    assert_eq!(unknown, Unverified::Unknown);
}

#[tokio::test]
async fn another_key_of_the_same_id_ends_the_tokens_of_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let (signer, next) = (Signer::new(), Signer::new());
    write(&path, &[signer.ec_key()]);
    let tokens = tokens(path.clone());
    let now = crate::ledger::wall();
    let token = signer.good("ES256");
    let held = tokens.check(&token, now).await.unwrap();
    write(&path, &[next.ec_key()]);
    tokens.refresh(Duration::ZERO).await;
    assert!(!tokens.holds(&held, now));
    assert!(tokens.check(&token, now).await.is_err());
    tokens.check(&next.good("ES256"), now).await.unwrap();
}

#[tokio::test]
async fn keys_that_were_asked_for_come_though_the_call_goes_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let signer = Signer::new();
    write(&path, &signer.keys());
    let tokens = tokens(path);
    let (token, now) = (signer.good("EdDSA"), crate::ledger::wall());
    let mut check = Box::pin(tokens.check(&token, now));
    // It has asked. Whether the answer is there already depends on how busy the machine is.
    let _asked = futures_util::poll!(&mut check);
    drop(check);
    while !read(&tokens.keys).is_current {
        tokio::task::yield_now().await;
    }
    // Though nobody may ask again so soon.
    tokens.check(&token, now).await.unwrap();
}
