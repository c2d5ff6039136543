//! Files that are right and wrong, handshakes that come about and do not.

mod authority;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use rcgen::date_time_ymd;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, ProtocolVersion, version};

use super::*;
use crate::domain::id::Principal;
use authority::{Authority, Pair, dns, uri};

/// The files of a server, which begins with good ones.
struct Files {
    dir: TempDir,
    config: Config,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let mut config = Config::new(([127, 0, 0, 1], 0).into());
        config.tls = Some(config::Tls {
            certificate: dir.path().join("certificate"),
            key: dir.path().join("key"),
            clients: None,
            min_version: TlsVersion::default(),
        });
        let authority = Authority::new();
        let files = Self { dir, config, authority };
        files.show(&files.authority.server());
        files
    }

    /// From the next load on the server shows this.
    fn show(&self, pair: &Pair) {
        self.write("certificate", &pair.certificate);
        self.write("key", &pair.key);
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        self.mode(name, 0o600);
    }

    fn mode(&self, name: &str, mode: u32) {
        let path = self.dir.path().join(name);
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// From the next load on clients show certificates of this authority.
    fn ask_clients(&mut self, auth: ClientAuth, roots: &str) {
        self.write("client-ca", roots);
        let ca = self.dir.path().join("client-ca");
        self.tls().clients = Some(Clients { ca, auth });
    }

    fn tls(&mut self) -> &mut config::Tls {
        self.config.tls.as_mut().unwrap()
    }

    fn load(&self) -> Tls {
        Tls::load(&self.config).unwrap().unwrap()
    }

    /// What is wrong, with the directory left out.
    fn mistakes(&self) -> Vec<String> {
        self.told(Tls::load(&self.config).map(drop))
    }

    fn told(&self, result: Result<(), Vec<Mistake>>) -> Vec<String> {
        let directory = format!("{}/", self.dir.path().display());
        let told = |mistake: &Mistake| mistake.to_string().replace(&directory, "");
        result.expect_err("something is wrong").iter().map(told).collect()
    }

    /// A client that believes the server and shows nothing.
    fn client(&self) -> ClientConfig {
        self.authority.believer(None)
    }
}

/// A connection that came about: both ends of it, and who the client is.
struct Secret {
    client: client::TlsStream<DuplexStream>,
    server: TlsStream<DuplexStream>,
    peer: Peer,
}

/// Lets a client shake hands with a server; what each of them thinks of it.
async fn shake(
    tls: &Tls,
    client: impl Into<Arc<ClientConfig>>,
) -> (io::Result<(TlsStream<DuplexStream>, Peer)>, io::Result<client::TlsStream<DuplexStream>>) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("localhost").unwrap();
    let connect = TlsConnector::from(client.into()).connect(name, theirs);
    tokio::join!(tls.accept(ours), connect)
}

/// A connection that must come about.
async fn connect(tls: &Tls, client: impl Into<Arc<ClientConfig>>) -> Secret {
    let (server, client) = shake(tls, client).await;
    let (server, peer) = server.expect("the server lets the client in");
    Secret { client: client.expect("the client believes the server"), server, peer }
}

/// Why the server does not let a client in.
async fn refused(tls: &Tls, client: impl Into<Arc<ClientConfig>>) -> String {
    shake(tls, client).await.0.expect_err("the server lets nobody in").to_string()
}

impl Secret {
    /// Sends something each way; whatever is sent beside it, such as tickets, arrives too.
    async fn talk(&mut self) {
        let mut heard = [0; 4];
        self.client.write_all(b"ping").await.unwrap();
        self.server.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"ping");
        self.server.write_all(b"pong").await.unwrap();
        self.client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"pong");
    }

    /// The certificate that the client was shown.
    fn shown(&self) -> &[u8] {
        self.client.get_ref().1.peer_certificates().unwrap()[0].as_ref()
    }

    fn kind(&self) -> HandshakeKind {
        self.client.get_ref().1.handshake_kind().unwrap()
    }
}

#[test]
fn without_a_certificate_there_is_no_tls() {
    let mut files = Files::new();
    files.config.tls = None;
    assert!(Tls::load(&files.config).unwrap().is_none());
}

