//! HTTP to the server: over its Unix socket, or over TLS.

mod event_stream;

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Mutex,
    task::{Context as Waking, Poll, ready},
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{self, HeaderMap, HeaderName},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    task::JoinHandle,
};

use event_stream::EventStream;

use super::{
    Shared,
    context::{self, Choice, Context, Contexts},
    dial::dial,
    error::CliError,
    output::Output,
};
use crate::{
    api::{
        SOCKET,
        view::{ErrorAnswer, ErrorBody, Page, headers},
    },
    firmware, http,
    lock::lock,
    tls::{Connector, Protocol},
};

/// The longest answer, or entry of a stream, that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// How long the server may take to begin its answer: longer than a device may take to answer a ping.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long the server may take where a device has to begin a task first: longer than that may take.
const TASK_TIMEOUT: Duration = Duration::from_secs(150);

/// The roles that an operator may have.
const ROLES: [&str; 3] = ["viewer", "operator", "admin"];

/// Behind which entry a stream goes on.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A server. Nothing is connected until something is asked.
pub(super) struct ApiClient {
    server: Server,
}

/// Where the server is, and how it is reached.
enum Server {
    /// On this machine: by the socket in its data directory.
    Here { data: PathBuf, socket: PathBuf },
    /// Elsewhere, over TLS; what it says of its keys and addresses is learned.
    Elsewhere { context: Mutex<Context>, contexts: Contexts },
}

impl ApiClient {
    /// The server that a command is for.
    pub(super) fn chosen(shared: &Shared) -> Result<Self, CliError> {
        Ok(match context::choose(shared)? {
            Choice::Local(data) => Self::local(&data),
            Choice::Elsewhere(context) => Self::elsewhere(*context, Contexts::of_user()?),
        })
    }

    /// The server that runs on this data directory, if one does.
    pub(super) fn local(data: &Path) -> Self {
        Self { server: Server::Here { data: data.to_owned(), socket: data.join(SOCKET) } }
    }

    /// The server of this context.
    pub(super) fn elsewhere(context: Context, contexts: Contexts) -> Self {
        Self { server: Server::Elsewhere { context: Mutex::new(context), contexts } }
    }

    /// The option of this program, and its value, by which another call finds the same server.
    pub(super) fn option(&self) -> (&'static str, PathBuf) {
        match &self.server {
            Server::Here { data, .. } => {
                ("--data", std::fs::canonicalize(data).unwrap_or_else(|_| data.to_owned()))
            }
            Server::Elsewhere { context, .. } => ("--context", PathBuf::from(&lock(context).name)),
        }
    }

    /// As whom the server elsewhere knows this user, and in which role: as it said last.
    pub(super) fn operator(&self) -> Option<(String, Option<String>)> {
        match &self.server {
            Server::Here { .. } => None,
            Server::Elsewhere { context, .. } => {
                let context = lock(context);
                Some((context.operator.clone(), context.role.clone()))
            }
        }
    }

    /// Whether the server is on this machine.
    pub(super) const fn is_local(&self) -> bool {
        matches!(self.server, Server::Here { .. })
    }

