//! TLS on every port: what is served by it, who is trusted, and how certificates are renewed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tq_client::KeyPair;
use tq_tests::{
    Authority, Broker, Host, Tq, eventually, free_port, guest, replace, turn_access_on, within,
};

/// A folder with an authority, and a certificate of the broker's by it.
struct Place {
    folder: TempDir,
    authority: Authority,
    own: KeyPair,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let authority = Authority::new(&folder.path().join("authority"));
        let own = authority.for_node(folder.path(), "broker");
        Self {
            folder,
            authority,
            own,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A broker that serves TLS, with further flags.
    async fn broker(&self, flags: &[&str]) -> Broker {
        let certificate = text(&self.own.certificate);
        let key = text(&self.own.key);
        let own = ["--tls-cert", certificate, "--tls-key", key];
        let broker = Broker::start_with(&self.path("data"), &[&own, flags].concat()).await;
        assert!(broker.url().starts_with("https://127.0.0.1:"));
        broker
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("it is text")
}

fn trusting(broker: &Broker, ca: &Path) -> Tq {
    broker.tq().with_env("TQ_TLS_CA", ca)
}

/// Commands that show a certificate.
fn showing(broker: &Broker, ca: &Path, own: &KeyPair) -> Tq {
    let tq = trusting(broker, ca).with_env("TQ_TLS_CERT", &own.certificate);
    tq.with_env("TQ_TLS_KEY", &own.key)
}

/// What a host is told that shows a certificate.
fn flags<'a>(ca: &'a Path, own: &'a KeyPair) -> [&'a str; 6] {
    let (certificate, key) = (text(&own.certificate), text(&own.key));
    [
        "--tls-ca",
        text(ca),
        "--tls-cert",
        certificate,
        "--tls-key",
        key,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_runs_over_tls_and_certificates_are_renewed_without_a_restart() {
    let place = Place::new();
    let mut broker = place.broker(&[]).await;
    let ca = place.path("trusted.pem");
    fs::copy(place.authority.certificate(), &ca).unwrap();
    let tq = trusting(&broker, &ca);
    let flags = ["--tls-ca", text(&ca)];
    let host = Host::start_with(&broker, &place.path("host"), "h1", 1, &flags).await;
    tq.deploy(&guest::example("faults"), "faults", &[]).await;
    let ran = tq.run(["run", "faults/echo", "over TLS"]).await;
    assert_eq!(ran.text().trim_end(), "over TLS");

    // Another authority signs from now on. The broker has its certificate, the host knows it, and neither was told.
    let next = Authority::new(&place.path("next"));
    assert_eq!(next.for_node(place.folder.path(), "broker"), place.own);
    eventually("the new certificate is served", async || {
        let listed = trusting(&broker, &next.certificate());
        let listed = listed.run(["module", "list"]).await;
        (listed.code == Some(0)).then_some(())
    })
    .await;
    let refused = tq.run(["module", "list"]).await;
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    replace(&ca, &fs::read_to_string(next.certificate()).unwrap());
    // Its host has to connect again.
    broker.process.kill9().await;
    broker.restart().await;
    let ran = tq.run(["run", "faults/echo", "again"]).await;
    assert_eq!(ran.text().trim_end(), "again");

    // A certificate that is of no use leaves the old one in its place.
    replace(&place.own.certificate, "no certificate");
    eventually("the broker has looked", async || {
        tq.run(["module", "list"]).await.ok();
        let log = broker.process.log();
        log.contains("the new certificates cannot be used")
            .then_some(())
    })
    .await;
    tq.run(["module", "list"]).await.ok();
    host.process.stop().await;
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_trusted_is_refused_and_what_to_do_is_said() {
    let place = Place::new();
    let broker = place.broker(&[]).await;
    let other = Authority::new(&place.path("other"));
    let check = async |tq: Tq, code: i32, expected: &[&str]| {
        let ran = tq.run(["module", "list"]).await;
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        for text in expected {
            assert!(ran.stderr.contains(text), "`{text}` in: {}", ran.stderr);
        }
    };
    let untrusted = [
        "its certificate is of an authority that is not trusted here",
        "hint: name the certificate of its authority with --tls-ca FILE",
    ];
    check(trusting(&broker, &other.certificate()), 5, &untrusted).await;
    check(broker.tq(), 5, &untrusted).await;

    let plain_url = broker.url().replace("https://", "http://");
    // The broker's own words may come too late to be read.
    check(Tq::at(&plain_url), 5, &["write `https://…`"]).await;
    let ca = place.authority.certificate();
    check(
        Tq::at(&plain_url).with_env("TQ_TLS_CA", &ca),
        2,
        &["certificates for it have no effect"],
    )
    .await;
    // By HTTP/1.1 it is said too.
    let address = plain_url.trim_start_matches("http://");
    let answer = within("an answer", async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: broker\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    });
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("use https://\n"), "{answer}");

    // A name that the certificate has not.
    let by_name = broker.url().replace("127.0.0.1", "localhost");
    let trusted = |url: &str| Tq::at(url).with_env("TQ_TLS_CA", &ca);
    check(trusted(&by_name), 0, &[]).await;
    let own = place.path("plain");
    let plain = Broker::start(&own).await;
    let to_plain = plain.url().replace("http://", "https://");
    let no_tls = ["it does not speak TLS", "write `http://…`"];
    check(trusted(&to_plain), 5, &no_tls).await;

    let mut host = Host::launch(&broker, &place.path("host"), "h1", 1);
    let told = host.process.line("no session with the broker").await;
    assert!(told.contains("--tls-ca"), "{told}");
    plain.process.stop().await;
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_clients_are_of_the_authority_that_is_named() {
    let place = Place::new();
    let clients = Authority::new(&place.path("clients"));
    let ca = clients.certificate();
    let broker = place.broker(&["--tls-client-ca", text(&ca)]).await;
    let tq = trusting(&broker, &place.authority.certificate());
    let with = |pair: &KeyPair| showing(&broker, &place.authority.certificate(), pair);
    let uri = "tq://host/h1";
    let known = clients.for_client(place.folder.path(), "known", uri);
    with(&known).run(["module", "list"]).await.ok();
    // It need not be shown.
    tq.run(["module", "list"]).await.ok();
    let others = Authority::new(&place.path("others"));
    let foreign = others.for_client(place.folder.path(), "foreign", uri);
    let refused = with(&foreign).run(["module", "list"]).await;
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("--tls-client-ca"),
        "{}",
        refused.stderr
    );
    let mixed = KeyPair {
        key: foreign.key,
        ..known
    };
    let refused = with(&mixed).run(["module", "list"]).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("does not match"),
        "{}",
        refused.stderr
    );
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_lets_a_host_in_under_its_name_and_nobody_else() {
    let place = Place::new();
    let clients = Authority::new(&place.path("clients"));
    let admin = turn_access_on(&place.path("data")).await;
    let broker = place
        .broker(&["--tls-client-ca", text(&clients.certificate())])
        .await;
    let ca = place.authority.certificate();
    let of_host = clients.for_client(place.folder.path(), "h1", "tq://host/h1");
    let flags = flags(&ca, &of_host);
    let host = Host::start_with(&broker, &place.path("h1-data"), "h1", 1, &flags).await;
    let tq = trusting(&broker, &ca).with_env("TQ_KEY", &admin);
    tq.deploy(&guest::example("faults"), "work", &[]).await;
    let ran = tq.run(["run", "work/echo", "over TLS"]).await;
    assert_eq!(ran.text().trim(), "over TLS");
    // Another name is another host.
    let mut other = Host::launch_with(&broker, &place.path("h2-data"), "h2", 1, &flags);
    let status = other.process.end().await;
    assert!(!status.success());
    let log = other.process.log();
    assert!(log.contains("the certificate is of host `h1`"), "{log}");
    // A host does nothing but work, and who is no host is nobody.
    let refused = showing(&broker, &ca, &of_host)
        .run(["module", "list"])
        .await;
    assert!(
        refused.stderr.contains("role `host` may not"),
        "{}",
        refused.stderr
    );
    let person = clients.for_client(place.folder.path(), "alice", "https://id.example/alice");
    let refused = showing(&broker, &ca, &person).run(["module", "list"]).await;
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    host.process.stop().await;
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_ends_with_the_certificate_of_its_host_and_goes_on_with_another() {
    let place = Place::new();
    let clients = Authority::new(&place.path("clients"));
    let admin = turn_access_on(&place.path("data")).await;
    let broker = place
        .broker(&["--tls-client-ca", text(&clients.certificate())])
        .await;
    let ca = place.authority.certificate();
    let (folder, uri) = (place.folder.path(), "tq://host/h1");
    let short = clients.for_client_while(folder, "h1", uri, Duration::from_secs(8));
    let flags = flags(&ca, &short);
    let mut host = Host::start_with(&broker, &place.path("h1-data"), "h1", 1, &flags).await;
    let tq = trusting(&broker, &ca).with_env("TQ_KEY", &admin);
    tq.deploy(&guest::example("faults"), "work", &[]).await;
    tq.run(["run", "work/echo", "before"]).await.ok();
    host.process.line("no session with the broker").await;
    // Nor does it get in anew.
    let refused = showing(&broker, &ca, &short).run(["whoami"]).await;
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    let renewed = clients.for_client(folder, "h1", uri);
    assert_eq!(renewed, short, "it is in its place");
    let ran = tq.run(["run", "work/echo", "after"]).await;
    assert_eq!(ran.text().trim(), "after");
    host.process.stop().await;
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_served_by_tls() {
    let place = Place::new();
    let broker = place.broker(&[]).await;
    let ca = place.authority.certificate();
    let own = place.authority.for_node(place.folder.path(), "metrics");
    let listen = format!("127.0.0.1:{}", free_port());
    let flags = [
        "--tls-ca",
        text(&ca),
        "--metrics-listen",
        &listen,
        "--metrics-tls-cert",
        text(&own.certificate),
        "--metrics-tls-key",
        text(&own.key),
    ];
    let host = Host::start_with(&broker, &place.path("host"), "h1", 1, &flags).await;
    for address in [&listen, broker.url().trim_start_matches("https://")] {
        let answer = get(address, &ca).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{address}: {answer}");
        assert!(answer.contains("tq_build_info"), "{address}: {answer}");
    }
    host.process.stop().await;
    broker.process.stop().await;
}

/// What a collector of metrics gets.
async fn get(address: &str, ca: &Path) -> String {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(ca).expect("it is a certificate");
    roots.add(ca).expect("it is an authority's");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has what they need")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    within("GET /metrics", async {
        let stream = TcpStream::connect(address)
            .await
            .expect("somebody listens there");
        let name = ServerName::try_from("localhost").expect("it is a name");
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector
            .connect(name, stream)
            .await
            .expect("the certificate is trusted");
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream
            .write_all(request)
            .await
            .expect("a request can be sent");
        let mut answer = Vec::new();
        // The end may come without a farewell of TLS.
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8(answer).expect("it is text")
    })
    .await
}
