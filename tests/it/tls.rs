//! Clients in TLS: those that are believed, those that are not, and those that speak something else.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use jet_session::config::{ClientAuth, Clients, Config, Listen, Tls, TlsVersion};
use jet_session::server::{self, Ending, Orders, ServerError};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::support::authority::{Authority, Pair, dns, uri};
use crate::support::raw::Raw;
use crate::support::{MAIN, TestServer, within};

/// Longer than any test: what ends before was ended by something else.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// How a ClientHello begins.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01";

/// Who signs whose certificate, and the files of the server.
struct Secrets {
    dir: TempDir,
    server: Authority,
    clients: Authority,
}

impl Secrets {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let secrets = Self { dir, server: Authority::new(), clients: Authority::new() };
        let pair = secrets.server.server();
        secrets.write("certificate", &pair.certificate);
        secrets.write("key", &pair.key);
        secrets.write("clients", &secrets.clients.pem());
        secrets
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::write(&path, text).expect("the directory is ours");
        fs::set_permissions(path, Permissions::from_mode(0o600)).expect("the file is ours");
    }

    /// The settings of a server that shows its certificate, and may ask for those of clients.
    fn settings(&self, auth: Option<ClientAuth>) -> Option<Tls> {
        let path = |name: &str| self.dir.path().join(name);
        Some(Tls {
            certificate: path("certificate"),
            key: path("key"),
            clients: auth.map(|auth| Clients { ca: path("clients"), auth }),
            min_version: TlsVersion::default(),
        })
    }

    /// Rules under which the worker and whoever shows nothing may do everything.
    fn policy(&self) -> PathBuf {
        let rule = "[[rule]]\nprincipals = ['*', 'anonymous']\n\
                    instances = ['*']\nroles = ['admin']\n";
        self.write("policy.toml", rule);
        self.dir.path().join("policy.toml")
    }

    async fn start(&self, auth: Option<ClientAuth>) -> TestServer {
        TestServer::start_apart(|config| {
            config.tls = self.settings(auth);
            config.auth.policy = auth.map(|_| self.policy());
        })
        .await
    }

    /// A client of tonic's.
    async fn channel(
        &self,
        server: &TestServer,
        shows: Option<&Pair>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.server.pem()))
            .domain_name("localhost");
        if let Some(pair) = shows {
            tls = tls.identity(Identity::from_pem(&pair.certificate, &pair.key));
        }
        let uri = format!("https://{}", server.address());
        let endpoint = Endpoint::from_shared(uri)?.tls_config(tls)?;
        within("a connection, or none", endpoint.connect()).await
    }
}

/// Takes a session, as proof that a client is served.
async fn is_served(channel: Channel) -> bool {
    use jet_session::proto::api::BeginSessionRequest;
    use jet_session::proto::api::session_service_client::SessionServiceClient;
    let request = BeginSessionRequest { instance: MAIN.to_owned(), ..Default::default() };
    let mut sessions = SessionServiceClient::new(channel);
    within("an answer", sessions.begin_session(request)).await.is_ok()
}

/// Shakes hands as rustls does.
async fn shake(
    server: &TestServer,
    client: ClientConfig,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server.address()).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    within("a handshake", TlsConnector::from(std::sync::Arc::new(client)).connect(name, stream))
        .await
}

#[tokio::test]
async fn a_client_that_believes_the_server_is_served() {
    let secrets = Secrets::new();
    let server = secrets.start(None).await;

    assert!(is_served(secrets.channel(&server, None).await.unwrap()).await);

    let stream = shake(&server, secrets.server.believer(None)).await.unwrap();
    Raw::over(stream).await.settle().await;
}

#[tokio::test]
async fn a_client_that_believes_others_is_not() {
    let secrets = Secrets::new();
    let server = secrets.start(None).await;
    let foreign = Secrets::new();

    assert!(foreign.channel(&server, None).await.is_err());
    assert!(shake(&server, foreign.server.believer(None)).await.is_err());

    assert!(is_served(secrets.channel(&server, None).await.unwrap()).await);
}

