//! The one who starts the threads, hears signals, shows progress, and knows when it is over.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::load::{Counter, Event, Order};
use super::window::{Clock, Nanos, Window};

/// How often the bar is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// Gives the orders. The first who says stop closes the window.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    sender: watch::Sender<Order>,
    window: Arc<Window>,
}

impl Orders {
    pub(super) fn new(window: Arc<Window>) -> Self {
        Self { sender: watch::Sender::new(Order::Prepare), window }
    }

    pub(super) fn follow(&self) -> watch::Receiver<Order> {
        self.sender.subscribe()
    }

    pub(super) fn is_stop(&self) -> bool {
        self.sender.borrow().is_stop()
    }

    /// Waits for something, unless there is or comes an order that ends the waiting.
    pub(super) async fn unless<T>(
        &self,
        ends: impl Fn(&Order) -> bool,
        happens: impl Future<Output = T>,
    ) -> Option<T> {
        let mut order = self.follow();
        tokio::select! {
            happened = happens => Some(happened),
            _ = order.wait_for(ends) => None,
        }
    }

    fn go(&self, clock: Clock) {
        self.sender.send_if_modified(|order| {
            let prepared = *order == Order::Prepare;
            if prepared {
                *order = Order::Go(clock);
            }
            prepared
        });
    }

    /// Lets what has begun be finished.
    pub(super) fn stop(&self) {
        self.sender.send_if_modified(|order| {
            // Before the order: whoever is woken by it finds the window closed.
            if let Order::Go(clock) = order {
                self.window.close(clock.now());
            }
            let running = !order.is_stop();
            if running {
                *order = Order::Stop;
            }
            running
        });
    }

    /// Lets nothing be finished.
    fn leave(&self) {
        self.stop();
        self.sender.send_replace(Order::Leave);
    }
}

/// What a terminal or a supervisor says.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Hears SIGINT and SIGTERM from now on; they do not end the process any more.
    pub(super) fn hear() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { terminate, interrupt })
    }

    /// Makes orders of them: the first one stops the run, the second drops it.
    pub(super) async fn obey(mut self, orders: Orders) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            if orders.is_stop() {
                orders.leave();
            } else {
                orders.stop();
            }
        }
    }
}

/// Starts the threads once all are connected, and waits until all have ended.
pub(super) async fn conduct(
    orders: &Orders,
    mut events: mpsc::Receiver<Event>,
    threads: usize,
    window: &Window,
    counters: &[Counter],
) {
    let (mut connected, mut ended) = (0, 0);
    let mut clock = None;
    let mut progress = Progress::new(window);
    let mut frames = tokio::time::interval(FRAME);
    while ended < threads {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = frames.tick(), if clock.is_some() => {
                let now = clock.map_or(0, Clock::now);
                progress.draw(now, counters.iter().map(Counter::get).sum());
                continue;
            }
        };
        match event {
            Some(Event::Connected) => connected += 1,
            Some(Event::Ended { well }) => {
                ended += 1;
                if !well {
                    orders.stop();
                }
            }
            // A thread that broke could not tell that it ended.
            None => break,
        }
        if connected == threads && clock.is_none() {
            let start = Clock::start();
            clock = Some(start);
            orders.go(start);
        }
    }
    progress.bar.finish_and_clear();
}

/// A bar for whoever looks at a terminal.
struct Progress {
    bar: ProgressBar,
    opens: Nanos,
    seen: (Nanos, u64),
}

impl Progress {
    fn new(window: &Window) -> Self {
        let bar = if io::stderr().is_terminal() {
            let template = "{msg}  {wide_bar}  {elapsed}";
            let style =
                ProgressStyle::with_template(template).expect("the template is well-formed");
            ProgressBar::new(window.closes()).with_style(style)
        } else {
            ProgressBar::hidden()
        };
        Self { bar, opens: window.opens(), seen: (0, 0) }
    }

    fn draw(&mut self, now: Nanos, answered: u64) {
        let (then, before) = std::mem::replace(&mut self.seen, (now, answered));
        let seconds = Duration::from_nanos(now.saturating_sub(then)).as_secs_f64();
        if seconds > 0.0 {
            let rate = answered.saturating_sub(before) as f64 / seconds;
            let phase = if now < self.opens { "warming up" } else { "measuring" };
            self.bar.set_message(format!("{phase}: {rate:.0} operations/s"));
        }
        self.bar.set_position(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> (Orders, Arc<Window>) {
        let window = Arc::new(Window::new(Duration::ZERO, Duration::from_secs(3_600)));
        (Orders::new(Arc::clone(&window)), window)
    }

    #[test]
    fn a_stop_closes_the_window_of_a_run() {
        let (orders, window) = orders();
        orders.go(Clock::start());
        orders.stop();
        let stopped = window.closes();
        assert!(stopped < 3_600_000_000_000);
        assert!(orders.is_stop());
        orders.stop();
        assert_eq!(window.closes(), stopped);
    }

    #[test]
    fn what_is_stopped_before_it_began_does_not_begin() {
        let (orders, _) = orders();
        orders.stop();
        orders.go(Clock::start());
        assert_eq!(*orders.follow().borrow(), Order::Stop);
        orders.leave();
        orders.stop();
        assert_eq!(*orders.follow().borrow(), Order::Leave);
    }

    #[tokio::test]
    async fn threads_start_when_all_are_connected() {
        let (orders, window) = orders();
        let (tell, events) = mpsc::channel(4);
        let counters = [Counter::default()];
        let mut order = orders.follow();
        let conducted = conduct(&orders, events, 2, &window, &counters);
        let threads = async {
            tell.send(Event::Connected).await.unwrap();
            tokio::task::yield_now().await;
            assert_eq!(*order.borrow(), Order::Prepare);
            tell.send(Event::Connected).await.unwrap();
            order.wait_for(|order| matches!(order, Order::Go(_))).await.unwrap();
            tell.send(Event::Ended { well: true }).await.unwrap();
            tell.send(Event::Ended { well: true }).await.unwrap();
        };
        tokio::join!(conducted, threads);
        assert!(!orders.is_stop());
    }

    #[tokio::test]
    async fn one_thread_that_fails_stops_the_others() {
        let (orders, window) = orders();
        let (tell, events) = mpsc::channel(4);
        tell.send(Event::Connected).await.unwrap();
        tell.send(Event::Ended { well: false }).await.unwrap();
        let mut order = orders.follow();
        let other = async {
            order.wait_for(Order::is_stop).await.unwrap();
            tell.send(Event::Ended { well: true }).await.unwrap();
        };
        tokio::join!(conduct(&orders, events, 2, &window, &[]), other);
    }
}
