//! Who asks, and whom: TLS, certificates, tokens and sockets, of the Rust client and of the command line.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use expect_test::{Expect, expect};
use jet_session::client::{Builder, Client, ErrorKind, Tls};
use jet_session::config::Listen;
use jet_session::domain::id::InstanceId;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::certificates::{Authority, Issued};
use crate::support::secured::{Secured, TOKEN};
use crate::support::{TestServer, within};

/// The names under which tests reach their servers.
const HERE: [&str; 2] = ["localhost", "127.0.0.1"];

fn main() -> InstanceId {
    "main".parse().expect("an instance")
}

async fn connected(builder: Builder) -> Client {
    within("a connection", builder.connect()).await.expect("the server is trusted")
}

/// What the program answers, and its exit code.
struct Told {
    code: i32,
    stdout: String,
    stderr: String,
}

/// The program as a client, with these arguments and variables.
async fn ask(args: &[&str], variables: &[(&str, &str)]) -> Told {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jet-session"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("JET_SESSION_") {
            command.env_remove(name);
        }
    }
    command.args(args).envs(variables.iter().copied()).stdin(Stdio::null());
    let ended = tokio::task::spawn_blocking(move || command.output());
    let ended = within("the program ends", ended).await.expect("no panic").expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    let code = ended.status.code().expect("no signal ends it");
    Told { code, stdout: text(ended.stdout), stderr: text(ended.stderr) }
}

/// A directory with files of these certificates, and its paths as texts.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn ca(&self, authority: &Authority, name: &str) -> String {
        authority.file(self.path(), name).to_str().expect("text").to_owned()
    }

    fn identity(&self, issued: &Issued, name: &str) -> [String; 2] {
        let (certificate, key) = issued.files(self.path(), name);
        [certificate, key].map(|path| path.to_str().expect("text").to_owned())
    }
}