#[tokio::test]
async fn a_client_that_believes_the_authority_is_served_in_tls_1_3() {
    let files = Files::new();

    let mut secret = connect(&files.load(), files.client()).await;

    secret.talk().await;
    let session = secret.server.get_ref().1;
    assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(session.alpn_protocol(), Some(H2));
    assert_eq!(secret.peer, Peer::Unknown);
}

#[tokio::test]
async fn a_client_that_believes_others_does_not_let_itself_be_served() {
    let files = Files::new();

    let (server, client) = shake(&files.load(), Authority::new().believer(None)).await;

    assert!(client.unwrap_err().to_string().contains("UnknownIssuer"));
    assert!(server.is_err());
}

#[tokio::test]
async fn tls_1_2_is_spoken_only_if_it_is_asked_for() {
    let mut files = Files::new();
    let old = |files: &Files| {
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&version::TLS12])
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(files.authority.pem().as_bytes()).unwrap())
            .unwrap();
        client.with_root_certificates(roots).with_no_client_auth()
    };
    let why = refused(&files.load(), old(&files)).await;
    assert!(why.contains("Tls12NotOfferedOrEnabled"), "{why}");

    files.tls().min_version = TlsVersion::V1_2;

    let mut secret = connect(&files.load(), old(&files)).await;
    secret.talk().await;
    assert_eq!(secret.server.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    let secret = connect(&files.load(), files.client()).await;
    assert_eq!(secret.server.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

#[tokio::test]
async fn who_offers_other_protocols_is_refused_and_who_offers_none_is_not() {
    let files = Files::new();
    let offering = |protocols: &[&[u8]]| {
        let mut client = files.client();
        client.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        client
    };
    let tls = files.load();

    let why = refused(&tls, offering(&[b"http/1.1", b"h3"])).await;
    assert!(why.contains("doesn't support any known protocol"), "{why}");
    connect(&tls, offering(&[b"http/1.1", b"h2"])).await.talk().await;
    connect(&tls, offering(&[])).await.talk().await;
}

#[tokio::test]
async fn a_client_that_must_show_a_certificate_shows_a_good_one_or_is_refused() {
    let mut files = Files::new();
    let clients = Authority::new();
    let believer = |pair: Option<&Pair>| files.authority.believer(pair);
    let known = believer(Some(&clients.client([dns("worker.example")])));
    let foreign = believer(Some(&Authority::new().client([dns("worker.example")])));
    let server = believer(Some(&clients.server()));
    let expired = clients.sign(|params| {
        params.subject_alt_names = vec![dns("worker.example")];
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let expired = believer(Some(&expired));
    let nobody = believer(None);
    files.ask_clients(ClientAuth::Require, &clients.pem());
    let tls = files.load();

    assert_eq!(connect(&tls, known.clone()).await.peer, certified("worker.example"));
    for (client, why) in [
        (&nobody, "no certificates"),
        (&foreign, "UnknownIssuer"),
        (&expired, "certificate expired"),
        (&server, "does not allow extended key usage"),
    ] {
        let told = refused(&tls, client.clone()).await;
        assert!(told.contains(why), "{told} has no {why}");
    }

    // Where none need be shown, one that is shown must still be good.
    files.ask_clients(ClientAuth::Optional, &clients.pem());
    let tls = files.load();
    assert_eq!(connect(&tls, known).await.peer, certified("worker.example"));
    assert_eq!(connect(&tls, nobody).await.peer, Peer::Unknown);
    refused(&tls, foreign).await;
    refused(&tls, expired).await;
}

fn certified(name: &str) -> Peer {
    Peer::Certified(Principal::new(name))
}

#[tokio::test]
async fn a_certificate_names_one_principal_or_nobody() {
    let mut files = Files::new();
    let clients = Authority::new();
    files.ask_clients(ClientAuth::Require, &clients.pem());
    let tls = files.load();
    const ID: &str = "spiffe://example.org/ns/jobs/sa/worker";
    let long = format!("spiffe://example.org/{}", "x".repeat(300));
    let none = "it has neither a URI nor a DNS name";
    let address = || rcgen::SanType::IpAddress([10, 0, 0, 1].into());
    for (names, peer) in [
        (vec![uri(ID)], certified(ID)),
        (vec![dns("worker.example"), uri(ID)], certified(ID)),
        (vec![address(), dns("b.example"), dns("a.example")], certified("b.example")),
        (vec![uri(ID), uri("spiffe://other/id")], Peer::Nameless("it has more than one URI")),
        (vec![uri(&long)], Peer::Nameless("its name is empty or too long")),
        (vec![uri("")], Peer::Nameless("its name is empty or too long")),
        (vec![uri("a b")], Peer::Nameless("its name has characters that are not visible")),
        (vec![uri("a\nb")], Peer::Nameless("its name has characters that are not visible")),
        (vec![dns("*.example")], Peer::Nameless("its name stands for many")),
        (vec![dns("anonymous")], Peer::Nameless("its name is that of whoever has none")),
        (vec![dns("Anonymous")], Peer::Nameless("its name is that of whoever has none")),
        (vec![address()], Peer::Nameless(none)),
        (vec![], Peer::Nameless(none)),
    ] {
        let client = files.authority.believer(Some(&clients.client(names.clone())));
        assert_eq!(connect(&tls, client).await.peer, peer, "{names:?}");
    }
}

#[tokio::test]
async fn a_reload_is_for_new_connections() {
    let files = Files::new();
    let tls = files.load();
    let mut before = connect(&tls, files.client()).await;
    let next = files.authority.sign(|params| {
        params.subject_alt_names = vec![dns("localhost")];
        params.not_after = date_time_ymd(2100, 1, 1);
    });
    files.show(&next);

    tls.reload(&files.config).unwrap();

    assert_eq!(tls.not_after().as_secs(), 4_102_444_800);
    let mut after = connect(&tls, files.client()).await;
    assert_ne!(before.shown(), after.shown());
    before.talk().await;
    after.talk().await;
}

#[tokio::test]
async fn a_reload_of_broken_files_changes_nothing_and_says_why() {
    let mut files = Files::new();
    let clients = Authority::new();
    files.ask_clients(ClientAuth::Require, &clients.pem());
    let tls = files.load();
    let not_after = tls.not_after();
    let pair = clients.client([dns("worker.example")]);
    let client = || files.authority.believer(Some(&pair));
    let mut before = connect(&tls, client()).await;
    let shown = before.shown().to_vec();
    let expired = files.authority.sign(|params| {
        params.subject_alt_names = vec![dns("localhost")];
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let next = files.authority.server();

    // A certificate that came before its key, one that is too old, half a file, and none.
    files.write("certificate", &next.certificate);
    let told = files.told(tls.reload(&files.config));
    assert_eq!(
        told,
        ["tls.key: key: the key does not belong to the first certificate of certificate"]
    );
    files.show(&expired);
    let told = files.told(tls.reload(&files.config));
    let why = "tls.certificate: certificate: certificate 1 of the file has expired at 2020-01-01T00:00:00Z";
    assert_eq!(told, [why]);
    files.show(&Pair { certificate: next.certificate[..100].to_owned(), ..next.clone() });
    files.told(tls.reload(&files.config));
    fs::remove_file(files.dir.path().join("certificate")).unwrap();
    files.told(tls.reload(&files.config));
    files.show(&next);
    files.write("client-ca", "");
    files.told(tls.reload(&files.config));
    let off = Config { tls: None, ..files.config.clone() };
    files.told(tls.reload(&off));

    before.talk().await;
    let mut after = connect(&tls, client()).await;
    assert_eq!((after.shown(), &after.peer), (&*shown, &certified("worker.example")));
    after.talk().await;
    assert_eq!(tls.not_after(), not_after);
}

#[tokio::test]
async fn no_session_of_a_client_with_a_certificate_is_resumed() {
    let mut files = Files::new();
    let clients = Authority::new();
    files.ask_clients(ClientAuth::Require, &clients.pem());
    for min_version in [TlsVersion::V1_3, TlsVersion::V1_2] {
        files.tls().min_version = min_version;
        let tls = files.load();
        let pair = clients.client([dns("worker.example")]);
        let client = Arc::new(files.authority.believer(Some(&pair)));

        for _ in 0..3 {
            let mut secret = connect(&tls, Arc::clone(&client)).await;
            secret.talk().await;
            assert_eq!(secret.kind(), HandshakeKind::Full);
            assert_eq!(secret.peer, certified("worker.example"));
        }
        // So that an authority that is not believed any more is believed by no detour.
        files.write("client-ca", &Authority::new().pem());
        tls.reload(&files.config).unwrap();
        assert!(refused(&tls, Arc::clone(&client)).await.contains("UnknownIssuer"));
        files.write("client-ca", &clients.pem());
    }
}

#[tokio::test]
async fn a_session_of_a_client_without_a_certificate_is_resumed_until_a_reload() {
    let files = Files::new();
    let tls = files.load();
    let client = Arc::new(files.client());
    let kind = async || {
        let mut secret = connect(&tls, Arc::clone(&client)).await;
        secret.talk().await;
        secret.kind()
    };

    assert_eq!(kind().await, HandshakeKind::Full);
    assert_eq!(kind().await, HandshakeKind::Resumed);
    tls.reload(&files.config).unwrap();
    assert_eq!(kind().await, HandshakeKind::Full);
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_setting() {
    let check = |spoil: &dyn Fn(&mut Files), expected: &str| {
        let mut files = Files::new();
        spoil(&mut files);
        let told = files.mistakes();
        assert!(told.len() == 1 && told[0].starts_with(expected), "{told:#?}\nnot {expected}");
    };
    let remove = |files: &Files, name: &str| fs::remove_file(files.dir.path().join(name)).unwrap();
    let of = |files: &Files, name: &str| fs::read_to_string(files.dir.path().join(name)).unwrap();

    check(
        &|f| remove(f, "certificate"),
        "tls.certificate: certificate: the file cannot be read: No such file",
    );
    check(&|f| remove(f, "key"), "tls.key: key: the file cannot be read: No such file");
    check(&|f| f.tls().key = "/".into(), "tls.key: /: this is no file");
    check(
        &|f| f.write("certificate", ""),
        "tls.certificate: certificate: the file holds nothing that is PEM, no certificate",
    );
    check(
        &|f| f.write("key", "secret"),
        "tls.key: key: the file holds nothing that is PEM, no private key",
    );
    check(
        &|f| f.write("certificate", &of(f, "key")),
        "tls.certificate: certificate: the file holds a private key, no certificate",
    );
    check(
        &|f| f.write("key", &of(f, "certificate")),
        "tls.key: key: the file holds a certificate, no private key",
    );
    check(
        &|f| f.write("key", &of(f, "key").repeat(2)),
        "tls.key: key: the file holds more than one private key",
    );
    check(
        &|f| f.write("certificate", &of(f, "certificate")[..99]),
        "tls.certificate: certificate: the file is no PEM: ",
    );
    check(
        &|f| {
            f.write("key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
        },
        "tls.key: key: the key is encrypted",
    );
    check(
        &|f| {
            f.write("certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        },
        "tls.certificate: certificate: certificate 1 of the file cannot be read: ",
    );
    check(
        &|f| f.write("key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        "tls.key: key: the key cannot be used: ",
    );
    check(
        &|f| f.write("key", &f.authority.server().key),
        "tls.key: key: the key does not belong to the first certificate of certificate",
    );
    check(
        // The one above the server's stands first.
        &|f| f.write("certificate", &(f.authority.pem() + &of(f, "certificate"))),
        "tls.key: key: the key does not belong to the first certificate of certificate",
    );
    check(
        &|f| f.write("key", &" ".repeat(2 << 20)),
        "tls.key: key: the file is larger than 1048576 bytes",
    );
    check(
        &|f| f.mode("key", 0o604),
        "tls.key: key: everybody on this machine can read or write the file (mode 0604)",
    );
    check(
        &|f| f.show(&f.authority.sign(|params| params.not_after = date_time_ymd(2020, 1, 1))),
        "tls.certificate: certificate: certificate 1 of the file has expired at 2020-01-01T00:00:00Z",
    );
    check(
        &|f| f.show(&f.authority.sign(|params| params.not_before = date_time_ymd(4000, 1, 1))),
        "tls.certificate: certificate: certificate 1 of the file is not valid before 4000-01-01T00:00:00Z",
    );
    check(
        &|f| {
            let old = Authority::with(|params| params.not_after = date_time_ymd(2020, 1, 1));
            f.write("certificate", &(of(f, "certificate") + &old.pem()));
        },
        "tls.certificate: certificate: certificate 2 of the file has expired at 2020-01-01T00:00:00Z",
    );
    check(
        &|f| f.ask_clients(ClientAuth::Require, ""),
        "tls.client_ca: client-ca: the file holds nothing that is PEM, no certificate",
    );
    check(
        &|f| {
            let old = Authority::with(|params| params.not_after = date_time_ymd(2020, 1, 1));
            f.ask_clients(ClientAuth::Require, &old.pem());
        },
        "tls.client_ca: client-ca: every certificate of the file has expired or is not valid yet",
    );
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let mut files = Files::new();
    files.show(&files.authority.sign(|params| params.not_after = date_time_ymd(2020, 1, 1)));
    files.mode("key", 0o644);
    files.ask_clients(ClientAuth::Require, "");

    let told = files.mistakes();

    let settings: Vec<_> = told.iter().filter_map(|one| one.split(": ").next()).collect();
    assert_eq!(settings, ["tls.certificate", "tls.key", "tls.client_ca"], "{told:#?}");
}

#[tokio::test]
async fn a_root_that_has_expired_is_left_out_and_keeps_nobody_from_starting() {
    let mut files = Files::new();
    let clients = Authority::new();
    let old = Authority::with(|params| params.not_after = date_time_ymd(2020, 1, 1));
    files.ask_clients(ClientAuth::Require, &(old.pem() + &clients.pem()));
    let tls = files.load();

    let client =
        |of: &Authority| files.authority.believer(Some(&of.client([dns("worker.example")])));

    assert_eq!(connect(&tls, client(&clients)).await.peer, certified("worker.example"));
    refused(&tls, client(&old)).await;
}

#[tokio::test]
async fn a_chain_is_good_for_as_long_as_all_of_it() {
    let files = Files::new();
    let pair = files.authority.server();
    let soon = Authority::with(|params| params.not_after = date_time_ymd(2100, 1, 1));
    files.show(&Pair { certificate: pair.certificate + &soon.pem(), key: pair.key });

    assert_eq!(files.load().not_after().as_secs(), 4_102_444_800);
}

#[test]
fn a_key_may_be_read_by_groups_of_ours() {
    let files = Files::new();
    // A new file has the group of its process, or that of its directory, which is ours as well.
    for mode in [0o400, 0o440, 0o600, 0o640] {
        files.mode("key", mode);
        files.load();
    }
    for (mode, group, kept) in [
        (0o100600, 7, true),
        (0o100640, 7, false),
        (0o100620, 7, false),
        (0o100660, 7, false),
        (0o100660, 1000, true),
        (0o100440, 2000, true),
        (0o100444, 1000, false),
        (0o100602, 1000, false),
        (0o100711, 7, true),
    ] {
        let found = files::kept_secret(mode, group, &[1000, 2000]).is_ok();
        assert_eq!(found, kept, "{mode:o} of group {group}");
    }
}

#[tokio::test]
async fn an_elliptic_key_may_also_be_written_as_openssl_did() {
    let files = Files::new();
    let pair = files.authority.server();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    // A P-256 key in PKCS#8 as ring writes it is a SEC1 key behind 29 bytes.
    let sec1 = &key.secret_der()[29..];
    let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, sec1);
    files.show(&Pair {
        key: format!("-----BEGIN EC PRIVATE KEY-----\n{text}\n-----END EC PRIVATE KEY-----\n"),
        ..pair
    });

    connect(&files.load(), files.client()).await.talk().await;
}