#[tokio::test]
async fn a_client_must_show_a_certificate_where_one_is_required() {
    let secrets = Secrets::new();
    let known = secrets.clients.client([uri("spiffe://example.org/worker")]);
    let foreign = Authority::new().client([uri("spiffe://example.org/worker")]);
    for (auth, shows, served) in [
        (ClientAuth::Require, Some(&known), true),
        (ClientAuth::Require, Some(&foreign), false),
        (ClientAuth::Require, None, false),
        (ClientAuth::Optional, Some(&known), true),
        (ClientAuth::Optional, Some(&foreign), false),
        (ClientAuth::Optional, None, true),
    ] {
        let server = secrets.start(Some(auth)).await;
        // In TLS 1.3 a client may hear only afterwards that it was refused.
        let is = match secrets.channel(&server, shows).await {
            Ok(channel) => is_served(channel).await,
            Err(_) => false,
        };
        assert_eq!(is, served, "{auth:?}, {shows:?}");
    }
}

#[tokio::test]
async fn who_speaks_something_else_is_ended_at_once() {
    let secrets = Secrets::new();
    let secret = TestServer::start_apart(|config| {
        config.tls = secrets.settings(None);
        config.silence = FOR_EVER;
    })
    .await;
    let plain = TestServer::start_with(|config| config.silence = FOR_EVER).await;

    for words in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(secret.address()).await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        within("the end", stream.read_to_end(&mut heard)).await.ok();
        assert_eq!(heard, b"");
    }
    assert!(shake(&plain, secrets.server.believer(None)).await.is_err());
    let uri = format!("http://{}", secret.address());
    let plaintext = Endpoint::from_shared(uri).unwrap();
    if let Ok(channel) = within("a connection, or none", plaintext.connect()).await {
        assert!(!is_served(channel).await);
    }
}

#[tokio::test]
async fn a_handshake_that_takes_its_time_holds_up_nobody() {
    let secrets = Secrets::new();
    let mut server = TestServer::start_apart(|config| {
        config.tls = secrets.settings(None);
        config.silence = FOR_EVER;
        config.drain = FOR_EVER;
    })
    .await;
    let mut slow = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(&HALF_A_HELLO[..number % HALF_A_HELLO.len()]).await.unwrap();
        slow.push(stream);
    }
    // One that has shaken hands, and then says nothing.
    let silent = shake(&server, secrets.server.believer(None)).await.unwrap();

    assert!(is_served(secrets.channel(&server, None).await.unwrap()).await);

    server.order_to_end().await;
    assert_eq!(server.ending().await, Ending::Graceful);
    drop((slow, silent));
}

#[tokio::test]
async fn a_handshake_that_is_never_finished_is_given_up() {
    let secrets = Secrets::new();
    let server = TestServer::start_apart(|config| {
        config.tls = secrets.settings(None);
        config.silence = Duration::from_millis(500);
    })
    .await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(HALF_A_HELLO).await.unwrap();

    within("the end", stream.read_to_end(&mut Vec::new())).await.ok();
}

#[tokio::test]
async fn a_socket_in_the_file_system_stays_in_plaintext() {
    let secrets = Secrets::new();
    let path = secrets.dir.path().join("socket");
    let _server = TestServer::start_apart(|config| {
        config.tls = secrets.settings(Some(ClientAuth::Require));
        config.auth.policy = Some(secrets.policy());
        config.listen.push(Listen::Unix(path.clone()));
    })
    .await;

    Raw::over(UnixStream::connect(&path).await.unwrap()).await.settle().await;
}

#[tokio::test]
async fn a_server_does_not_start_with_wrong_files_and_names_them_all() {
    let secrets = Secrets::new();
    secrets.write("key", &secrets.server.client([dns("other.example")]).key);
    secrets.write("clients", "");
    let mut config = Config::new(([127, 0, 0, 1], 0).into());
    config.tls = secrets.settings(Some(ClientAuth::Require));

    let refused = tokio::task::spawn_blocking(move || {
        server::run(&config, || Ok(Orders::channel().1), |_| panic!("it must not start"))
    });

    match within("it gives up", refused).await.unwrap() {
        Err(ServerError::Configuration(mistakes)) => {
            let settings: Vec<_> = mistakes.0.iter().map(|one| one.source.as_str()).collect();
            assert_eq!(settings, ["tls.key", "tls.client_ca"], "{mistakes}");
        }
        other => panic!("{other:?}"),
    }
}
