//! Live video: which cameras a device has, what they show, and who looks.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body as HttpBody, Bytes},
    extract::{
        FromRequestParts, Path, WebSocketUpgrade,
        ws::{Message, WebSocket, rejection::WebSocketUpgradeRejection},
    },
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, interval_at, sleep_until, timeout};

use super::{
    Api,
    asker::{Asker, Id, Name, Nothing, Sight},
    devices,
    error::ApiError,
    peer::Rights,
    places::Place,
    rights::{Action, Object, Operator},
    tasks::reachable,
    view::{CameraView, Page, UnitsMessage, ViewerMessage, ViewerView},
};
use crate::{
    store::DeviceRef,
    video::{
        End, EndCode, FIRST_PICTURE, Parameters, Unit, VideoError, Viewer, Viewing, WatchRequest, Way, mp4,
    },
};

/// How often a viewer is told how the stream does.
const STATUS: Duration = Duration::from_secs(1);

/// The longest message that a viewer may send, in bytes.
const MAX_MESSAGE: usize = 1024;

/// The device and the camera in the path.
pub(super) struct Camera {
    pub(super) device: String,
    pub(super) camera: String,
}

impl FromRequestParts<Arc<Api>> for Camera {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let names = Path::<(String, String)>::from_request_parts(parts, api).await;
        let Path((device, camera)) = names.map_err(|_| {
            ApiError::bad_request("expected the names of a device and a camera in the path, in UTF-8")
        })?;
        Ok(Self { device, camera })
    }
}

/// `GET /devices/{name}/cameras`
pub(super) async fn cameras(asker: Asker, Name(name): Name) -> Result<Json<Page<CameraView>>, ApiError> {
    let api = asker.may(Action::Watch, Object::Device(&name))?;
    let row = devices::find(api, &name).await?;
    let cameras = api.host.registry.online(row.id).map(|online| online.cameras()).unwrap_or_default();
    let given = |number: u16| (number > 0).then_some(number);
    let items = cameras.into_iter().map(|camera| CameraView {
        viewers: api.host.video.count(row.id, &camera.name),
        recording: api.host.recordings.running(row.id, &camera.name),
        name: camera.name,
        kind: camera.kind,
        width: given(camera.width),
        height: given(camera.height),
        framerate: given(camera.framerate),
    });
    Ok(Json(Page { items: items.collect(), next: None }))
}

/// What is wanted by the one who asks, if there is such a camera now.
pub(super) async fn watch_request(
    api: &Api,
    asker: &Asker,
    names: &Camera,
    way: Way,
) -> Result<WatchRequest, ApiError> {
    let row = reachable(api, &names.device).await?;
    if api.shutdown.is_requested() {
        return Err(ApiError::stopping());
    }
    let online = api.host.registry.online(row.id).ok_or_else(|| ApiError::offline(&row))?;
    let camera = online.cameras().into_iter().find(|camera| camera.name == names.camera);
    let camera = camera.ok_or_else(|| {
        let message = format!("{} has no camera {:?}", row.name, names.camera);
        ApiError::new(StatusCode::NOT_FOUND, "no-such-camera", message)
            .hint(format!("`holdfast cameras {}` shows those that it has", row.name))
    })?;
    // Whoever was revoked just now begins nothing.
    asker.check_rights()?;
    let device = DeviceRef { id: row.id, name: row.name };
    Ok(WatchRequest { device, camera, requester: asker.requester(), way })
}

/// `GET /devices/{name}/cameras/{camera}/units`, answered by a WebSocket.
pub(super) async fn units(
    asker: Asker,
    names: Camera,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let api = Arc::clone(asker.may(Action::Watch, Object::Device(&names.device))?);
    let request = watch_request(&api, &asker, &names, Way::Units).await?;
    let upgrade = upgrade.map_err(|rejection| {
        ApiError::new(StatusCode::UPGRADE_REQUIRED, "upgrade-required", rejection.body_text())
            .hint("this is for a WebSocket; live.mp4 beside it is for all others")
    })?;
    let (rights, operator) = (asker.rights(), asker.actor().operator().cloned());
    // The connection keeps its place among the server's.
    let peer = asker.take_over();
    let upgrade = upgrade.read_buffer_size(2 * MAX_MESSAGE).write_buffer_size(0);
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    Ok(upgrade.on_upgrade(async move |mut socket| {
        let end = match begin(&mut socket, &api, request, rights, operator.as_ref()).await {
            Ok((viewing, rights, framerate)) => {
                let show = UnitsShow { socket: &mut socket, viewing, rights, framerate, parameters: None };
                told(show.run(&api).await)
            }
            Err(end) => end,
        };
        // Whoever has gone does without.
        let _ = timeout(STATUS, farewell(&mut socket, end)).await;
        drop(peer);
    }))
}

