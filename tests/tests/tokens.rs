//! Tokens of an issuer elsewhere, shown to a broker that reads the issuer's keys from a file or by TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tq_client::{Error, Watch};
use tq_tests::{Authority, Guarded, eventually, within};

const ISSUER: &str = "https://id.example";
const KEY: &str = "first";

/// Who signs tokens, by one key.
struct Issuer(Ed25519KeyPair);

impl Issuer {
    fn new() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key can be made");
        Self(Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("it is one"))
    }

    fn public(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    /// Its set of keys.
    fn keys(&self) -> String {
        let x = text(self.public());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": KEY, "x": x}]}).to_string()
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signed = self.0.sign(message.as_bytes());
        format!("{message}.{}", text(signed))
    }

    fn good(&self) -> String {
        self.token(&header("EdDSA", KEY), &claims(600))
    }
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", text(header.to_string()), text(claims.to_string()))
}

fn header(algorithm: &str, key: &str) -> Value {
    json!({"alg": algorithm, "typ": "JWT", "kid": key})
}

/// Those of a token that is for so many seconds yet.
#[expect(
    clippy::disallowed_methods,
    reason = "the broker goes by the machine's clock"
)]
fn claims(seconds: i64) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("it is after 1970").as_secs().cast_signed();
    json!({
        "iss": ISSUER,
        "aud": "tq",
        "sub": "alice",
        "exp": now + seconds,
        "tq_role": "submitter",
        "tq_namespaces": ["acme"],
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims(600);
    claims[name] = value;
    claims
}

/// A broker that takes tokens of an issuer with these keys.
async fn broker(folder: &Path, keys: &str, environment: &[(&str, &Path)]) -> Guarded {
    let flags = ["--jwt-issuer", ISSUER, "--jwt-audience", "tq"];
    let flags = [&flags[..], &["--jwt-keys", keys]].concat();
    Guarded::start_in(&folder.join("data"), &flags, environment).await
}

fn write_keys(folder: &Path, issuer: &Issuer) -> PathBuf {
    let keys = folder.join("jwks.json");
    std::fs::write(&keys, issuer.keys()).expect("the folder can be written");
    keys
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_is_for_what_it_says_and_a_bad_one_is_told_why_in_the_log_alone() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let issuer = Issuer::new();
    let keys = write_keys(folder.path(), &issuer);
    let guarded = broker(folder.path(), keys.to_str().expect("it is text"), &[]).await;
    let alice = guarded.tq(&issuer.good());
    let who = alice.run(["whoami", "--output", "json"]).await.json();
    assert_eq!(who["name"], format!("token alice of {ISSUER}"));
    assert_eq!(who["role"], "submitter");
    assert_eq!(who["namespaces"], json!(["acme"]));
    alice.run(["task", "list"]).await.ok();
    for words in [
        &["task", "list", "--namespace", "beta"][..],
        &["secret", "delete", "x"],
        &["key", "list"],
    ] {
        let refused = alice.run(words).await;
        assert_eq!(refused.code, Some(4), "{words:?}: {}", refused.stderr);
    }

    let secret = hmac::Key::new(hmac::HMAC_SHA256, issuer.public());
    let shared = message(&header("HS256", KEY), &claims(600));
    let shared = format!("{shared}.{}", text(hmac::sign(&secret, shared.as_bytes())));
    let good = header("EdDSA", KEY);
    let unsigned = message(&header("none", KEY), &claims(600));
    let stranger = Issuer::new();
    for (token, reason) in [
        (issuer.token(&good, &claims(-600)), "ExpiredSignature"),
        (
            issuer.token(&good, &with("aud", "other".into())),
            "InvalidAudience",
        ),
        (
            issuer.token(&good, &with("iss", "https://evil.example".into())),
            "InvalidIssuer",
        ),
        (format!("{unsigned}."), "the token cannot be read"),
        (shared, "algorithm HS256 is not taken"),
        (issuer.token(&header("RS256", KEY), &claims(600)), "RS256"),
        (
            issuer.token(&header("EdDSA", "second"), &claims(600)),
            "key `second` is none of",
        ),
        (stranger.good(), "InvalidSignature"),
        (
            issuer.token(&good, &with("tq_role", "king".into())),
            "`tq_role`",
        ),
    ] {
        let refused = guarded.tq(&token).run(["task", "list"]).await;
        assert_eq!(refused.code, Some(4), "{reason}: {}", refused.stderr);
        assert!(
            refused.stderr.contains("the credential is not valid"),
            "{}",
            refused.stderr
        );
        assert!(!refused.stderr.contains(reason), "{}", refused.stderr);
        eventually("the log says why", async || {
            guarded.broker.process.log().contains(reason).then_some(())
        })
        .await;
    }
    // However many are none, those that are any are let in.
    let mut throttled = 0;
    for _ in 0..10 {
        let refused = guarded.tq(&stranger.good()).run(["whoami"]).await;
        throttled += u32::from(refused.stderr.contains("too many credentials"));
    }
    assert!(throttled > 0);
    guarded.tq(&issuer.good()).run(["whoami"]).await.ok();
    assert!(!guarded.broker.process.log().contains(&stranger.good()));
    guarded.broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_stream_ends_with_its_token() {
    // What clocks may differ by counts for it.
    const LEEWAY: i64 = 60;
    const LEFT: i64 = 4;
    let folder = tempfile::tempdir().expect("a folder can be made");
    let issuer = Issuer::new();
    let keys = write_keys(folder.path(), &issuer);
    let guarded = broker(folder.path(), keys.to_str().expect("it is text"), &[]).await;
    let short = issuer.token(&header("EdDSA", KEY), &claims(LEFT - LEEWAY));
    let client = guarded.client(&short).await;
    client.who_am_i().await.expect("it holds yet");
    let mut watching = client.watch(Watch::All { after_seq: None }, false);
    let ended = within("the stream ends", async {
        loop {
            if let Err(error) = watching.next().await {
                return error;
            }
        }
    });
    let Error::Refused { code, .. } = ended.await else {
        panic!("it is a refusal");
    };
    assert_eq!(code, tq_client::Code::Unauthenticated);
    guarded.broker.process.stop().await;
}

/// Serves `body` to whoever asks by TLS, with a certificate of `authority`.
async fn serve(authority: &Authority, folder: &Path, body: String) -> (String, JoinSet<()>) {
    let own = authority.for_node(folder, "issuer");
    let certificate = CertificateDer::from_pem_file(&own.certificate).expect("it was written");
    let key = PrivateKeyDer::from_pem_file(&own.key).expect("it was written");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port can be had");
    let address = listener.local_addr().expect("it is bound");
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Who does not trust it goes away.
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.ok();
            stream.shutdown().await.ok();
        }
    });
    (format!("https://{address}/jwks.json"), serving)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_by_tls_from_whom_this_machine_trusts() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let folder = folder.path();
    let issuer = Issuer::new();
    let authority = Authority::new(&folder.join("authority"));
    let (url, _serving) = serve(&authority, folder, issuer.keys()).await;
    let ca = authority.certificate();
    let trusting = broker(&folder.join("trusting"), &url, &[("SSL_CERT_FILE", &ca)]).await;
    let alice = trusting.tq(&issuer.good());
    alice.run(["whoami"]).await.ok();
    trusting.broker.process.stop().await;

    let other = Authority::new(&folder.join("other")).certificate();
    let wary = broker(&folder.join("wary"), &url, &[("SSL_CERT_FILE", &other)]).await;
    let refused = wary.tq(&issuer.good()).run(["whoami"]).await;
    // Nobody says that it is none, so that hosts go on trying.
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    let log = wary.broker.process.log();
    assert!(
        log.contains("the keys of the issuer cannot be had"),
        "{log}"
    );
    wary.broker.process.stop().await;
}
