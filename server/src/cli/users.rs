//! `user`: who logs in to the console, and by which one-time login they begin.

use clap::{Args, Subcommand};

use super::{
    api_client::{ApiClient, encoded},
    error::CliError,
    operators::{self, Role},
    output::{Cell, Output, clock},
};
use crate::api::view::{OneTimeLogin, OperatorRequest, RoleAnswer, RoleRequest};

/// What is done with those who log in to the console.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum Verb {
    /// Add someone, and print their one-time login
    #[command(after_help = "Example:\n  holdfast user add anna --role admin")]
    Add(Add),
    /// Show all of them, and those who work with keys from elsewhere
    #[command(after_help = "Example:\n  holdfast user list")]
    List,
    /// Give someone another role
    #[command(after_help = "Example:\n  holdfast user role anna viewer")]
    Role(NewRole),
    /// Print a new one-time login, by which someone sets a new password
    #[command(after_help = "Example:\n  holdfast user login anna")]
    Login(One),
    /// Take someone's rights away, and end what is open
    #[command(after_help = "Example:\n  holdfast user revoke anna")]
    Revoke(One),
}

/// The arguments of `user add`.
#[derive(Args, Clone, Debug)]
pub(super) struct Add {
    /// The name
    #[arg(value_name = "NAME")]
    name: String,
    /// What they may do
    #[arg(long, value_name = "ROLE")]
    role: Role,
}

/// The arguments of `user role`.
#[derive(Args, Clone, Debug)]
pub(super) struct NewRole {
    /// The name
    #[arg(value_name = "NAME")]
    name: String,
    /// What they may do from now on
    #[arg(value_name = "ROLE")]
    role: Role,
}

/// The arguments of those verbs that are for one.
#[derive(Args, Clone, Debug)]
pub(super) struct One {
    /// The name
    #[arg(value_name = "NAME")]
    name: String,
}

/// `holdfast user …`.
pub(super) async fn run(api: &ApiClient, verb: &Verb, output: &mut Output) -> Result<(), CliError> {
    match verb {
        Verb::Add(Add { name, role }) => {
            let request = OperatorRequest { name: name.clone(), role: role.name().to_owned() };
            show_login(&api.post("/api/v1/operators", &request).await?, output)
        }
        Verb::List => operators::list(api, output).await,
        Verb::Role(NewRole { name, role }) => {
            let request = RoleRequest { role: role.name().to_owned() };
            let answer: RoleAnswer = api.post(&path(name, "role"), &request).await?;
            if output.json {
                return Ok(output.json_line(&answer)?);
            }
            let (name, role) = (Cell::plain(&answer.name), Cell::plain(&answer.role));
            Ok(output.line(&format!("{name} has the role {role} now."))?)
        }
        Verb::Login(One { name }) => show_login(&api.tell(&path(name, "login")).await?, output),
        Verb::Revoke(One { name }) => operators::revoke(api, name, output).await,
    }
}

fn path(name: &str, verb: &str) -> String {
    format!("/api/v1/operators/{}/{verb}", encoded(name))
}

/// Prints the links and nothing else on standard output: they are what is handed on.
fn show_login(login: &OneTimeLogin, output: &mut Output) -> Result<(), CliError> {
    if output.json {
        return Ok(output.json_line(login)?);
    }
    eprintln!(
        "Whoever opens this link first sets the password of {} ({}). It is good until {}.",
        Cell::plain(&login.name),
        Cell::plain(&login.role),
        clock(login.expires)
    );
    Ok(login.links.iter().try_for_each(|link| output.line(&Cell::plain(link).to_string()))?)
}
