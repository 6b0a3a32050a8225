//! `/recordings`: what cameras have shown, in files.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    time::Duration,
};

use axum::{
    Json,
    body::{Body as HttpBody, Bytes},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    asker::{Asker, Body, Id, Nothing, Options, Sight, done_whole},
    devices,
    error::ApiError,
    lists::{checked_after, checked_before, checked_limit, next},
    peer::Rights,
    rights::{Action, Object},
    video::{Camera, no_picture, watch_request},
    view::{Page, RecordingRequest, RecordingView},
};
use crate::{
    files::blocking,
    store::{RecordingFilter, RecordingId, RecordingRow, rank},
    video::{RecordingError, Recordings, VideoError, Way},
};

/// How much of a file is read at once.
const CHUNK: u64 = 256 * 1024;

/// Which recordings are wanted.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Selection {
    /// Only of this device.
    device: Option<String>,
    /// Only what is behind this id.
    after: Option<i64>,
    /// Only what is before this id: the last of it.
    before: Option<i64>,
    /// So many at most.
    limit: Option<usize>,
}

/// `GET /recordings`
pub(super) async fn list(
    asker: Asker,
    Options(selection): Options<Selection>,
) -> Result<Json<Page<RecordingView>>, ApiError> {
    let object = selection.device.as_deref().map_or(Object::Devices, Object::Device);
    let api = asker.may(Action::Watch, object)?;
    let (limit, after) = (checked_limit(selection.limit)?, RecordingId(checked_after(selection.after)?));
    let device = match &selection.device {
        Some(name) => Some(devices::find(api, name).await?.id),
        None => None,
    };
    let before = checked_before(selection.before)?;
    let (role, before_id) = (asker.actor().role(), before.map(RecordingId));
    let filter = RecordingFilter { role, device, after, before: before_id, limit };
    let rows = api.host.store.recordings(filter).await?;
    let next = next(&rows, limit, before, |row| row.id.0);
    let sight = asker.sight();
    Ok(Json(Page { items: rows.into_iter().map(|row| view(row, &sight)).collect(), next }))
}

/// `POST /devices/{name}/cameras/{camera}/recordings`
pub(super) async fn start(
    asker: Asker,
    names: Camera,
    Body(request): Body<RecordingRequest>,
) -> Result<(StatusCode, Json<RecordingView>), ApiError> {
    asker.may(Action::Record, Object::Device(&names.device))?;
    if request.seconds == Some(0) {
        return Err(ApiError::bad_request("seconds: expected 1 or more, found 0"));
    }
    // Whoever goes before it has begun has it begun all the same: it is not left half made.
    done_whole(async move {
        let api = asker.may(Action::Record, Object::Device(&names.device))?;
        let watch = watch_request(api, &asker, &names, Way::Recording).await?;
        let longest = request.seconds.map(Duration::from_secs);
        let id = api.host.recordings.start(watch, longest, &api.shutdown).await.map_err(refused)?;
        // Who lost their rights while the camera was waited for was not there yet to be sent away.
        if let Err(error) = asker.check_rights() {
            let _ = api.host.recordings.stop(id, "the rights of whoever began it have ended");
            return Err(error);
        }
        let row = api.host.store.recording(id).await?.ok_or_else(|| no_such_recording(id.0))?;
        Ok((StatusCode::CREATED, Json(view(row, &asker.sight()))))
    })
    .await
}

/// `GET /recordings/{id}`
pub(super) async fn show(asker: Asker, Id(id): Id) -> Result<Json<RecordingView>, ApiError> {
    let (_, row) = find(&asker, Action::Watch, id).await?;
    Ok(Json(view(row, &asker.sight())))
}

/// `POST /recordings/{id}/stop`
pub(super) async fn stop(asker: Asker, Id(id): Id, _: Nothing) -> Result<Json<RecordingView>, ApiError> {
    let (recordings, row) = find(&asker, Action::Record, id).await?;
    recordings.stop(row.id, format!("stopped by {}", asker.who().name)).map_err(refused)?;
    asker.note_stop(row.device, "recording", id);
    Ok(Json(view(row, &asker.sight())))
}

/// `POST /recordings/{id}/delete`
pub(super) async fn delete(asker: Asker, Id(id): Id, _: Nothing) -> Result<Json<RecordingView>, ApiError> {
    let (recordings, row) = find(&asker, Action::DeleteRecording, id).await?;
    if row.ended.is_none() {
        let message = format!("recording {id} is being made");
        return Err(ApiError::new(StatusCode::CONFLICT, "recording", message).hint("stop it first"));
    }
    match recordings.delete(&row, Some(asker.who()), "somebody wished it").await.map_err(refused)? {
        true => Ok(Json(view(row, &asker.sight()))),
        false => Err(no_such_recording(id)),
    }
}