#[tokio::test]
async fn all_that_a_client_does_goes_over_tls_with_its_token() {
    let server = TestServer::start().await;
    let authority = Authority::new();
    let secured = Secured::by_token(&server, &authority.issue(&HERE)).await;
    let builder = Client::builder(secured.uri())
        .tls(Tls::new().ca_pem(authority.pem()))
        .token(TOKEN)
        .lease_ttl(Duration::from_secs(1));
    let client = connected(builder).await;

    let mut watch = client.watch_sessions(&main());
    within("a snapshot", watch.next()).await.unwrap();
    let session = client.begin_session(&main()).await.unwrap();
    let guard = client.thread("worker-1").unwrap().bind(&session, 7).await.unwrap();
    let began = within("an event", watch.next()).await.unwrap();
    assert_eq!(began.session.unwrap().name, session.to_string());
    let beat = || secured.calls().iter().any(|method| method == "KeepThreadsAlive");
    let beating = async {
        while !beat() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("a heartbeat", beating).await;
    assert_eq!(guard.loss(), None);
    guard.release().await.unwrap();

    let stranger = Client::builder(secured.uri()).tls(Tls::new().ca_pem(authority.pem()));
    let denied = connected(stranger).await.begin_session(&main()).await.unwrap_err();
    assert_eq!((denied.kind(), denied.attempts()), (ErrorKind::Unauthenticated, 1));
}

#[tokio::test]
async fn a_server_may_have_another_name_than_its_address() {
    let server = TestServer::start().await;
    let authority = Authority::new();
    let secured = Secured::open(&server, &authority.issue(&["jet.example"])).await;
    let trusting = || Tls::new().ca_pem(authority.pem());
    let here = || Client::builder(secured.uri());

    let refused = here().tls(trusting()).connect().await.unwrap_err();
    let client = connected(here().tls(trusting().server_name("jet.example"))).await;

    assert_eq!(refused.kind(), ErrorKind::Unreachable);
    client.begin_session(&main()).await.unwrap();
}

#[tokio::test]
async fn a_connection_is_made_anew_with_the_certificates_that_there_are_then() {
    let server = TestServer::start().await;
    let (old, new) = (Authority::new(), Authority::new());
    let secured = Secured::open(&server, &old.issue(&HERE)).await;
    let files = Files::new();
    let ca = files.ca(&old, "ca.pem");
    let client = connected(Client::builder(secured.uri()).tls(Tls::new().ca_file(&ca))).await;
    client.begin_session(&main()).await.unwrap();

    // A broken file leaves what there was.
    std::fs::write(&ca, "nothing").unwrap();
    secured.restart(&old.issue(&HERE));
    client.begin_session(&main()).await.unwrap();

    new.file(files.path(), "ca.pem");
    secured.restart(&new.issue(&HERE));
    client.begin_session(&main()).await.unwrap();
}

#[tokio::test]
async fn what_a_client_is_given_is_looked_at_before_it_connects() {
    let files = Files::new();
    let authority = Authority::new();
    let ca = files.ca(&authority, "ca.pem");
    let [certificate, key] = files.identity(&authority.issue(&[]), "a");
    let [_, other] = files.identity(&authority.issue(&[]), "b");
    let missing = files.path().join("missing");
    let here = || Tls::new().ca_file(&ca);
    for (uri, tls, says) in [
        ("https://localhost:1", Tls::new().ca_file(&missing), "missing: No such file"),
        ("https://localhost:1", Tls::new().ca_file(&key), "a.key: it holds no certificate"),
        ("https://localhost:1", Tls::new().ca_file("/dev/zero"), "more than"),
        ("https://localhost:1", here().identity_files(&certificate, &ca), "no private key"),
        ("https://localhost:1", here().identity_files(&certificate, &other), "an identity"),
        ("https://localhost:1", here().server_name("a b"), "name cannot be one"),
        ("http://localhost:1", here(), "for https://"),
        ("unix:/run/jet.sock", here(), "for https://"),
    ] {
        let error = Client::builder(uri).tls(tls).connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let pem = Tls::new().identity_pem(std::fs::read(&certificate).unwrap(), "a key");
    assert!(!format!("{pem:?}").contains("a key"), "{pem:?}");
}

#[tokio::test]
async fn a_socket_in_the_file_system_is_a_server_too() {
    let files = Files::new();
    let socket = files.path().join("jet.sock");
    let _server = TestServer::start_with(|config| config.listen.push(Listen::Unix(socket.clone())));
    let _server = _server.await;
    let address = format!("unix:{}", socket.display());

    let client = connected(Client::builder(&address).token(TOKEN)).await;
    client.begin_session(&main()).await.unwrap();
    for command in ["healthcheck", "server-info"] {
        let told = ask(&["--server", &address, command], &[]).await;
        assert_eq!(told.code, 0, "{command}: {}", told.stderr);
    }
    let load = ["bench", "--warm-up", "0s", "--duration", "100ms", "--clients", "2"];
    let told = ask(&[&["--server", &address][..], &load].concat(), &[]).await;
    assert_eq!(told.code, 0, "{}", told.stderr);

    let told = ask(&["--server", "unix:/there/is/none", "healthcheck"], &[]).await;
    told.is(
        5,
        expect![[r#"
            error: cannot reach the server at unix:/there/is/none: No such file or directory (os error 2)
        "#]],
    );
}

impl Told {
    /// It failed with this code and this word.
    #[track_caller]
    fn is(&self, code: i32, said: Expect) {
        said.assert_eq(&self.stderr);
        assert_eq!((self.code, self.stdout.as_str()), (code, ""));
    }
}

#[tokio::test]
async fn every_command_is_told_who_asks_by_options_or_by_the_environment() {
    let server = TestServer::start().await;
    let authority = Authority::new();
    let secured = Secured::by_token(&server, &authority.issue(&HERE)).await;
    let files = Files::new();
    let ca = files.ca(&authority, "ca.pem");
    let token = files.path().join("token");
    std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let token = token.to_str().unwrap();
    let at = secured.address().to_string();
    // Without a scheme it is TLS, because there is an authority.
    let options = ["--server", &at, "--ca", &ca, "--token-file", token];
    let variables =
        [("JET_SESSION_SERVER", &*at), ("JET_SESSION_CA", &ca), ("JET_SESSION_TOKEN", TOKEN)];

    let stream = "bench --mode pipeline --warm-up 0s --duration 100ms --clients 2 --connections 1";
    for command in [
        "healthcheck",
        "server-info",
        "session begin",
        "session list",
        "instance list",
        "thread list",
        "bench --warm-up 0s --duration 100ms --clients 2",
        stream,
    ] {
        let command: Vec<&str> = command.split(' ').collect();
        for told in
            [ask(&[&options[..], &command].concat(), &[]).await, ask(&command, &variables).await]
        {
            assert_eq!(told.code, 0, "{command:?}: {}", told.stderr);
        }
    }
    let called = secured.calls();
    for method in ["Check", "BeginSession", "PipelineSessionContexts", "SetSessionContext"] {
        assert!(called.iter().any(|call| call == method), "{method}: {called:?}");
    }

    // What is empty is not given, and the file comes before the variable.
    let empty = [("JET_SESSION_CERT", ""), ("JET_SESSION_KEY", ""), ("JET_SESSION_TOKEN", "wrong")];
    let told = ask(&[&options[..], &["server-info"]].concat(), &empty).await;
    assert_eq!(told.code, 0, "{}", told.stderr);

    let told = ask(&["--server", &at, "--ca", &ca, "server-info"], &[]).await;
    told.is(
        6,
        expect![[r#"
            error: UNAUTHENTICATED: a token that is known is needed
              what helps  a token that the server knows, with --token-file or in JET_SESSION_TOKEN, or a certificate with --cert and --key
        "#]],
    );
}

#[tokio::test]
async fn a_certificate_says_who_asks() {
    let server = TestServer::start().await;
    let (authority, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let secured = Secured::by_certificate(&server, &authority.issue(&HERE), &clients).await;
    let files = Files::new();
    let ca = files.ca(&authority, "ca.pem");
    let [mine, my_key] = files.identity(&clients.issue(&["worker"]), "mine");
    let [theirs, their_key] = files.identity(&others.issue(&["worker"]), "theirs");
    let [old, old_key] = files.identity(&clients.issue_expired(&["worker"]), "old");
    let at = secured.uri();
    let ask = async |more: &[&str]| {
        let options = ["--server", &at, "--ca", &ca, "server-info"];
        let told = ask(&[&options[..], more].concat(), &[]).await;
        Told { stderr: told.stderr.replace(&at, "SERVER"), ..told }
    };

    let told = ask(&["--cert", &mine, "--key", &my_key]).await;
    assert_eq!(told.code, 0, "{}", told.stderr);

    ask(&[]).await.is(6, expect![[r#"
        error: cannot reach the server at SERVER: the server asks for a client certificate, and none was given; give one with --cert and --key
    "#]]);
    ask(&["--cert", &theirs, "--key", &their_key]).await.is(6, expect![[r#"
        error: cannot reach the server at SERVER: the server does not accept the client certificate (DecryptError)
    "#]]);
    ask(&["--cert", &old, "--key", &old_key]).await.is(6, expect![[r#"
        error: cannot reach the server at SERVER: the server does not accept the client certificate (CertificateExpired)
    "#]]);
    ask(&["--cert", &mine]).await.is(
        2,
        expect![[r#"
        error: --cert needs its --key
    "#]],
    );

    // TLS 1.3 ends the handshake before the server has said no; the library waits for its word.
    let tls = Tls::new().ca_pem(authority.pem());
    let error = Client::builder(secured.uri()).tls(tls).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_told_apart() {
    let server = TestServer::start().await;
    let (authority, other) = (Authority::new(), Authority::new());
    let files = Files::new();
    let ca = files.ca(&authority, "ca.pem");
    let ask = async |shows: Issued| {
        let secured = Secured::open(&server, &shows).await;
        let at = secured.uri();
        let told = ask(&["--server", &at, "--ca", &ca, "server-info"], &[]).await;
        let stderr = told.stderr.replace(&at, "SERVER").replace(&ca, "ca.pem");
        assert_eq!(secured.calls(), [""; 0]);
        Told { stderr, ..told }
    };

    ask(other.issue(&HERE)).await.is(6, expect![[r#"
        error: cannot reach the server at SERVER: the server's certificate is not signed by an authority in ca.pem; give the authority that has signed it with --ca
    "#]]);
    ask(authority.issue_expired(&HERE)).await.is(6, expect![[r#"
        error: cannot reach the server at SERVER: the server's certificate expired at 2001-02-03T00:00:00Z
    "#]]);
    ask(authority.issue(&["jet.example", "jet"])).await.is(6, expect![[r#"
        error: cannot reach the server at SERVER: the server's certificate is for jet.example, jet and not for localhost; if it is the right server, give the name in its certificate with --server-name
    "#]]);
}

#[tokio::test]
async fn who_trusts_the_system_does_not_trust_everybody() {
    let server = TestServer::start().await;
    let authority = Authority::new();
    let secured = Secured::open(&server, &authority.issue(&HERE)).await;
    let files = Files::new();
    let at = secured.uri();
    let (ours, other) =
        (files.ca(&authority, "ours.pem"), files.ca(&Authority::new(), "other.pem"));

    // Where the system keeps its authorities.
    let told = ask(&["--server", &at, "server-info"], &[("SSL_CERT_FILE", &ours)]).await;
    assert_eq!(told.code, 0, "{}", told.stderr);
    let told = ask(&["--server", &at, "server-info"], &[("SSL_CERT_FILE", &other)]).await;
    Told { stderr: told.stderr.replace(&at, "SERVER"), ..told }.is(6, expect![[r#"
        error: cannot reach the server at SERVER: the server's certificate is not signed by an authority that this system trusts; give the authority that has signed it with --ca
    "#]]);
}

/// Something that says these bytes to whoever says anything, and hangs up.
async fn saying(word: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut heard = [0; 1024];
            // The client may be gone already.
            if tcp.read(&mut heard).await.is_ok() {
                tcp.write_all(word).await.ok();
                tcp.shutdown().await.ok();
            }
        }
    });
    address
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_told_apart() {
    let server = TestServer::start().await;
    let authority = Authority::new();
    let secured = Secured::open(&server, &authority.issue(&HERE)).await;
    let files = Files::new();
    let ca = files.ca(&authority, "ca.pem");
    let ask = async |scheme: &str, address: SocketAddr| {
        let at = format!("{scheme}://{address}");
        let variables = [("JET_SESSION_CA", &*ca)];
        let variables = if scheme == "https" { &variables[..] } else { &[] };
        let told = ask(&["--server", &at, "server-info"], variables).await;
        Told { stderr: told.stderr.replace(&at, "SERVER"), ..told }
    };

    ask("http", secured.address()).await.is(5, expect![[r#"
        error: cannot reach the server at SERVER: TLS is spoken there, and no plaintext; write https://
    "#]]);
    ask("https", server.address()).await.is(5, expect![[r#"
        error: cannot reach the server at SERVER: the server closed the connection instead of speaking TLS; if it speaks plaintext, write http://
    "#]]);
    let web = saying(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
    ask("http", web).await.is(5, expect![[r#"
        error: cannot reach the server at SERVER: HTTP/2 is not spoken there, which gRPC needs; it may be the wrong port
    "#]]);
    ask("https", web).await.is(5, expect![[r#"
        error: cannot reach the server at SERVER: no TLS is spoken there; if it speaks plaintext, write http://
    "#]]);
    ask("http", saying(b"").await).await.is(5, expect![[r#"
        error: cannot reach the server at SERVER: the server closed the connection instead of answering plaintext; if it speaks TLS, write https://
    "#]]);

    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let uri = format!("http://{}", silent.local_addr().expect("bound"));
    let builder = Client::builder(uri).connect_timeout(Duration::from_millis(50));
    let error = builder.connect().await.unwrap_err();
    assert_eq!(error.to_string(), "cannot reach the server: it has said nothing within 50ms");
}

#[tokio::test]
async fn what_does_not_go_together_is_said_before_anything_is_sent() {
    let files = Files::new();
    let ca = files.ca(&Authority::new(), "ca.pem");
    let token = [("JET_SESSION_TOKEN", TOKEN)];
    let ask = async |args: &[&str]| ask(&[args, &["server-info"]].concat(), &token).await;

    ask(&["--server", "http://192.0.2.1:1"]).await.is(2, expect![[r#"
        error: a token is not shown to another machine in plaintext, where others could take it: write https://, or allow it (plaintext-token)
    "#]]);
    ask(&["--server", "http://127.0.0.1:1", "--ca", &ca]).await.is(
        2,
        expect![[r#"
        error: certificates and server names are for https://HOST:PORT only
    "#]],
    );
    ask(&["--server", "https://127.0.0.1:1", "--token-file", "/missing"]).await.is(
        2,
        expect![[r#"
            error: the token file /missing: No such file or directory (os error 2)
        "#]],
    );
    let told = ask(&["--server", "http://0.0.0.0:1", "--plaintext-token"]).await;
    assert_eq!(told.code, 5, "{}", told.stderr);
}
