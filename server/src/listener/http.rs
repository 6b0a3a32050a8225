//! HTTP without encryption: `/healthz` for machines that watch; and on a loopback address `/metrics` for them, and the
//! console and the API for browsers of this machine.

use std::{future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
    serve::Listener,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::accept;
use crate::{
    api::{Api, CONNECTIONS, WebApi, metrics},
    config::Http,
    http::{self, Limits, Serving},
    parts::PartKind,
    strangers::Strangers,
};

/// Those who watch are few, and ask now and then. Browsers, whose connections are kept, have other places
/// ([`CONNECTIONS`]) once somebody is logged in.
const LIMITS: Limits = Limits { requests: 256, strangers: 64, time_limit: Duration::from_secs(60) };

/// The most bytes that the system holds of what it has not sent.
const UNSENT: u32 = 16 * 1024;

/// What this listener is called.
pub const PART: &str = "HTTP listener";

/// Listens where it is configured. If that is the default, and it is taken, the server does without.
///
/// # Errors
/// What the system said of an address that someone asked for.
pub async fn bind(http: Http) -> io::Result<Option<TcpListener>> {
    let Some(address) = http.address else { return Ok(None) };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if http.explicit => Err(error),
        Err(error) => {
            tracing::warn!(%address, %error, "no metrics are served; choose another address by --http, or `off`");
            Ok(None)
        }
    }
}

/// Serves until the future is dropped. What asks for passwords is served on a loopback address only: elsewhere they
/// would be seen on their way. So are figures: elsewhere they are for those who are known.
pub async fn run(api: Arc<Api>, listener: Arc<TcpListener>) {
    let is_loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let figures = if is_loopback { get(tell) } else { get(tell_elsewhere) };
    let routes = Router::new().route("/metrics", figures).route("/healthz", get(health));
    let routes = routes.with_state(Arc::clone(&api));
    match is_loopback {
        true => browse(WebApi::over_loopback(api, routes), &listener).await,
        false => {
            let serving = Serving::of(&api.host.parts, PART, "machines that watch");
            http::serve(Shared(listener), routes, LIMITS, serving, future::pending()).await;
        }
    }
}

/// Serves browsers as well, whose connections are kept.
async fn browse(web: WebApi, listener: &TcpListener) {
    let parts = web.parts();
    let (part, handler) = (parts.part(PART, PartKind::Listener), parts.part("browsers", PartKind::Handler));
    let strangers = Strangers::new(LIMITS.strangers);
    // Who is no stranger has one of the places of those who are logged in. One is over, for the newcomer before whom the
    // oldest stranger makes way: so this waits for those only who are leaving.
    let places = Arc::new(Semaphore::new(CONNECTIONS + LIMITS.strangers + 1));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, address) = accept(listener).await;
        let (web, stranger) = (web.clone(), strangers.enter());
        // Small answers go out at once; if that can't be had, a little later.
        let _ = stream.set_nodelay(true);
        // And what a slow viewer of a camera does not take is not to wait in the system.
        let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
        let (parts, handler, open) = (Arc::clone(&parts), Arc::clone(&handler), part.begin());
        tokio::spawn(async move {
            let serving = Box::pin(web.serve(stream, address, stranger, place));
            parts.guard(&handler, serving).await;
            drop(open);
        });
    }
}

/// A listener that outlives whoever takes connections from it.
struct Shared(Arc<TcpListener>);

