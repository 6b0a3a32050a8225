//! `logout`: a server elsewhere is forgotten here, and the key to it.

use clap::Args;
use serde::Serialize;

use super::{
    Shared,
    context::{self, Choice, Contexts},
    error::CliError,
    output::{Cell, Output},
};

/// The arguments of `logout`.
#[derive(Args, Clone, Debug)]
pub(super) struct Logout {
    /// The context's name [default: the one that commands are for]
    #[arg(value_name = "CONTEXT")]
    name: Option<String>,
}

/// A context that is there no longer, for programs. Of one that was damaged only the name is known.
#[derive(Serialize)]
struct LogoutView<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
}

/// `holdfast logout [CONTEXT]`.
pub(super) fn logout(shared: &Shared, logout: &Logout, output: &mut Output) -> Result<(), CliError> {
    let contexts = Contexts::of_user()?;
    let name = match &logout.name {
        Some(name) => name.clone(),
        None => match context::choose(shared)? {
            Choice::Elsewhere(context) => context.name,
            Choice::Local(_) => {
                return Err(CliError::NoContext("commands are for no server elsewhere here".to_owned()));
            }
        },
    };
    // One that is damaged can be removed as well.
    let context = contexts.find(&name).unwrap_or_default();
    contexts.remove(&name)?;
    let (operator, server) = (
        context.as_ref().map(|context| context.operator.as_str()),
        context.as_ref().map(|context| context.server()),
    );
    if output.json {
        return Ok(output.json_line(&LogoutView { name: &name, operator, server })?);
    }
    output.line(&format!("The context {name} is removed, and its key with it."))?;
    if let (Some(operator), Some(server)) = (operator, server) {
        let (operator, server) = (Cell::plain(operator), Cell::plain(server));
        output.line(&format!(
            "{server} knows {operator} until an admin says `holdfast revoke --operator {operator}`."
        ))?;
    }
    Ok(())
}