async fn farewell(socket: &mut WebSocket, end: UnitsMessage) -> Result<(), axum::Error> {
    socket.send(text(&end)).await?;
    socket.send(Message::Close(None)).await
}

/// Waits until the camera is to be shown; gives its place, the rights, and how many pictures a second it has.
async fn begin(
    socket: &mut WebSocket,
    api: &Api,
    request: WatchRequest,
    mut rights: Rights,
    operator: Option<&Operator>,
) -> Result<(Viewing, Rights, u16), UnitsMessage> {
    let framerate = request.camera.framerate;
    let watched = tokio::select! {
        biased;
        () = rights.gone() => return Err(told(rights_ended())),
        () = gone(socket) => return Err(told(left())),
        watched = api.host.video.watch(request, &api.shutdown) => watched,
    };
    let mut viewing = watched.map_err(|error| match error {
        VideoError::RightsEnded(_) => told(rights_ended()),
        error => {
            let (_, code) = status_and_code(&error);
            UnitsMessage::End { code: code.to_owned(), message: error.to_string() }
        }
    })?;
    // Who was given another role while they waited was not there yet to be sent away.
    if operator.is_some_and(|operator| !api.revocations.are_as_before(operator)) {
        viewing.end(rights_ended());
        return Err(told(rights_ended()));
    }
    Ok((viewing, rights, framerate))
}

fn told(end: End) -> UnitsMessage {
    UnitsMessage::End { code: end.code.name().to_owned(), message: end.message }
}

/// Waits until the viewer has gone.
async fn gone(socket: &mut WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if let Message::Close(_) = message {
            return;
        }
    }
}

fn left() -> End {
    End::new(EndCode::Left, "the viewer has gone")
}

fn rights_ended() -> End {
    End::new(EndCode::Rights, "the viewer's rights have ended")
}

/// A camera that is shown by a WebSocket.
struct UnitsShow<'a> {
    socket: &'a mut WebSocket,
    viewing: Viewing,
    rights: Rights,
    framerate: u16,
    /// As the viewer was told.
    parameters: Option<Arc<Parameters>>,
}

impl UnitsShow<'_> {
    /// Shows it to its end; gives why that is.
    async fn run(mut self, api: &Api) -> End {
        let patience = Instant::now() + FIRST_PICTURE;
        let mut ticks = interval(STATUS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = loop {
            if self.rights.are_gone() {
                break rights_ended();
            }
            let next = tokio::select! {
                unit = self.viewing.next() => match unit {
                    Ok(unit) => self.unit(&unit).await,
                    Err(end) => Err(end),
                },
                _ = ticks.tick() => {
                    let status = text(&status(api, &self.viewing));
                    self.send(status).await
                }
                message = self.socket.recv() => match message {
                    Some(Ok(message)) => self.heard(message).await,
                    Some(Err(_)) | None => Err(left()),
                },
                () = self.rights.gone() => Err(rights_ended()),
                () = sleep_until(patience), if self.parameters.is_none() => {
                    Err(End::new(EndCode::Camera, "the camera has shown no picture in time"))
                }
            };
            if let Err(end) = next {
                break end;
            }
        };
        self.viewing.end(end.clone());
        end
    }

    async fn unit(&mut self, unit: &Unit) -> Result<(), End> {
        if let Some(parameters) = unit.parameters()
            && self.parameters.as_ref() != Some(parameters)
        {
            let (width, height) = parameters.size();
            let (codec, framerate) = (parameters.codec(), self.framerate);
            self.send(text(&UnitsMessage::Stream { codec, width, height, framerate })).await?;
            self.parameters = Some(Arc::clone(parameters));
        }
        self.send(Message::Binary(unit.message())).await
    }

    async fn heard(&mut self, message: Message) -> Result<(), End> {
        match message {
            Message::Text(said) => match serde_json::from_str(&said) {
                Ok(ViewerMessage::Ping { at }) => self.send(text(&UnitsMessage::Pong { at })).await,
                // A newer viewer may say more.
                Err(_) => Ok(()),
            },
            Message::Close(_) => Err(left()),
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => Ok(()),
        }
    }

    /// Sends it, unless the viewer is thrown out meanwhile.
    async fn send(&mut self, message: Message) -> Result<(), End> {
        tokio::select! {
            biased;
            () = self.rights.gone() => Err(rights_ended()),
            end = self.viewing.cut() => Err(end),
            sent = self.socket.send(message) => sent.map_err(|_| left()),
        }
    }
}