/// `GET /recordings/{id}/file.mp4`
pub(super) async fn file(asker: Asker, Id(id): Id, headers: HeaderMap) -> Result<Response, ApiError> {
    let (recordings, row) = find(&asker, Action::Watch, id).await?;
    recordings.note_read(&row, asker.who()).await.map_err(refused)?;
    let wanted_row = row.clone();
    let opened = blocking(move || recordings.open(&wanted_row));
    let (file, length) = opened.await.map_err(|error| unreadable(id, &error))?;
    let wanted = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    // While it grows its end is not known: it is sent as far as it goes.
    let range = wanted.filter(|_| row.ended.is_some()).and_then(|range| part(range, length));
    let (status, range) = match range {
        Some(Some(range)) => (StatusCode::PARTIAL_CONTENT, range),
        Some(None) => {
            let field = [(header::CONTENT_RANGE, format!("bytes */{length}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, field).into_response());
        }
        None => (StatusCode::OK, 0..length),
    };
    let mut response = (
        status,
        [
            (header::CONTENT_TYPE, "video/mp4".to_owned()),
            (header::CONTENT_LENGTH, (range.end - range.start).to_string()),
            // The name has letters, digits, dots, hyphens and underscores only.
            (header::CONTENT_DISPOSITION, format!("inline; filename=\"{}\"", row.file)),
            (header::CACHE_CONTROL, "private, no-cache".to_owned()),
        ],
    )
        .into_response();
    if row.ended.is_some() {
        let fields = response.headers_mut();
        fields.insert(header::ACCEPT_RANGES, header::HeaderValue::from_static("bytes"));
        if status == StatusCode::PARTIAL_CONTENT
            && let Ok(told) =
                header::HeaderValue::try_from(format!("bytes {}-{}/{length}", range.start, range.end - 1))
        {
            fields.insert(header::CONTENT_RANGE, told);
        }
    }
    *response.body_mut() = body(file, range, asker.rights());
    Ok(response)
}

/// The part of a file of this length that a `Range` asks for; `None` inside where there is no such part, and outside where
/// it is none that is understood.
fn part(range: &str, length: u64) -> Option<Option<Range<u64>>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Ok(first), Err(_)) if last.is_empty() => first..length,
        (Err(_), Ok(last)) if first.is_empty() => length.saturating_sub(last)..length,
        _ => return None,
    };
    Some((range.start < range.end).then_some(range))
}

/// This part of a file, read as it is taken, by somebody who still has these rights.
fn body(mut file: File, range: Range<u64>, rights: Rights) -> HttpBody {
    let chunks = stream::unfold(
        (Some(file.seek(SeekFrom::Start(range.start)).map(|_| file)), range, rights),
        async |(file, range, rights)| {
            let left = (range.end - range.start).min(CHUNK);
            if left == 0 {
                return None;
            }
            let read = match file? {
                Ok(_) if rights.are_gone() => Err(io::Error::other("the reader's rights have ended")),
                Ok(mut file) => {
                    blocking(move || {
                        let mut chunk = vec![0; left as usize];
                        file.read_exact(&mut chunk)?;
                        Ok((chunk, file))
                    })
                    .await
                }
                Err(error) => Err(error),
            };
            Some(match read {
                Ok((chunk, file)) => {
                    (Ok(Bytes::from(chunk)), (Some(Ok(file)), range.start + left..range.end, rights))
                }
                Err(error) => (Err(error), (None, range, rights)),
            })
        },
    );
    HttpBody::from_stream(chunks)
}

/// The recording of this number, if it may be asked about: the rights are those to its device, and what the device itself
/// showed to some only is for nobody else.
async fn find(
    asker: &Asker,
    action: Action,
    id: i64,
) -> Result<(std::sync::Arc<Recordings>, RecordingRow), ApiError> {
    let api = asker.may(action, Object::Devices)?;
    let row = api.host.store.recording(RecordingId(id)).await?.ok_or_else(|| no_such_recording(id))?;
    let api = asker.may(action, Object::Device(&row.name))?;
    if rank(asker.actor().role()) < rank(row.role) {
        return Err(VideoError::NotAllowed(row.role).into());
    }
    Ok((std::sync::Arc::clone(&api.host.recordings), row))
}

fn no_such_recording(id: i64) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "no-such-recording", format!("there is no recording {id}"))
        .hint("`holdfast recordings` shows all that there are")
}

fn unreadable(id: i64, error: &io::Error) -> ApiError {
    let message = format!("the file of recording {id} can't be read: {error}");
    match error.kind() {
        io::ErrorKind::NotFound => ApiError::new(StatusCode::NOT_FOUND, "no-such-file", message),
        _ => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "file", message),
    }
}

fn refused(error: RecordingError) -> ApiError {
    let message = error.to_string();
    match error {
        RecordingError::Video(error) => error.into(),
        RecordingError::Store(error) => error.into(),
        RecordingError::NoPicture => no_picture(),
        RecordingError::TooMany => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-recordings", message).hint("stop some")
        }
        RecordingError::Running(_) | RecordingError::Beginning => {
            ApiError::new(StatusCode::CONFLICT, "recording", message)
        }
        RecordingError::NotRunning => ApiError::new(StatusCode::CONFLICT, "ended", message),
        RecordingError::NoSpace(_) => ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", message)
            .hint("delete recordings, or see [recordings] in the server's configuration"),
        RecordingError::File(_) => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "file", message),
    }
}

/// A recording as it is told of to whoever sees so much of others.
fn view(row: RecordingRow, sight: &Sight) -> RecordingView {
    let address = row.address.filter(|_| sight.covers(&row.who));
    RecordingView {
        id: row.id.0,
        device: row.name,
        camera: row.camera,
        file: row.file,
        state: row.state,
        who: row.who,
        address,
        started: row.started.into(),
        ended: row.ended.map(Into::into),
        reason: row.reason,
        width: row.width,
        height: row.height,
        seconds: row.size.milliseconds as f64 / 1000.0,
        frames: row.size.frames,
        bytes: row.size.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn ranges_are_those_of_http() {
        assert_eq!(part("bytes=0-", 10), Some(Some(0..10)));
        assert_eq!(part("bytes=2-3", 10), Some(Some(2..4)));
        assert_eq!(part("bytes=2-99", 10), Some(Some(2..10)));
        assert_eq!(part("bytes=-3", 10), Some(Some(7..10)));
        assert_eq!(part("bytes=10-", 10), Some(None));
        for strange in ["bytes=5-2", "bytes=a-b", "lines=1-2", "bytes=1-2,4-5", "bytes=-"] {
            assert_eq!(part(strange, 10), None, "{strange}");
        }
    }
}
