//! HTTP connections that are kept for many requests, as browsers do it: HTTP/1.1 or HTTP/2, by the first bytes.
//!
//! Until it is known who asks, a connection has its place among the strangers, and little time. What each may hold of
//! the server is bounded: requests at a time, heads, and how long nothing may happen.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body};
use hyper::{
    Request,
    body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint},
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::Stream;
use crate::{shutdown::Shutdown, strangers::Stranger, write_timeout::WriteTimeout};

/// How many requests one connection of HTTP/2 may have at a time. A browser has as many windows as it likes, of some
/// streams each.
const STREAMS: u32 = 100;

/// The most bytes that the head of a request may have.
const HEAD: usize = 16 * 1024;

/// How many fields that may be.
const FIELDS: usize = 64;

/// How long connections are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Until it is known who asks.
    pub stranger: Duration,
    /// Until the head of a request has come, of which a part has.
    pub head: Duration,
    /// While nothing is asked.
    pub idle: Duration,
    /// While the client takes nothing of an answer.
    pub answer: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { stranger: seconds(60), head: seconds(30), idle: seconds(120), answer: seconds(30) }
    }
}

/// Answers the requests of a connection, until it ends, nothing was asked for a while, or the server stops. Each carries
/// `peer` among its extensions; `known` is told once it is known who asks.
pub async fn keep<P>(
    stream: Stream,
    peer: P,
    routes: Router,
    known: Arc<Notify>,
    bounds: Bounds,
    mut stranger: Stranger,
    shutdown: Shutdown,
) where
    P: Clone + Send + Sync + 'static,
{
    let routes = TowerToHyperService::new(routes);
    let requests = Requests::default();
    let service = service_fn(|mut request: Request<Incoming>| {
        let request_guard = requests.begin();
        request.extensions_mut().insert(peer.clone());
        let answer = routes.call(request);
        async move { answer.await.map(|response| response.map(|body| held(body, request_guard))) }
    });
    let builder = builder(bounds);
    let stream = TokioIo::new(WriteTimeout::new(stream, bounds.answer));
    let mut connection = pin!(builder.serve_connection_with_upgrades(stream, service));
    let stays = tokio::select! {
        // Who has just become known goes before the need of the place.
        biased;
        _ = &mut connection => return,
        () = known.notified() => true,
        () = stranger.displaced() => return,
        () = sleep(bounds.stranger) => false,
    };
    drop(stranger);
    if stays {
        tokio::select! {
            _ = &mut connection => return,
            () = requests.idle(bounds.idle) => {}
            _ = shutdown.requested() => {}
        }
    }
    connection.as_mut().graceful_shutdown();
    // Whatever breaks now, it is the client who goes without an answer.
    let _ = timeout(bounds.answer, connection).await;
}

fn builder(bounds: Bounds) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(HEAD)
        .max_headers(FIELDS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD as u32)
        .keep_alive_interval(bounds.head)
        .keep_alive_timeout(bounds.head);
    builder
}

/// How many requests of a connection are worked on.
#[derive(Debug)]
struct Requests(watch::Sender<usize>);

impl Default for Requests {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Requests {
    fn begin(&self) -> RequestGuard {
        self.0.send_modify(|count| *count += 1);
        RequestGuard(self.0.clone())
    }

    /// Waits until there was none for so long.
    async fn idle(&self, time_limit: Duration) {
        let mut count = self.0.subscribe();
        while count.wait_for(|count| *count == 0).await.is_ok() {
            if timeout(time_limit, count.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// A request, until its answer was sent.
struct RequestGuard(watch::Sender<usize>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// A body that keeps something until it was sent, or given up.
pub fn held<T: Send + Unpin + 'static>(body: Body, guard: T) -> Body {
    Body::new(Held { body, _guard: guard })
}

struct Held<T> {
    body: Body,
    _guard: T,
}

impl<T: Unpin> HttpBody for Held<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use axum::{Router, routing::get};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        sync::Notify,
        time::{Instant, sleep, timeout},
    };

    use super::{Bounds, keep};
    use crate::{
        shutdown::Shutdown,
        strangers::{Stranger, Strangers},
    };

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    /// The client's end of a connection that is kept; it is known who has come.
    fn connect(stranger: Stranger, is_known: bool, shutdown: &Shutdown) -> DuplexStream {
        let (ours, theirs) = duplex(64 * 1024);
        let known = Arc::<Notify>::default();
        if is_known {
            known.notify_one();
        }
        let slow = get(async || sleep(Duration::from_secs(600)).await);
        let routes = Router::new().route("/", get(async || "here")).route("/slow", slow);
        tokio::spawn(keep(
            Box::new(theirs),
            (),
            routes,
            known,
            Bounds::default(),
            stranger,
            shutdown.clone(),
        ));
        ours
    }

    async fn asks(stream: &mut DuplexStream) -> String {
        stream.write_all(REQUEST).await.unwrap();
        let mut answer = [0; 1024];
        let count = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..count]).into_owned()
    }

    /// How long it takes, in seconds, until the connection is closed.
    async fn closed(stream: &mut DuplexStream) -> u64 {
        let start = Instant::now();
        let mut rest = Vec::new();
        timeout(Duration::from_secs(3_600), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
        start.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_kept_for_many_requests_and_closed_when_nothing_is_asked() {
        let (strangers, shutdown) = (Strangers::new(8), Shutdown::default());
        let mut stream = connect(strangers.enter(), true, &shutdown);
        for _ in 0..3 {
            assert!(asks(&mut stream).await.ends_with("here"));
        }
        assert!(closed(&mut stream).await <= 121);
        let mut slow = connect(strangers.enter(), true, &shutdown);
        slow.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(closed(&mut slow).await >= 600, "what is worked on is not idle");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_has_little_time_and_makes_way() {
        let (strangers, shutdown) = (Strangers::new(1), Shutdown::default());
        let mut first = connect(strangers.enter(), false, &shutdown);
        assert!(asks(&mut first).await.ends_with("here"));
        let mut second = connect(strangers.enter(), false, &shutdown);
        assert_eq!(closed(&mut first).await, 0);
        assert!(closed(&mut second).await <= 61);
        let mut slow = connect(strangers.enter(), true, &shutdown);
        slow.write_all(&REQUEST[..10]).await.unwrap();
        assert!(closed(&mut slow).await <= 31, "half a head");
    }

    #[tokio::test(start_paused = true)]
    async fn all_end_with_the_server() {
        let (strangers, shutdown) = (Strangers::new(1), Shutdown::default());
        let mut stream = connect(strangers.enter(), true, &shutdown);
        assert!(asks(&mut stream).await.ends_with("here"));
        shutdown.request("test");
        assert_eq!(closed(&mut stream).await, 0);
    }
}