/// How a stream does, for whoever looks at it.
fn status(api: &Api, viewing: &Viewing) -> UnitsMessage {
    let (viewer, device) = (viewing.viewer(), viewing.status());
    let online = api.host.registry.online(viewer.device.id);
    let round_trip = online.and_then(|online| online.figures.round_trip());
    UnitsMessage::Status {
        frames: viewer.frames(),
        dropped: viewer.dropped(),
        device_dropped: device.dropped,
        restarts: device.restarts,
        device_frames_per_second: device.pace.map(|pace| pace.frames),
        device_bits_per_second: device.pace.map(|pace| pace.bits),
        device_round_trip_ms: round_trip.map(|micros| micros as f64 / 1000.0),
    }
}

fn words(message: &UnitsMessage) -> String {
    serde_json::to_string(message).unwrap_or_default()
}

fn text(message: &UnitsMessage) -> Message {
    Message::Text(words(message).into())
}

/// `GET /devices/{name}/cameras/{camera}/live.mp4`
pub(super) async fn live(asker: Asker, names: Camera) -> Result<Response, ApiError> {
    let api = Arc::clone(asker.may(Action::Watch, Object::Device(&names.device))?);
    let request = watch_request(&api, &asker, &names, Way::Mp4).await?;
    let mut rights = asker.rights();
    let place = api.places.stream(rights.operator())?;
    let framerate = request.camera.framerate;
    let first = async {
        let mut viewing = api.host.video.watch(request, &api.shutdown).await?;
        let first = viewing.next().await?;
        Ok::<_, VideoError>((viewing, first))
    };
    let first = tokio::select! {
        biased;
        () = rights.gone() => return Err(ApiError::rights_changed()),
        first = timeout(FIRST_PICTURE, first) => first,
    };
    let (viewing, first) = first.map_err(|_| no_picture())??;
    // Who was given another role while they waited was not there yet to be sent away.
    asker.check_rights()?;
    let media_type =
        first.parameters().map_or_else(|| "video/mp4".to_owned(), |found| mp4::media_type(found));
    let mut ticks = interval_at(Instant::now() + STATUS, STATUS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let show = Mp4Show {
        api,
        ticks,
        viewing,
        rights,
        mp4: mp4::Fragmenter::new(framerate),
        parameters: None,
        first: Some(first),
        is_over: false,
        _place: place,
    };
    let body = stream::unfold(show, async |mut show| {
        let bytes = show.next().await?;
        Some((Ok::<_, Infallible>(bytes), show))
    });
    let fields = [(header::CONTENT_TYPE, media_type.as_str()), (header::CACHE_CONTROL, "no-store")];
    Ok((fields, HttpBody::from_stream(body)).into_response())
}

/// The camera has shown nothing for too long.
pub(super) fn no_picture() -> ApiError {
    ApiError::new(StatusCode::GATEWAY_TIMEOUT, "no-picture", "the camera has shown no picture in time")
        .hint("`holdfast tasks` shows how its stream stands")
}

/// A camera that is shown as MP4.
struct Mp4Show {
    api: Arc<Api>,
    ticks: Interval,
    viewing: Viewing,
    rights: Rights,
    mp4: mp4::Fragmenter,
    /// As they stand in the head that was sent.
    parameters: Option<Arc<Parameters>>,
    first: Option<Arc<Unit>>,
    is_over: bool,
    _place: Place,
}

impl Mp4Show {
    /// What is sent next: pictures, each second how the stream does, and behind the last picture why there are no more.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        match self.unit().await {
            Ok(Some(unit)) => Some(self.fragment(&unit)),
            Ok(None) => Some(mp4::words_beside(&words(&status(&self.api, &self.viewing))).into()),
            Err(end) => {
                self.is_over = true;
                self.viewing.end(end.clone());
                Some(mp4::words_beside(&words(&told(end))).into())
            }
        }
    }

    /// The next picture; none where it is time to say how the stream does.
    async fn unit(&mut self) -> Result<Option<Arc<Unit>>, End> {
        if self.rights.are_gone() {
            return Err(rights_ended());
        }
        if let Some(first) = self.first.take() {
            self.viewing.check()?;
            return Ok(Some(first));
        }
        tokio::select! {
            unit = self.viewing.next() => unit.map(Some),
            _ = self.ticks.tick() => Ok(None),
            () = self.rights.gone() => Err(rights_ended()),
        }
    }

    fn fragment(&mut self, unit: &Unit) -> Bytes {
        let fragment = self.mp4.fragment(unit);
        match unit.parameters() {
            // What is decoded in another way from now on says so by another head.
            Some(parameters) if self.parameters.as_ref() != Some(parameters) => {
                self.parameters = Some(Arc::clone(parameters));
                let mut head = mp4::head(parameters);
                head.extend_from_slice(&fragment);
                head.into()
            }
            _ => fragment,
        }
    }
}

