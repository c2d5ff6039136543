//! A server behind a socket in the file system.

use std::path::PathBuf;

use jet_session::config::{Config, Listen};
use jet_session::server::{self, Ending, Orders, ServerError};
use tempfile::TempDir;
use tokio::net::UnixStream;

use crate::support::raw::Raw;
use crate::support::{TestServer, within};

fn place() -> (TempDir, PathBuf) {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("socket");
    (dir, path)
}

#[tokio::test]
async fn a_server_is_reached_through_a_socket_as_well_as_by_its_address() {
    let (_dir, path) = place();
    let mut server =
        TestServer::start_with(|config| config.listen.push(Listen::Unix(path.clone()))).await;
    assert_eq!(
        server.listening(),
        [Listen::Tcp(server.address()), Listen::Unix(path.clone())],
        "places are told in the order of the configuration"
    );

    Raw::over(UnixStream::connect(&path).await.unwrap()).await.settle().await;
    Raw::connect(server.address()).await.settle().await;

    server.order_to_end().await;
    assert_eq!(server.ending().await, Ending::Graceful);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_that_has_a_server_is_said_to_have_one() {
    let (_dir, path) = place();
    let _first =
        TestServer::start_apart(|config| config.listen = vec![Listen::Unix(path.clone())]).await;
    let mut config = Config::new(([127, 0, 0, 1], 0).into());
    config.listen = vec![Listen::Unix(path.clone())];

    let second = tokio::task::spawn_blocking(move || {
        server::run(&config, || Ok(Orders::channel().1), |_| panic!("two servers at one socket"))
    });

    match within("the second one gives up", second).await.unwrap() {
        Err(ServerError::Listen { place, source }) => {
            assert_eq!(place, Listen::Unix(path.clone()));
            assert_eq!(source.to_string(), "another server listens there");
        }
        other => panic!("{other:?}"),
    }
    Raw::over(UnixStream::connect(&path).await.unwrap()).await.settle().await;
}
