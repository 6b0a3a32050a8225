//! `token`: by what programs ask in somebody's name.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{
    api_client::{ApiClient, encoded},
    error::CliError,
    output::{Cell, Output, Table, clock, or_dash},
};
use crate::{
    api::view::{AccessTokenAnswer, AccessTokenRequest, AccessTokenRevoked, AccessTokenView, MeView, Page},
    span,
};

/// What is done with access tokens.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum Verb {
    /// Make one, and print it
    #[command(
        after_help = "Example:\n  holdfast token add backup --operator anna --expires 365d > backup.token"
    )]
    Add(Add),
    /// Show those that there are, but not their secrets
    #[command(after_help = "Example:\n  holdfast token list --operator anna")]
    List(List),
    /// End one: it is refused from now on
    #[command(after_help = "Example:\n  holdfast token revoke backup --operator anna")]
    Revoke(Revoke),
}

/// The arguments of `token add`.
#[derive(Args, Clone, Debug)]
pub(super) struct Add {
    /// What to call it
    #[arg(value_name = "NAME")]
    name: String,
    /// Whose role it has, and in whose name it asks [default: who asks]
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// For how long it is good
    #[arg(long, default_value = "90d", value_name = "SPAN", value_parser = span::parse)]
    expires: Duration,
}

/// The arguments of `token list`.
#[derive(Args, Clone, Debug)]
pub(super) struct List {
    /// Whose [default: who asks]
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
}

/// The arguments of `token revoke`.
#[derive(Args, Clone, Debug)]
pub(super) struct Revoke {
    /// What it is called
    #[arg(value_name = "NAME")]
    name: String,
    /// Whose it is [default: who asks]
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
}

/// `holdfast token …`.
pub(super) async fn run(api: &ApiClient, verb: &Verb, output: &mut Output) -> Result<(), CliError> {
    match verb {
        Verb::Add(Add { name, operator, expires }) => {
            let request = AccessTokenRequest { name: name.clone(), expires_seconds: Some(expires.as_secs()) };
            show(&api.post(&path(api, operator.as_deref()).await?, &request).await?, output)
        }
        Verb::List(List { operator }) => {
            let path = path(api, operator.as_deref()).await?;
            list(&api.get::<Page<AccessTokenView>>(&path).await?.items, operator.as_deref(), output)
        }
        Verb::Revoke(Revoke { name, operator }) => {
            let path = format!("{}/{}/revoke", path(api, operator.as_deref()).await?, encoded(name));
            let revoked: AccessTokenRevoked = api.tell(&path).await?;
            if output.json {
                return Ok(output.json_line(&revoked)?);
            }
            let (name, operator) = (Cell::plain(&revoked.name), Cell::plain(&revoked.operator));
            Ok(output.line(&format!("The access token {name} of {operator} is good no longer."))?)
        }
    }
}

/// The path of this operator's tokens, or of those of the one who asks.
async fn path(api: &ApiClient, operator: Option<&str>) -> Result<String, CliError> {
    let name = match operator {
        Some(name) => name.to_owned(),
        None => api.get::<MeView>("/api/v1/me").await?.name,
    };
    Ok(format!("/api/v1/operators/{}/tokens", encoded(&name)))
}

/// Prints the token and nothing else on standard output: it is what is handed on.
fn show(token: &AccessTokenAnswer, output: &mut Output) -> Result<(), CliError> {
    if output.json {
        return Ok(output.json_line(token)?);
    }
    eprintln!(
        "Whoever has this token is {} ({}) to the server, until {}; it is not shown again. For example:\n  \
         curl -H \"Authorization: Bearer $TOKEN\" https://HOST:55223/api/v1/devices",
        Cell::plain(&token.operator),
        Cell::plain(&token.role),
        clock(token.expires)
    );
    Ok(output.line(&Cell::plain(&token.token).to_string())?)
}

fn list(tokens: &[AccessTokenView], operator: Option<&str>, output: &mut Output) -> Result<(), CliError> {
    if output.json {
        return Ok(output.json_lines(tokens)?);
    }
    if tokens.is_empty() {
        match operator {
            Some(_) => {
                eprintln!("They have no access tokens. `holdfast token add NAME --operator NAME` makes one.")
            }
            None => eprintln!(
                "You have no access tokens. `holdfast token add NAME` makes one, `--operator NAME` shows another's."
            ),
        }
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "SINCE", "EXPIRES", "LAST SEEN", "FROM"]);
    for token in tokens {
        table.row([
            Cell::plain(&token.name),
            Cell::plain(clock(token.since)),
            Cell::plain(clock(token.expires)),
            Cell::plain(or_dash(token.last_seen.map(clock))),
            Cell::plain(or_dash(token.address.as_ref())),
        ]);
    }
    Ok(output.table(&table)?)
}