    /// Asks for something.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        let (response, _connection) = self.request(path, &[]).await?;
        self.read(response).await
    }

    /// Asks for bytes, as many as there are, perhaps without end: `chunk` gets them as they come.
    pub(super) async fn download(
        &self,
        path: &str,
        mut chunk: impl AsyncFnMut(&[u8]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let (response, _connection) = self.request(path, &[]).await?;
        let mut body = self.success(response).await?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.unreachable(&error))?;
            if let Some(bytes) = frame.data_ref() {
                chunk(bytes).await?;
            }
        }
        Ok(())
    }

    /// Asks for something to be done.
    pub(super) async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, CliError> {
        self.post_within(TIMEOUT, path, body).await
    }

    /// The same where the path says all.
    pub(super) async fn tell<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.post(path, &serde_json::json!({})).await
    }

    /// Has a task begun.
    pub(super) async fn begin_task<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, CliError> {
        self.post_within(TASK_TIMEOUT, path, body).await
    }

    async fn post_within<B: Serialize, T: DeserializeOwned>(
        &self,
        limit: Duration,
        path: &str,
        body: &B,
    ) -> Result<T, CliError> {
        let body = serde_json::to_vec(body).map_err(|error| self.unreachable(&error))?;
        let ask = async { self.ask_over(self.connect().await?, Method::POST, path, Some(body), &[]).await };
        let (response, _connection) = self.in_time(limit, ask).await?;
        self.read(response).await
    }

    /// Asks for the connection itself: what follows is no HTTP any longer. Gives the number of the task that it is, too.
    pub(super) async fn upgrade(
        &self,
        path: &str,
    ) -> Result<(impl AsyncRead + AsyncWrite + use<>, Option<i64>), CliError> {
        let (upgraded, task, _connection) = self.upgrade_over(self.connect().await?, path).await?;
        Ok((TokioIo::new(upgraded), task))
    }

    async fn upgrade_over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        path: &str,
    ) -> Result<(Upgraded, Option<i64>, Connection), CliError> {
        let upgrade = [(header::CONNECTION, "upgrade"), (header::UPGRADE, headers::UPGRADE)];
        let asked = self.in_time(TASK_TIMEOUT, self.ask_over(stream, Method::POST, path, None, &upgrade));
        let (response, connection) = asked.await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return match self.success(response).await {
                Err(error) => Err(error),
                Ok(_) => Err(self.unreachable(&"it did not hand over the connection")),
            };
        }
        let task = response.headers().get(headers::TASK).and_then(|task| task.to_str().ok()?.parse().ok());
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| self.unreachable(&error))?;
        Ok((upgraded, task, connection))
    }

    /// The same as a descriptor, for another program: nothing behind the server's answer has been read from it. That takes
    /// the server on this machine.
    pub(super) async fn hand_over(&self, path: &str) -> Result<OwnedFd, CliError> {
        let Server::Here { data, socket } = &self.server else {
            return Err(CliError::failed("only a connection to the server on this machine can be passed on"));
        };
        let stream = Careful(self.connect_socket(data, socket).await?);
        let (upgraded, _, _connection) = self.upgrade_over(stream, path).await?;
        let parts = upgraded.downcast::<TokioIo<Careful<UnixStream>>>().ok();
        let parts = parts.filter(|parts| parts.read_buf.is_empty());
        let parts = parts.ok_or_else(|| self.unreachable(&"it did not hand over the connection"))?;
        let stream = parts.io.into_inner().0.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(stream.into())
    }

    /// Reads a list to its end, page by page.
    pub(super) async fn each<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        mut entry: impl FnMut(T) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut after = None;
        loop {
            let mut query = query.to_vec();
            query.extend(after.map(|after: i64| ("after", after.to_string())));
            let page: Page<T> = self.get(&with_query(path, &query)).await?;
            for item in page.items {
                entry(item)?;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Follows a live list: `entry` gets what there is, and then whatever comes. Flushes the output whenever
    /// nothing more waits. A stream that is cut is taken up where it was; this returns only with an error.
    pub(super) async fn follow<T: DeserializeOwned>(
        &self,
        path: &str,
        output: &mut Output,
        mut entry: impl FnMut(&mut Output, T) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let (mut last_id, mut connected) = (None, false);
        loop {
            let last = last_id.as_deref().map(|id| (LAST_EVENT_ID, id));
            let request = self.request(path, last.as_slice()).await;
            let (response, _connection) = request.map_err(|error| match error {
                // It answered before: it has stopped since.
                CliError::Unreachable { .. } if connected => self.has_gone(),
                error => error,
            })?;
            connected = true;
            let mut stream = EventStream::new(self.success(response).await?);
            while let Some(chunk) = stream.next_chunk().await {
                for message in stream.take(&chunk).map_err(|error| self.unreachable(&error))? {
                    let item =
                        serde_json::from_str(&message.data).map_err(|error| self.unreachable(&error))?;
                    entry(output, item)?;
                    last_id = message.id.or(last_id);
                }
                output.flush()?;
            }
        }
    }

    /// The process that serves the socket, if this process can see it.
    pub(super) async fn server_process(&self) -> Result<Option<i32>, CliError> {
        match &self.server {
            Server::Here { data, socket } => {
                let stream = self.connect_socket(data, socket).await?;
                Ok(stream.peer_cred()?.pid().filter(|pid| *pid > 0))
            }
            Server::Elsewhere { .. } => Ok(None),
        }
    }

    async fn connect(&self) -> Result<http::Stream, CliError> {
        match &self.server {
            Server::Here { data, socket } => Ok(Box::new(self.connect_socket(data, socket).await?)),
            Server::Elsewhere { context, .. } => {
                let (targets, connector) = {
                    let context = lock(context);
                    let trusted = [context.current, context.next];
                    (context.targets(), Connector::new(&context.key, &trusted, Protocol::Api)?)
                };
                let (stream, address) = dial(&connector, &targets).await?;
                lock(context).reached(address);
                Ok(stream)
            }
        }
    }

    async fn connect_socket(&self, data: &Path, socket: &Path) -> Result<UnixStream, CliError> {
        UnixStream::connect(socket).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                CliError::NoServer { data: data.to_owned() }
            }
            io::ErrorKind::PermissionDenied => CliError::Denied { socket: socket.to_owned() },
            _ => self.unreachable(&error),
        })
    }

    /// The server answered before, and does not any more.
    fn has_gone(&self) -> CliError {
        match &self.server {
            Server::Here { data, .. } => CliError::NoServer { data: data.clone() },
            Server::Elsewhere { context, .. } => CliError::NotReached {
                server: lock(context).server().to_owned(),
                reason: "the connection was cut".to_owned(),
            },
        }
    }

    /// Takes over what an answer tells of the server's keys and addresses.
    fn learn(&self, headers: &HeaderMap) {
        let Server::Elsewhere { context, contexts } = &self.server else { return };
        let words = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::split_whitespace);
        let keys: Vec<_> = words(headers::KEYS).into_iter().flatten().filter_map(firmware::pin).collect();
        // An error is told to those who are not known, too, and tells nothing.
        let (&[current, next], Some(addresses)) = (keys.as_slice(), words(headers::ADDRESSES)) else {
            return;
        };
        let mut context = lock(context);
        context.learn(current, next, addresses.map(ToOwned::to_owned).collect());
        let role = words(headers::ROLE).and_then(|mut words| words.next());
        context.role = role.filter(|role| ROLES.contains(role)).map(ToOwned::to_owned);
        if let Err(error) = contexts.update(&context) {
            eprintln!("holdfast: what the server says of its keys could not be kept: {error}");
        }
    }

    async fn request(
        &self,
        path: &str,
        headers: &[(HeaderName, &str)],
    ) -> Result<(Response<Incoming>, Connection), CliError> {
        let ask = async { self.ask_over(self.connect().await?, Method::GET, path, None, headers).await };
        self.in_time(TIMEOUT, ask).await
    }

    async fn in_time<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = Result<T, CliError>>,
    ) -> Result<T, CliError> {
        let answer = tokio::time::timeout(limit, answer).await;
        answer.unwrap_or_else(|_| Err(self.unreachable(&"it does not answer")))
    }

    async fn ask_over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(HeaderName, &str)],
    ) -> Result<(Response<Incoming>, Connection), CliError> {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.unreachable(&error))?;
        let connection = Connection(tokio::spawn(async move {
            // What goes wrong here shows in the request that it goes wrong for.
            let _ = connection.with_upgrades().await;
        }));
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "holdfast");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| self.unreachable(&error))?;
        let response = sender.send_request(request).await.map_err(|error| self.unreachable(&error))?;
        self.learn(response.headers());
        Ok((response, connection))
    }

    async fn read<T: DeserializeOwned>(&self, response: Response<Incoming>) -> Result<T, CliError> {
        let body = self.success(response).await?;
        let bytes = self.collect(body).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.unreachable(&error))
    }

    /// The body of an answer, if it is no error.
    async fn success(&self, response: Response<Incoming>) -> Result<Incoming, CliError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let bytes = self.collect(response.into_body()).await?;
        let error = serde_json::from_slice(&bytes)
            .map(|answer: ErrorAnswer| answer.error)
            .unwrap_or_else(|_| unexpected(status));
        Err(CliError::Answer { status: status.as_u16(), error })
    }

    async fn collect(&self, body: Incoming) -> Result<Bytes, CliError> {
        let collected = Limited::new(body, MAX_ANSWER).collect().await;
        Ok(collected.map_err(|error| self.unreachable(&error))?.to_bytes())
    }

    fn unreachable(&self, reason: &impl ToString) -> CliError {
        let server = match &self.server {
            Server::Here { socket, .. } => socket.display().to_string(),
            Server::Elsewhere { context, .. } => lock(context).server().to_owned(),
        };
        CliError::Unreachable { server, reason: reason.to_string() }
    }
}

fn unexpected(status: StatusCode) -> ErrorBody {
    ErrorBody {
        code: "unexpected".to_owned(),
        message: format!("the server answered {status}: it is perhaps of another version"),
        next_step: None,
    }
}

/// A stream that is read byte by byte, so that nothing is read that is another program's.
struct Careful<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for Careful<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Waking<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut room = [0];
        let mut byte = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut self.0).poll_read(context, &mut byte))?;
        buffer.put_slice(byte.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Careful<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Waking<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Waking<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Waking<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// The task of a connection: it ends with this.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A path with a query; values are escaped.
pub(super) fn with_query(path: &str, query: &[(&str, String)]) -> String {
    let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    match query.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", query.join("&")),
    }
}

/// A text as a part of a path or query (percent-encoding).
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::{encoded, with_query};

    #[test]
    fn paths_are_escaped() {
        assert_eq!(encoded("greenhouse-1"), "greenhouse-1");
        assert_eq!(encoded("../a b?ü"), "..%2Fa%20b%3F%C3%BC");
        assert_eq!(with_query("/x", &[("a", "1".into()), ("b", "&".into())]), "/x?a=1&b=%26");
        assert_eq!(with_query("/x", &[]), "/x");
    }
}
