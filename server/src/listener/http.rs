//! `/metrics` and `/healthz`: for machines that watch, without encryption or password; on loopback unless told otherwise.

use std::{future, io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::{net::TcpListener, time::timeout};

use crate::{
    config::Http,
    host::Host,
    http::{self, Limits},
    id::UnixMillis,
    metrics::{MEDIA_TYPE, METRICS, Snapshot},
    store::StoreError,
};

/// Those who watch are few, and ask now and then.
const LIMITS: Limits = Limits { requests: 64, strangers: 64, time_limit: Duration::from_secs(60) };

/// How long the store has to answer, or the server is not healthy.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

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

/// Serves until the future is dropped.
pub async fn run(host: Arc<Host>, listener: TcpListener, started: UnixMillis) {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .with_state(Watched { host, started });
    http::serve(listener, routes, LIMITS, future::pending()).await;
}

#[derive(Clone)]
struct Watched {
    host: Arc<Host>,
    started: UnixMillis,
}

async fn metrics(State(watched): State<Watched>) -> impl IntoResponse {
    // What can't be counted now is left as zero: the other figures say why.
    let counts = counts(&watched.host).await.unwrap_or_default();
    let (backlog, backlog_bytes) = watched.host.store.backlog();
    let uptime = UnixMillis::now().0.saturating_sub(watched.started.0);
    let text = METRICS.render(Snapshot {
        devices: counts.devices,
        online: watched.host.registry.count() as u64,
        classic_clients: watched.host.classic_clients.count() as u64,
        queued: counts.waiting,
        backlog: backlog as u64,
        backlog_bytes: backlog_bytes as u64,
        uptime: Duration::from_millis(u64::try_from(uptime).unwrap_or(0)),
    });
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], text)
}

async fn health(State(watched): State<Watched>) -> impl IntoResponse {
    match counts(&watched.host).await {
        Ok(_) => (StatusCode::OK, "ok\n".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

async fn counts(host: &Host) -> Result<crate::store::Counts, StoreError> {
    let late = || StoreError::Unavailable("it does not answer in time".to_owned());
    timeout(STORE_TIMEOUT, host.store.counts()).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc, time::Duration};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::{LIMITS, bind, run};
    use crate::{
        config::{Config, Http, Overrides},
        host::Host,
        store::{Store, UnixMillis},
        tls::Keys,
    };

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// A server with nothing but its metrics.
    async fn start() -> (tempfile::TempDir, Arc<Host>, SocketAddr) {
        let directory = tempfile::tempdir().unwrap();
        let config = Config::load(directory.path(), &Overrides::default()).unwrap();
        let keys = Keys::load_or_create(&directory.path().join("keys")).unwrap();
        let store = Store::open(directory.path()).unwrap();
        let host = Arc::new(Host::new(&config, store, &keys, Vec::new()));
        let http = Http { address: Some("127.0.0.1:0".parse().unwrap()), explicit: true };
        let listener = bind(http).await.unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(run(Arc::clone(&host), listener, UnixMillis::now()));
        (directory, host, address)
    }

    #[tokio::test]
    async fn metrics_and_health_are_served() {
        let (_directory, host, address) = start().await;
        let metrics = get(address, "/metrics").await;
        assert!(metrics.contains("holdfast_devices_online 0"), "{metrics}");
        assert!(metrics.trim_end().ends_with("# EOF"), "{metrics}");
        assert!(get(address, "/healthz").await.ends_with("ok\n"));
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404"));
        host.store.close().await;
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 503"));
    }

    /// Whoever asks is answered, though many sit there and say nothing, or half of something.
    #[tokio::test]
    async fn idle_clients_keep_nobody_out() {
        let (_directory, _host, address) = start().await;
        let mut idle = Vec::new();
        for number in 0..3 * (LIMITS.requests + LIMITS.strangers) {
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

    #[tokio::test]
    async fn a_taken_port_is_an_error_only_if_someone_asked_for_it() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Some(taken.local_addr().unwrap());
        assert!(bind(Http { address, explicit: true }).await.is_err());
        assert!(bind(Http { address, explicit: false }).await.unwrap().is_none());
        assert!(bind(Http { address: None, explicit: true }).await.unwrap().is_none());
    }
}
