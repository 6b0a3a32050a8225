//! HTTP connections that are kept for many requests, as browsers do it: HTTP/1.1 or HTTP/2, by the first bytes.
//!
//! Until it is known who asks, a connection has its place among the strangers, and little time. What each may hold of
//! the server is bounded: requests at a time, heads, and how long nothing may happen.

use std::{
    collections::HashMap,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, body::Body, http::StatusCode, response::IntoResponse};
use hyper::{
    Request,
    body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint},
    rt::Executor,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::Stream;
use crate::{lock::lock, shutdown::Shutdown, strangers::Stranger, tally::Tally, write_timeout::WriteTimeout};

/// How many requests one connection of HTTP/2 may have at a time. A browser has as many windows as it likes, of some
/// streams each.
const STREAMS: u32 = 100;

/// How many of them are worked on while it is not known who asks: a page with all that belongs to it.
const STRANGERS_STREAMS: usize = 24;

/// The most bytes of an answer that wait to be sent by HTTP/2: of live video what waits there is late.
const SEND_BUFFER: usize = 64 * 1024;

/// The most bytes that the head of a request may have.
const HEAD: usize = 16 * 1024;

/// How many fields that may be.
const FIELDS: usize = 64;

/// How much of the bodies of requests may be on its way, in bytes: of one, and of all of a connection.
const WINDOW: u32 = 16 * 1024;
const CONNECTION_WINDOW: u32 = 64 * 1024;

/// How long connections are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Until it is known who asks.
    pub stranger: Duration,
    /// While nobody who is known asks anything, or the head of a request is on its way.
    pub idle: Duration,
    /// While the client takes nothing of an answer.
    pub answer: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { stranger: seconds(60), idle: seconds(120), answer: seconds(30) }
    }
}

/// Answers the requests of a connection, until it ends, nobody who is known has asked for a while, or the server stops.
/// Each carries `peer` among its extensions; who answers counts in `known` those of somebody who is known.
pub async fn keep<P>(
    stream: Stream,
    peer: P,
    routes: Router,
    known: Arc<Tally>,
    bounds: Bounds,
    mut stranger: Stranger,
    shutdown: Shutdown,
) where
    P: Clone + Send + Sync + 'static,
{
    let routes = TowerToHyperService::new(routes);
    let (all, answers) = (Tally::default(), Arc::<Answers>::default());
    let mut coming = known.changes();
    let service = service_fn(|mut request: Request<Incoming>| {
        let is_too_many = known.count() == 0 && all.count() >= STRANGERS_STREAMS;
        let guard = all.add();
        request.extensions_mut().insert(peer.clone());
        let answer = if is_too_many { None } else { Some(routes.call(request)) };
        let answers = Arc::clone(&answers);
        async move {
            let response = match answer {
                Some(answer) => answer.await?,
                None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            };
            Ok::<_, std::convert::Infallible>(response.map(|body| held(answers.watched(body), guard)))
        }
    });
    let builder = builder(bounds);
    let stream = TokioIo::new(WriteTimeout::new(stream, bounds.answer));
    let mut connection = pin!(builder.serve_connection_with_upgrades(stream, service));
    let stays = tokio::select! {
        // Who has just become known goes before the need of the place.
        biased;
        _ = &mut connection => return,
        // Its sender lives as long as `known`.
        _ = coming.changed() => true,
        () = stranger.displaced() => return,
        () = sleep(bounds.stranger) => false,
    };
    if stays {
        drop(stranger);
        tokio::select! {
            _ = &mut connection => return,
            () = known.none_for(bounds.idle) => {}
            () = answers.stand_still(bounds.answer) => return,
            _ = shutdown.requested() => {}
        }
        connection.as_mut().graceful_shutdown();
        // Whatever breaks now, it is the client who goes without an answer.
        let _ = timeout(bounds.answer, connection).await;
    } else {
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = timeout(bounds.answer, connection) => {}
            () = stranger.displaced() => {}
        }
    }
}

fn builder(bounds: Bounds) -> auto::Builder<Each> {
    let mut builder = auto::Builder::new(Each);
    builder
        .http1()
        .timer(TokioTimer::new())
        // It runs between two requests as well.
        .header_read_timeout(bounds.idle)
        .max_buf_size(HEAD)
        .max_headers(FIELDS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEAD as u32)
        .keep_alive_interval(bounds.answer)
        .keep_alive_timeout(bounds.answer);
    builder
}

/// Runs each answer of HTTP/2 by itself: it can be ended, and the others of its connection go on.
#[derive(Clone, Copy, Debug)]
struct Each;

tokio::task_local! {
    /// What ends the answer of HTTP/2 that is worked on.
    static CUT: Arc<Notify>;
}

