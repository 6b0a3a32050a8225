//! `/keys/rotate`: the server's next key is taken into use, but not over the heads of devices that don't know it.

use std::path::Path;

use axum::{Json, http::StatusCode};

use super::{
    Api,
    asker::{Asker, Body},
    error::ApiError,
    rights::{Action, Object},
    view::{RotateAnswer, RotateRequest},
};
use crate::{
    event::{EventKind, NewEvent},
    tls::{KeyError, Keys},
};

/// How many devices an error names.
const NAMES: usize = 5;

/// `POST /keys/rotate`
pub(super) async fn rotate(
    asker: Asker,
    Body(request): Body<RotateRequest>,
) -> Result<Json<RotateAnswer>, ApiError> {
    let api = asker.may(Action::RotateKey, Object::Server)?;
    // Of two at the same moment the second finds what the first has done.
    let _turn = api.rotation.lock().await;
    if !request.force {
        refuse_pending(api).await?;
        refuse_untold(api).await?;
    }
    let keys = on_disk(api, Keys::rotate).await?;
    let (current, next) = (keys.current_pin().to_string(), keys.next_pin().to_string());
    let mut event = NewEvent::new(EventKind::KeyRotated).who(asker.who()).detail("key", current.as_str());
    if request.force {
        event = event.detail("force", true);
    }
    api.host.store.record(event).await?;
    Ok(Json(RotateAnswer { current, next }))
}

/// The key after the next is told to devices only by a server that shows the next one.
async fn refuse_pending(api: &Api) -> Result<(), ApiError> {
    let keys = on_disk(api, Keys::load).await?;
    let told = &api.host.address_book;
    if (keys.current_pin(), keys.next_pin()) == (told.current, told.next) {
        return Ok(());
    }
    let message =
        "the server has not been restarted since its key was changed: no device knows the key after it";
    Err(ApiError::new(StatusCode::CONFLICT, "rotation-pending", message)
        .hint("restart the server and let the devices come back first; --force would lock all of them out"))
}

async fn refuse_untold(api: &Api) -> Result<(), ApiError> {
    let untold = api.host.store.untold_devices().await?;
    if untold.is_empty() {
        return Ok(());
    }
    let mut names = untold.iter().take(NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    if untold.len() > NAMES {
        names = format!("{names} and {} more", untold.len() - NAMES);
    }
    let message = format!("devices that don't know the next key yet would be locked out: {names}");
    Err(ApiError::new(StatusCode::CONFLICT, "devices-not-told", message)
        .hint("wait until they have been online, or revoke them; --force locks them out until they are enrolled anew"))
}

/// Does something with the keys' directory, where it may block.
async fn on_disk<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&Path) -> Result<T, KeyError> + Send + 'static,
) -> Result<T, ApiError> {
    let directory = api.keys.clone();
    let done = tokio::task::spawn_blocking(move || work(&directory)).await;
    let failed = |message: String| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "keys", message);
    done.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}
