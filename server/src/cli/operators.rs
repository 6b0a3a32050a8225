//! `operators`, `enroll --operator`, `revoke --operator`: people who work from elsewhere.

use clap::ValueEnum;

use super::{
    api_client::{ApiClient, encoded},
    error::CliError,
    output::{Cell, Output, Style, Table, clock, or_dash},
};
use crate::api::view::{OperatorRevokeAnswer, OperatorView, Page};

/// What an operator elsewhere may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Role {
    /// Look
    Viewer,
    /// And work with devices: messages, ping, ssh, reboot, stopping tasks
    Operator,
    /// And everything else: let in and revoke, change keys, stop the server
    Admin,
}

impl Role {
    /// Its name, as the API tells it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// `holdfast operators`.
pub(super) async fn list(api: &ApiClient, output: &mut Output) -> Result<(), CliError> {
    let Page { items, .. } = api.get::<Page<OperatorView>>("/api/v1/operators").await?;
    if output.json {
        return Ok(output.json_lines(&items)?);
    }
    let mut table = Table::new(&["NAME", "ROLE", "BY", "SINCE", "LAST SEEN", "FROM"]);
    for operator in &items {
        let role = match operator.revoked {
            Some(_) => Cell::styled(Style::Bad, "revoked"),
            None => Cell::plain(&operator.role),
        };
        table.row([
            Cell::plain(&operator.name),
            role,
            Cell::plain(means(operator)),
            Cell::plain(clock(operator.since)),
            Cell::plain(or_dash(operator.last_seen.map(clock))),
            Cell::plain(or_dash(operator.address.as_ref())),
        ]);
    }
    if items.is_empty() {
        eprintln!(
            "There are no operators elsewhere. `holdfast enroll --operator NAME` prints the line that adds one."
        );
        return Ok(());
    }
    Ok(output.table(&table)?)
}

/// By what they come in.
fn means(operator: &OperatorView) -> &'static str {
    match (operator.key.is_some(), operator.password, operator.totp) {
        (true, true, _) => "key, password",
        (true, false, _) => "key",
        (false, true, true) => "password, code",
        (false, true, false) => "password",
        (false, false, _) => "one-time login",
    }
}

/// `holdfast revoke --operator NAME`.
pub(super) async fn revoke(api: &ApiClient, name: &str, output: &mut Output) -> Result<(), CliError> {
    let path = format!("/api/v1/operators/{}/revoke", encoded(name));
    let answer: OperatorRevokeAnswer = api.tell(&path).await?;
    if output.json {
        return Ok(output.json_line(&answer)?);
    }
    let (name, again) = (Cell::plain(&answer.operator), Cell::plain(&answer.again));
    Ok(output.line(&format!(
        "{name} is revoked, and what was open has ended. `{again}` makes a line for them again."
    ))?)
}
