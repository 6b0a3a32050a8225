//! `/operators`: who reaches the API from elsewhere.

use std::sync::Arc;

use axum::Json;
use protocol_core::message::Pin;

use super::{
    Api,
    asker::{Asker, Name, Nothing, done_whole},
    error::ApiError,
    rights::{Action, Credential, Object},
    view::{OperatorRevokeAnswer, OperatorView, Page},
};
use crate::{
    event::Who,
    store::{OperatorId, OperatorRow, RevokedOperator},
};

/// `GET /operators`
pub(super) async fn list(asker: Asker) -> Result<Json<Page<OperatorView>>, ApiError> {
    let api = asker.may(Action::Look, Object::Operators)?;
    let sight = asker.sight();
    let rows = api.host.store.operators().await?.into_iter();
    let items = rows.map(|row| if sight.covers(&row.name) { view(row) } else { in_short(row) }).collect();
    Ok(Json(Page { items, next: None }))
}

/// `POST /operators/{name}/revoke`
pub(super) async fn revoke(
    asker: Asker,
    Name(name): Name,
    _: Nothing,
) -> Result<Json<OperatorRevokeAnswer>, ApiError> {
    let api = asker.may(Action::Revoke, Object::Operator(&name))?;
    done_whole(take_rights(Arc::clone(api), name, asker.who())).await.map(Json)
}

async fn take_rights(api: Arc<Api>, name: String, who: Who) -> Result<OperatorRevokeAnswer, ApiError> {
    let revoked = api.host.store.revoke_operator(&name, who).await?;
    let RevokedOperator { operator, keys, logins, access_tokens } =
        revoked.ok_or_else(|| ApiError::no_such_operator(&name))?;
    // From here on nothing new begins; and what is open ends.
    api.revocations.add(keys.into_iter().map(|key| Credential::Key(Pin(key))));
    api.revocations.add(logins.into_iter().map(Credential::Login));
    api.revocations.add(access_tokens.into_iter().map(Credential::AccessToken));
    let reason = format!("the rights of {} were taken away", operator.name);
    stop_all_of(&api, operator.id, &reason);
    let role = operator.role.to_string();
    let again = format!("holdfast enroll --operator {} --role {role}", operator.name);
    Ok(OperatorRevokeAnswer { operator: operator.name, role, again })
}

/// Stops what somebody does whose rights have become others, or have ended.
pub(super) fn stop_all_of(api: &Api, operator: OperatorId, reason: &str) {
    // First: what others look at as well is in their names then, and none of the tasks that are stopped.
    api.host.video.stop_of_operator(operator, reason);
    api.host.recordings.stop_of_operator(operator, reason);
    api.host.tasks.stop_of_operator(operator, reason);
}

/// What others than admins see of an operator: not where they are, nor by what they come in.
fn in_short(row: OperatorRow) -> OperatorView {
    let row = OperatorRow { key: None, last_seen: None, address: None, ..row };
    OperatorView { password: false, totp: false, ..view(row) }
}

fn view(row: OperatorRow) -> OperatorView {
    OperatorView {
        name: row.name,
        role: row.role.to_string(),
        key: row.key,
        since: row.created.into(),
        revoked: row.revoked_at.map(Into::into),
        last_seen: row.last_seen.map(Into::into),
        address: row.address,
        password: row.has_password,
        totp: row.has_totp,
    }
}
