//! `/operators/{name}/tokens`: the access tokens by which programs ask in an operator's name.

use std::sync::Arc;

use axum::{Json, http::StatusCode};

use super::{
    asker::{Asker, Body, Name, Names, Nothing, done_whole},
    browser::hash,
    devices::expiry,
    error::ApiError,
    login::new_secret,
    rights::{Action, Credential, Object},
    view::{AccessTokenAnswer, AccessTokenRequest, AccessTokenRevoked, AccessTokenView, Page},
};
use crate::store::{AccessTokenRefusal, DeviceName, MOST_ACCESS_TOKENS, NewAccessToken};

/// How every access token begins: so that it is known for one where it turns up.
const PREFIX: &str = "holdfast_";

/// For how long one is good if nobody says, in seconds: 90 days.
const EXPIRY: u64 = 90 * 86_400;

/// What is done with the tokens of this operator: one's own account, or somebody else's.
fn action(asker: &Asker, operator: &str) -> Action {
    if asker.actor().name() == operator { Action::OwnAccount } else { Action::ManageOperators }
}

/// `GET /operators/{name}/tokens`
pub(super) async fn list(asker: Asker, Name(name): Name) -> Result<Json<Page<AccessTokenView>>, ApiError> {
    let api = asker.may(action(&asker, &name), Object::Operator(&name))?;
    let rows = api.host.store.access_tokens(&name).await?.into_iter();
    let items = rows.map(|row| AccessTokenView {
        name: row.name,
        since: row.created.into(),
        expires: row.expires_at.into(),
        last_seen: row.last_seen.map(Into::into),
        address: row.address,
    });
    Ok(Json(Page { items: items.collect(), next: None }))
}

/// `POST /operators/{name}/tokens`
pub(super) async fn add(
    asker: Asker,
    Name(operator): Name,
    Body(request): Body<AccessTokenRequest>,
) -> Result<(StatusCode, Json<AccessTokenAnswer>), ApiError> {
    let api = asker.may(action(&asker, &operator), Object::Operator(&operator))?;
    let name: DeviceName = request.name.parse().map_err(|error| ApiError::bad_request(format!("{error}")))?;
    let expires_at = expiry(request.expires_seconds.unwrap_or(EXPIRY))?;
    let token = format!("{PREFIX}{}", new_secret()?);
    let new = NewAccessToken {
        operator: operator.clone(),
        name: name.clone(),
        hash: hash(&token),
        expires_at,
        who: asker.who(),
    };
    let holder = api.host.store.add_access_token(new).await?.map_err(|refusal| match refusal {
        AccessTokenRefusal::NoSuchOperator => ApiError::no_such_operator(&operator),
        AccessTokenRefusal::NameTaken => {
            let message = format!("{operator} has an access token {name} already");
            ApiError::new(StatusCode::CONFLICT, "name-taken", message)
                .hint("choose another name, or revoke that one first")
        }
        AccessTokenRefusal::TooMany => {
            let message = format!("{operator} has {MOST_ACCESS_TOKENS} access tokens, and no more may be");
            ApiError::new(StatusCode::CONFLICT, "too-many-tokens", message).hint("revoke some first")
        }
    })?;
    let answer = AccessTokenAnswer {
        name: name.to_string(),
        operator: holder.name,
        role: holder.role.to_string(),
        token,
        expires: expires_at.into(),
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// `POST /operators/{name}/tokens/{token}/revoke`
pub(super) async fn revoke(
    asker: Asker,
    Names(operator, name): Names,
    _: Nothing,
) -> Result<Json<AccessTokenRevoked>, ApiError> {
    let api = Arc::clone(asker.may(action(&asker, &operator), Object::Operator(&operator))?);
    done_whole(async move {
        let revoked = api.host.store.revoke_access_token(&operator, &name, asker.who()).await?;
        let hash = revoked.ok_or_else(|| {
            let message = format!("{operator} has no access token {name:?}");
            ApiError::new(StatusCode::NOT_FOUND, "no-such-token", message)
                .hint(format!("`holdfast token list --operator {operator}` shows those that there are"))
        })?;
        api.revocations.add([Credential::AccessToken(hash)]);
        Ok(Json(AccessTokenRevoked { name, operator }))
    })
    .await
}