impl<F> Executor<F> for Each
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, answer: F) {
        let cut = Arc::<Notify>::default();
        tokio::spawn(CUT.scope(Arc::clone(&cut), async move {
            tokio::select! {
                () = answer => {}
                // Its stream is reset.
                () = cut.notified() => {}
            }
        }));
    }
}

/// Since when each answer of a connection waits until its client takes more of it. With HTTP/2 the connection itself may be
/// well, while the client opens no window for an answer: then nobody asks its body whether it should end.
#[derive(Debug, Default)]
struct Answers(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    begun: u64,
    since: HashMap<u64, (Instant, Option<Arc<Notify>>)>,
}

impl Answers {
    /// The body of an answer, which is watched from now on. It is for the task of the answer to ask for it.
    fn watched(self: Arc<Self>, body: Body) -> Body {
        let cut = CUT.try_with(Arc::clone).ok();
        let id = {
            let mut waiting = self.waiting();
            waiting.begun += 1;
            waiting.begun
        };
        self.wait(id, cut.clone());
        Body::new(Watched { body, id, answers: self, cut })
    }

    fn wait(&self, id: u64, cut: Option<Arc<Notify>>) {
        self.waiting().since.insert(id, (Instant::now(), cut));
    }

    fn go_on(&self, id: u64) {
        self.waiting().since.remove(&id);
    }

    /// Ends those of HTTP/2 that have stood still for so long: a film that its viewer has paused is no reason to cut what
    /// else goes on. Waits until another one has, whose connection has to end with it.
    async fn stand_still(&self, time_limit: Duration) {
        while !self.end_those_that_stand(time_limit) {
            sleep(time_limit / 4).await;
        }
    }

    fn end_those_that_stand(&self, time_limit: Duration) -> bool {
        let mut ends_connection = false;
        self.waiting().since.retain(|_, (since, cut)| {
            let stands = since.elapsed() >= time_limit;
            match cut {
                Some(cut) if stands => cut.notify_one(),
                None if stands => ends_connection = true,
                _ => return true,
            }
            false
        });
        ends_connection
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.0)
    }
}

struct Watched {
    body: Body,
    id: u64,
    answers: Arc<Answers>,
    /// What ends this answer alone.
    cut: Option<Arc<Notify>>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // It is asked: whatever it has given was taken. Until it has more, it is not the client who keeps us waiting.
        self.answers.go_on(self.id);
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.answers.wait(self.id, self.cut.clone());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.answers.go_on(self.id);
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
    use http_body_util::BodyExt;
    use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::{Instant, sleep, timeout},
    };

    use super::{Bounds, Tally, keep};
    use crate::{
        shutdown::Shutdown,
        strangers::{Stranger, Strangers},
    };

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    /// The client's end of a connection that is kept; it is known who has come.
    fn connect(stranger: Stranger, is_known: bool, shutdown: &Shutdown) -> DuplexStream {
        let (ours, theirs) = duplex(64 * 1024);
        let known = Arc::<Tally>::default();
        let knows = Arc::clone(&known);
        let answer = get(async move || {
            let _known = is_known.then(|| knows.add());
            "here"
        });
        let knows = Arc::clone(&known);
        let slow = get(async move || {
            let _known = knows.add();
            sleep(Duration::from_secs(600)).await;
        });
        let routes = Router::new().route("/", answer).route("/slow", slow);
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
        assert!((120..=121).contains(&closed(&mut stream).await));
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
        assert!(closed(&mut slow).await <= 91, "half a head");
    }

    /// With HTTP/2 the connection is well while the client takes nothing of an answer: only that one is cut.
    #[tokio::test(start_paused = true)]
    async fn of_an_answer_of_which_nothing_is_taken_only_that_is_cut() {
        let (strangers, shutdown) = (Strangers::new(1), Shutdown::default());
        let stream = TokioIo::new(connect(strangers.enter(), true, &shutdown));
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let shut = builder.timer(TokioTimer::new()).initial_stream_window_size(0);
        let (mut sender, connection) = shut.handshake(stream).await.unwrap();
        let start = Instant::now();
        let connection = tokio::spawn(connection);
        let mut ask = |path: &str| {
            let request = hyper::Request::get(format!("http://x{path}")).body(axum::body::Body::empty());
            sender.send_request(request.unwrap())
        };
        let (slow, paused) = (ask("/slow"), ask("/"));
        let cut = paused.await.unwrap().into_body().collect();
        let cut = timeout(Duration::from_secs(600), cut).await.expect("it is cut");
        assert!(cut.is_err(), "and not as if it were whole");
        let seconds = start.elapsed().as_secs();
        assert!((30..=45).contains(&seconds), "{seconds}");
        assert_eq!(slow.await.unwrap().status(), 200, "others on the same connection go on");
        assert_eq!(start.elapsed().as_secs(), 600);
        connection.abort();
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
