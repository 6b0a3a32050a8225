//! The running server: its parts, started, supervised and drained.

mod prepare;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use protocol_core::code::CloseReason;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::Mutex,
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    api::{self, Addresses, Api, ApiListener, Logins, RemoteApi, Revocations, SocketError, WebApi},
    config::Config,
    event::{EventKind, NewEvent},
    files,
    host::Host,
    listener::{self, classic::ClassicHost},
    logs::{LogError, Logs},
    mailbox::Farewell,
    parts::{Part, PartKind, Parts, STORE_WRITER},
    shutdown::Shutdown,
    store::{Store, StoreError, UnixMillis},
    tls::{Acceptor, Certificate, CertificateError, KeyError, Keys},
};

/// How long connections have to take their farewell when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// When devices come back to a server that was stopped, in seconds; each adds a part of its own.
const DRAIN_RETRY: u32 = 2;

/// How often it is written down who was heard, and looked whether messages have expired.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(30);

/// How often it is tried to make the API's socket anew.
const SOCKET_INTERVAL: Duration = Duration::from_secs(1);

/// How often the certificate's files are looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);

/// Why the server can't run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory can't be made.
    #[error("{path}: {source}; choose another directory by --data, or run as a user that may write there")]
    Data {
        /// The directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operators' socket can't be made.
    #[error(transparent)]
    Api(#[from] SocketError),
    /// The log files can't be written.
    #[error("the log files can't be written: {0}")]
    Logs(#[from] LogError),
    /// The keys can't be had.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The certificate for browsers can't be had.
    #[error("{0}; see --tls-cert and --tls-key")]
    Certificate(#[from] CertificateError),
    /// An address can't be listened on.
    #[error(
        "can't listen on {address} ({option}): {source}; is another server running, or the address not this machine's?"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The option that sets it.
        option: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A part ended that should not have.
    #[error("a part of the server ended, the {0}: the server stops, to be started again as a whole")]
    PartEnded(&'static str),
    /// Signals can't be waited for.
    #[error("can't wait for signals: {0}")]
    Signals(io::Error),
}

/// Runs the server until it is asked to stop.
///
/// # Errors
/// [`ServeError`].
pub async fn run(config: Config) -> Result<(), ServeError> {
    let shutdown = Shutdown::default();
    watch_signals(shutdown.clone()).map_err(ServeError::Signals)?;
    let server = start(&config, &shutdown).await?;
    server.run(&shutdown).await
}

/// A server whose parts are running.
struct RunningServer {
    host: Arc<Host>,
    classic: Option<Arc<ClassicHost>>,
    logs: Logs,
    /// Ends when the shutdown is asked for, and all requests are answered: also the one that asked for it.
    api: JoinHandle<()>,
    parts: JoinSet<&'static str>,
}

async fn start(config: &Config, shutdown: &Shutdown) -> Result<RunningServer, ServeError> {
    files::create_private_directory(&config.data)
        .map_err(|source| ServeError::Data { path: config.data.display().to_string(), source })?;
    // Before the keys: of a first start that failed there are never keys without a database.
    let store = prepare::open_store(&config.data).await?;
    let keys = prepare::load_keys(&store, &Keys::directory(&config.data)).await?;
    let listeners = Listeners::bind(config).await?;
    let addresses = listeners.addresses(config);
    let host = Arc::new(Host::new(config, store, &keys, prepare::advertised(config, addresses.listen)));
    host.tasks.resume().await?;
    host.recordings.resume().await?;
    let certificate = prepare::certificate(config, &host.address_book.addresses)?;
    let acceptor = Acceptor::new(&keys, Arc::clone(&certificate))?;
    let logs = Logs::start(&host.parts, &host.store, &config.data.join("logs"), config.log_files)?;
    let classic = listeners.classic.is_some().then(|| {
        let (store, clients) = (host.store.clone(), Arc::clone(&host.classic_clients));
        let parts = Arc::clone(&host.parts);
        Arc::new(ClassicHost::new(config, parts, store, clients, shutdown.clone()))
    });
    let api = Arc::new(Api {
        host: Arc::clone(&host),
        addresses,
        guessed: config.advertise.is_empty(),
        started: UnixMillis::now(),
        keys: Keys::directory(&config.data),
        rotation: Mutex::default(),
        shutdown: shutdown.clone(),
        time_limit: api::TIMEOUT,
        places: api::Places::default(),
        revocations: Revocations::default(),
        logins: Logins::default(),
        fleet: api::SharedFleet::default(),
    });
    let (parts, api) = listeners.serve(api, acceptor, certificate, classic.clone());

    host.store
        .record(NewEvent::new(EventKind::ServerStarted).detail("version", env!("CARGO_PKG_VERSION")))
        .await?;
    tracing::info!(
        listen = %addresses.listen,
        classic = addresses.classic.map(|address| address.to_string()),
        http = addresses.http.map(|address| address.to_string()),
        advertise = host.address_book.addresses.join(", "),
        data = %config.data.display(),
        pin = %host.address_book.current,
        "ready: enrol a device with `holdfast enroll --data {}`", config.data.display()
    );
    if !host.store.has_console_admin().await? {
        tracing::info!(
            "no admin can log in to the console yet: `holdfast user add NAME --role admin --data {}` prints a one-time login",
            config.data.display()
        );
    }
    Ok(RunningServer { host, classic, logs, api, parts })
}

/// The sockets that the server listens on.
struct Listeners {
    framed: TcpListener,
    classic: Option<TcpListener>,
    http: Option<TcpListener>,
    api: ApiListener,
    data: PathBuf,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, ServeError> {
        let listen = |address, option| {
            listener::framed::bind(address).map_err(|source| ServeError::Listen { address, option, source })
        };
        Ok(Self {
            framed: listen(config.listen, "--listen")?,
            classic: config.classic.map(|address| listen(address, "--classic")).transpose()?,
            http: listener::http::bind(config.http).await.map_err(|source| ServeError::Listen {
                address: config.http.address.unwrap_or(config.listen),
                option: "--http",
                source,
            })?,
            api: ApiListener::bind(&config.data)?,
            data: config.data.clone(),
        })
    }

    /// Where they really listen: the system chooses a port where the configuration has 0.
    fn addresses(&self, config: &Config) -> Addresses {
        let address = |listener: &Option<TcpListener>| listener.as_ref()?.local_addr().ok();
        Addresses {
            listen: self.framed.local_addr().unwrap_or(config.listen),
            classic: address(&self.classic),
            http: address(&self.http),
        }
    }

    /// Starts all parts of the server. Each ends with its name; none should, but the API (the second), which ends with
    /// the shutdown. Those that share nothing half done with others begin again where they panic.
    fn serve(
        self,
        api: Arc<Api>,
        acceptor: Acceptor,
        certificate: Arc<Certificate>,
        classic: Option<Arc<ClassicHost>>,
    ) -> (JoinSet<&'static str>, JoinHandle<()>) {
        let mut running = JoinSet::new();
        let (parts, store) = (Arc::clone(&api.host.parts), api.host.store.clone());
        let (remote, web) = (RemoteApi::new(Arc::clone(&api)), WebApi::over_tls(Arc::clone(&api)));
        let framed = Arc::new(self.framed);
        running.spawn(supervised(&parts, listener::framed::PART, PartKind::Listener, move || {
            let (listener, acceptor) = (Arc::clone(&framed), acceptor.clone());
            listener::framed::run(remote.clone(), web.clone(), acceptor, listener)
        }));
        if let Some((host, listener)) = classic.zip(self.classic.map(Arc::new)) {
            running.spawn(supervised(&parts, listener::classic::PART, PartKind::Listener, move || {
                listener::classic::run(Arc::clone(&host), Arc::clone(&listener))
            }));
        }
        if let Some(listener) = self.http.map(Arc::new) {
            let api = Arc::clone(&api);
            running.spawn(supervised(&parts, listener::http::PART, PartKind::Listener, move || {
                listener::http::run(Arc::clone(&api), Arc::clone(&listener))
            }));
        }
        let host = Arc::clone(&api.host);
        let chores = parts.part("housekeeping", PartKind::Timer);
        running.spawn(supervised(&parts, chores.name, chores.kind, move || {
            do_chores(Arc::clone(&host), Arc::clone(&chores))
        }));
        let (events, watch) = (store.clone(), parts.part("certificate watch", PartKind::Timer));
        running.spawn(supervised(&parts, watch.name, watch.kind, move || {
            watch_certificate(Arc::clone(&certificate), events.clone(), Arc::clone(&watch))
        }));
        // What it was about may be half done: the server ends with it.
        let (writer, waiting) = (parts.part(STORE_WRITER, PartKind::Writer), store.clone());
        writer.gauge_by(move || {
            let (jobs, bytes) = waiting.backlog();
            vec![("jobs", jobs as f64), ("waiting_bytes", bytes as f64)]
        });
        parts.part(api::RELAY, PartKind::Relay);
        running.spawn(async move {
            store.ended().await;
            STORE_WRITER
        });
        let mut first = Some(self.api);
        let serving = supervised(&parts, api::PART, PartKind::Listener, move || {
            serve_socket(first.take(), self.data.clone(), Arc::clone(&api))
        });
        (
            running,
            tokio::spawn(async move {
                let _name = serving.await;
            }),
        )
    }
}

/// Serves the API on this listener, or on another one in its place.
async fn serve_socket(mut listener: Option<ApiListener>, data: PathBuf, api: Arc<Api>) {
    loop {
        let bound = listener.take().map_or_else(|| ApiListener::bind(&data), Ok);
        match bound {
            Ok(listener) => return api::serve(listener, api).await,
            Err(error) => tracing::error!(%error, "the API's socket can't be made anew"),
        }
        sleep(SOCKET_INTERVAL).await;
    }
}

/// A part, to be run in a task of its own.
fn supervised<F: Future<Output = ()> + Send, R: FnMut() -> F + Send>(
    parts: &Arc<Parts>,
    name: &'static str,
    kind: PartKind,
    run: R,
) -> impl Future<Output = &'static str> + Send + use<F, R> {
    let parts = Arc::clone(parts);
    async move { parts.supervise(name, kind, run).await }
}

impl RunningServer {
    /// Runs until the server is asked to stop, or a part fails; then drains.
    async fn run(mut self, shutdown: &Shutdown) -> Result<(), ServeError> {
        let (cause, result) = tokio::select! {
            cause = shutdown.requested() => (cause, Ok(())),
            ended = self.parts.join_next() => {
                let part = ended.and_then(Result::ok).unwrap_or("one without a name");
                (format!("a part of the server ended: {part}"), Err(ServeError::PartEnded(part)))
            }
        };
        // Whoever listens to this is to stop, too.
        shutdown.request(cause.as_str());
        tracing::info!(cause, "stopping: devices are told to come back");
        self.parts.abort_all();
        let farewell =
            Farewell::new(CloseReason::Draining, "the server stops; come back soon").retry_after(DRAIN_RETRY);
        let classic = async {
            match &self.classic {
                Some(classic) => classic.drain(DRAIN_TIMEOUT).await,
                None => 0,
            }
        };
        let devices = self.host.drain(farewell, DRAIN_TIMEOUT);
        let (devices, classic, api) = tokio::join!(devices, classic, timeout(DRAIN_TIMEOUT, self.api));
        if api.is_err() {
            tracing::warn!("some operators' requests did not end in time");
        }
        let left = devices + classic;
        if left > 0 {
            tracing::warn!(left, "some connections did not end in time");
        }
        // What is recorded is whole, and who has looked is known.
        if timeout(DRAIN_TIMEOUT, self.host.video.ended()).await.is_err() {
            tracing::warn!("some recordings or viewings did not end in time");
        }
        let stopped = NewEvent::new(EventKind::ServerStopped).detail("cause", cause);
        self.host.store.note(stopped).await;
        self.logs.stop().await;
        // What was accepted is committed before this returns.
        self.host.store.close().await;
        tracing::info!("stopped");
        result
    }
}

/// What has to be done now and then.
async fn do_chores(host: Arc<Host>, part: Arc<Part>) {
    let mut ticks = interval(MAINTENANCE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard_before = std::collections::HashMap::new();
    loop {
        ticks.tick().await;
        let begun = Instant::now();
        let online = host.registry.all();
        let heard: std::collections::HashMap<_, _> =
            online.iter().map(|online| (online.session, online.figures.last_heard())).collect();
        let news: Vec<_> = heard
            .iter()
            .filter(|(session, at)| heard_before.get(*session) != Some(*at))
            .map(|(session, at)| (*session, *at))
            .collect();
        heard_before = heard;
        if !news.is_empty()
            && let Err(error) = host.store.sessions_seen(news).await
        {
            tracing::warn!(%error, "it could not be recorded who was heard");
        }
        if let Err(error) = host.recordings.keep().await {
            tracing::warn!(%error, "old recordings could not be deleted");
        }
        if let Err(error) = host.store.expire().await {
            tracing::warn!(%error, "messages could not be expired");
        }
        part.note_round(begun.elapsed());
    }
}

/// Shows browsers a new certificate as soon as its files have changed. One that can't be used is told, and the one before
/// stays.
async fn watch_certificate(certificate: Arc<Certificate>, store: Store, part: Arc<Part>) {
    let mut ticks = interval(CERTIFICATE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (certificate, begun) = (Arc::clone(&certificate), Instant::now());
        let looked = tokio::task::spawn_blocking(move || certificate.refresh()).await;
        part.note_round(begun.elapsed());
        let event = match looked {
            Ok(Ok(false)) | Err(_) => continue,
            Ok(Ok(true)) => {
                tracing::info!("browsers are shown a new certificate");
                NewEvent::new(EventKind::CertificateChanged)
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the new certificate can't be used: browsers are shown the one before");
                NewEvent::new(EventKind::CertificateRefused).detail("reason", error.to_string())
            }
        };
        store.note(event).await;
    }
}

fn watch_signals(shutdown: Shutdown) -> io::Result<()> {
    for (kind, name) in [(SignalKind::terminate(), "SIGTERM"), (SignalKind::interrupt(), "SIGINT")] {
        let mut signals = signal(kind)?;
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            signals.recv().await;
            shutdown.request(name);
        });
    }
    Ok(())
}
