//! What a server tells monitors, asked by hand.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use jet_session::config::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{TestServer, within};

/// A server that tells metrics.
pub(crate) async fn start() -> TestServer {
    TestServer::start_with(tells).await
}

/// Lets a server tell metrics.
pub(crate) fn tells(config: &mut Config) {
    config.metrics_listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
}

/// An answer of the metrics listener.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Asks for a path.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Told {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
}

/// Asks in these words.
pub(crate) async fn ask(address: SocketAddr, request: &str) -> Told {
    let mut stream = TcpStream::connect(address).await.expect("metrics are told");
    stream.write_all(request.as_bytes()).await.expect("it is taken");
    let mut answer = String::new();
    within("the answer", stream.read_to_string(&mut answer)).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    Told { status, head: head.to_lowercase(), body: body.to_owned() }
}

/// A page of metrics: series with their labels as they are written, and what they are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    pub(crate) series: BTreeMap<String, f64>,
    /// Families and their types.
    pub(crate) families: BTreeMap<String, String>,
}

impl Page {
    /// Reads one, and fails if it is none.
    pub(crate) fn of(text: &str) -> Self {
        let mut page = Self::default();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.split(' ');
                if words.next() == Some("TYPE") {
                    let (name, kind) =
                        (words.next().expect("a name"), words.next().expect("a type"));
                    let before = page.families.insert(name.to_owned(), kind.to_owned());
                    assert_eq!(before, None, "{name} is told twice");
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
            let before = page.series.insert(series.to_owned(), value);
            assert_eq!(before, None, "{series} is told twice");
        }
        page
    }

    /// That of a server, now.
    pub(crate) async fn read(address: SocketAddr) -> Self {
        let told = get(address, "/metrics").await;
        assert_eq!(told.status, 200, "{}", told.body);
        Self::of(&told.body)
    }

    /// The value of a series; 0 if there is none.
    pub(crate) fn value(&self, series: &str) -> f64 {
        self.series.get(series).copied().unwrap_or(0.0)
    }

    /// The sum of all series of this name whose labels have all of these.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let of = |series: &&String| {
            series.split('{').next() == Some(name)
                && labels.iter().all(|label| series.contains(label))
        };
        self.series.iter().filter(|(series, _)| of(series)).map(|(_, value)| value).sum()
    }
}
