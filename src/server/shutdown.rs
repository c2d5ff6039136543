//! Orders to end: signals for a process, a channel for a test.

use std::io;

use tokio::sync::mpsc;

/// An order to end. The first begins the drain, the second ends it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order;

/// Where orders come from.
#[derive(Debug)]
pub struct Orders(mpsc::Receiver<Order>);

impl Orders {
    /// Orders given by whoever holds the sender. When it is dropped the server ends.
    pub fn channel() -> (mpsc::Sender<Order>, Self) {
        let (sender, orders) = mpsc::channel(2);
        (sender, Self(orders))
    }

    pub(super) async fn next(&mut self) {
        // Nobody left to give orders is an order too.
        self.0.recv().await.unwrap_or(Order);
    }
}

/// SIGTERM and SIGINT, as orders.
pub fn signals() -> io::Result<Orders> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, orders) = Orders::channel();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("SIGTERM"),
                _ = interrupt.recv() => tracing::info!("SIGINT"),
            }
            if sender.send(Order).await.is_err() {
                break;
            }
        }
    });
    Ok(orders)
}