impl Listener for Shared {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        accept(&self.0).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

async fn tell(State(api): State<Arc<Api>>) -> Response {
    metrics::tell(&api).await
}

/// Who asks where anybody may is told where it is told.
async fn tell_elsewhere() -> impl IntoResponse {
    let words = "metrics are told on a loopback address, and over TLS to whoever has an access token: \
                 https://HOST:PORT/api/v1/metrics\n";
    (StatusCode::FORBIDDEN, words)
}

async fn health(State(api): State<Arc<Api>>) -> impl IntoResponse {
    match metrics::counts(&api.host).await {
        Ok(_) => (StatusCode::OK, "ok\n".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc, time::Duration};

    use protocol_core::code::Role;
    use sha2::{Digest, Sha256};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::{LIMITS, bind, run};
    use crate::{
        api::{Api, CONNECTIONS, tests::api_of},
        config::Http,
        store::{FirstLogin, NewLogin, Store, UnixMillis},
    };

    async fn get(address: SocketAddr, path: &str) -> String {
        get_from(address, "localhost", path).await
    }

    async fn get_from(address: SocketAddr, host: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// A server with nothing but this listener.
    async fn start(address: &str) -> (tempfile::TempDir, Arc<Api>, SocketAddr) {
        let directory = tempfile::tempdir().unwrap();
        let api = api_of(directory.path());
        let http = Http { address: Some(address.parse().unwrap()), explicit: true };
        let listener = bind(http).await.unwrap().unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(run(Arc::clone(&api), Arc::new(listener)));
        (directory, api, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    #[tokio::test]
    async fn metrics_and_health_are_served() {
        let (_directory, api, address) = start("127.0.0.1:0").await;
        let metrics = get(address, "/metrics").await;
        assert!(metrics.contains("holdfast_devices_online 0"), "{metrics}");
        assert!(metrics.trim_end().ends_with("# EOF"), "{metrics}");
        assert!(get(address, "/healthz").await.ends_with("ok\n"));
        api.host.store.close().await;
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 503"));
    }

    /// A page of somebody else whose name leads here would read what the browser is told.
    #[tokio::test]
    async fn on_loopback_the_console_is_served_by_names_of_this_machine_only() {
        let (_directory, _api, address) = start("127.0.0.1:0").await;
        for host in ["localhost", "localhost:1", "127.0.0.1:55280", "[::1]:55280", "LOCALHOST"] {
            let page = get_from(address, host, "/").await;
            assert!(page.starts_with("HTTP/1.1 200") && page.contains("Holdfast"), "{host}: {page}");
        }
        for (host, path) in
            [("evil.example", "/"), ("localhost.evil.example", "/metrics"), ("192.0.2.1", "/")]
        {
            let answer = get_from(address, host, path).await;
            assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("wrong-host"), "{host}: {answer}");
        }
    }

    #[tokio::test]
    async fn elsewhere_there_is_health_only() {
        let (_directory, _api, address) = start("0.0.0.0:0").await;
        assert!(get_from(address, "monitored.example", "/healthz").await.ends_with("ok\n"));
        let refused = get(address, "/metrics").await;
        assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("access token"), "{refused}");
        for path in ["/", "/api/v1/login", "/api/v1/devices"] {
            assert!(get(address, path).await.starts_with("HTTP/1.1 404"), "{path}");
        }
    }

    /// Whoever asks is answered, though many sit there and say nothing, or half of something.
    #[tokio::test]
    async fn idle_clients_keep_nobody_out() {
        let (_directory, _api, address) = start("127.0.0.1:0").await;
        let mut idle = Vec::new();
        for number in 0..3 * (CONNECTIONS + LIMITS.strangers) {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if number % 2 == 0 {
                stream.write_all(b"GET /healthz HTTP/1.1\r\nHo").await.unwrap();
            }
            idle.push(stream);
        }
        let answer = timeout(Duration::from_secs(10), get(address, "/healthz")).await;
        assert!(answer.expect("it is answered at once").ends_with("ok\n"));
        // The oldest have made way.
        let mut oldest = idle.swap_remove(0);
        timeout(Duration::from_secs(10), oldest.read(&mut [0])).await.expect("it is closed").unwrap_or(0);
    }

    /// Logs an operator of this name in, by a secret that is the name.
    async fn log_in(store: &Store, name: &str) {
        let (hash, expires_at) = (Sha256::digest(name).into(), UnixMillis::now().plus(60_000));
        let first = FirstLogin { hash, expires_at };
        let added = store.add_operator(name.parse().unwrap(), Role::Viewer, first, "test".into()).await;
        added.unwrap().unwrap();
        let address = "127.0.0.1".parse().unwrap();
        let login = NewLogin { hash, address, is_secure: false, browser: None };
        store.use_first_login(hash, "a hash".to_owned(), login).await.unwrap().unwrap();
    }

    /// Who is logged in keeps connections, and from nobody else the last place.
    #[tokio::test]
    async fn whoever_is_logged_in_keeps_nobody_out() {
        let (_directory, api, address) = start("127.0.0.1:0").await;
        let mut kept = Vec::new();
        let mut are_answered = 0;
        // As many as there are places for all.
        while kept.len() <= CONNECTIONS + LIMITS.strangers {
            let name = format!("operator-{}", kept.len() / 64);
            if kept.len() % 64 == 0 {
                log_in(&api.host.store, &name).await;
            }
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request =
                format!("GET /api/v1/me HTTP/1.1\r\nHost: localhost\r\nCookie: holdfast-0={name}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).await.unwrap();
            are_answered += usize::from(&status == b"HTTP/1.1 200");
            kept.push(stream);
        }
        assert_eq!(are_answered, CONNECTIONS);
        let answer = timeout(Duration::from_secs(10), get(address, "/healthz")).await;
        assert!(answer.expect("it is answered at once").ends_with("ok\n"));
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_only_if_someone_asked_for_it() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Some(taken.local_addr().unwrap());
        assert!(bind(Http { address, explicit: true }).await.is_err());
        assert!(bind(Http { address, explicit: false }).await.unwrap().is_none());
        assert!(bind(Http { address: None, explicit: true }).await.unwrap().is_none());
    }
}