/// `GET /viewers`
pub(super) async fn viewers(asker: Asker) -> Result<Json<Page<ViewerView>>, ApiError> {
    let api = asker.may(Action::Watch, Object::Devices)?;
    let sight = asker.sight();
    let items = api.host.video.viewers().iter().map(|viewer| view(viewer, &sight)).collect();
    Ok(Json(Page { items, next: None }))
}

/// `POST /viewers/{id}/stop`
pub(super) async fn stop(asker: Asker, Id(id): Id, _: Nothing) -> Result<Json<ViewerView>, ApiError> {
    let api = asker.may(Action::StopViewer, Object::Devices)?;
    let viewer = api.host.video.viewer(id).ok_or_else(|| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "no-such-viewer",
            format!("there is no viewer {id}, or no longer"),
        )
    })?;
    let api = asker.may(Action::StopViewer, Object::Device(&viewer.device.name))?;
    api.host.video.throw_out(&viewer, &asker.requester());
    Ok(Json(view(&viewer, &asker.sight())))
}

/// A viewer as they are told of to whoever sees so much of others.
fn view(viewer: &Viewer, sight: &Sight) -> ViewerView {
    let address = viewer.who.address.filter(|_| sight.covers(&viewer.who.name));
    ViewerView {
        id: viewer.id,
        device: viewer.device.name.clone(),
        camera: viewer.camera.clone(),
        who: viewer.who.name.clone(),
        address: address.map(|address| address.to_canonical().to_string()),
        way: viewer.way.name().to_owned(),
        since: viewer.since.into(),
        frames: viewer.frames(),
        bytes: viewer.bytes(),
        dropped: viewer.dropped(),
    }
}

/// As what HTTP tells it.
pub(super) const fn status_and_code(error: &VideoError) -> (StatusCode, &'static str) {
    match error {
        VideoError::NotAllowed(_) | VideoError::Refused(_) => (StatusCode::FORBIDDEN, "denied"),
        VideoError::TooMany | VideoError::TooManyOwn => (StatusCode::SERVICE_UNAVAILABLE, "too-many-viewers"),
        VideoError::RightsEnded(_) => (StatusCode::FORBIDDEN, "rights-changed"),
        VideoError::ThrownOut(_) => (StatusCode::FORBIDDEN, "stopped"),
        VideoError::Ended(_) => (StatusCode::BAD_GATEWAY, "camera-failed"),
    }
}

impl From<VideoError> for ApiError {
    fn from(error: VideoError) -> Self {
        let (status, code) = status_and_code(&error);
        let hint = match error {
            VideoError::NotAllowed(_) | VideoError::Refused(_) => {
                "see [tasks.video] in the device's agent.toml"
            }
            VideoError::TooMany
            | VideoError::TooManyOwn
            | VideoError::RightsEnded(_)
            | VideoError::ThrownOut(_) => "try again later",
            VideoError::Ended(_) => "`holdfast tasks` shows it",
        };
        Self::new(status, code, error.to_string()).hint(hint)
    }
}
