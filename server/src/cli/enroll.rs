//! `enroll`: the line that makes a device or an operator known; devices that are wired to another one; and microcontrollers.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    api_client::ApiClient,
    error::CliError,
    firmware::{self, Firmware},
    operators::Role,
    output::{Output, clock},
};
use crate::{
    api::view::{TokenAnswer, TokenRequest, WiredAnswer, WiredRequest},
    span,
};

/// The arguments of `enroll`.
#[derive(Args, Clone, Debug)]
pub(super) struct Enroll {
    /// The device's name; with --uses or --count above 1 a number is added [default: the device's host name; with
    /// --firmware `device` and a number]
    #[arg(long)]
    name: Option<String>,
    /// The device with the Linux agent that the new one is wired to; the new one is registered at once, without a key
    #[arg(
        long,
        value_name = "DEVICE",
        requires = "name",
        conflicts_with_all = ["uses", "expires", "address"]
    )]
    gateway: Option<String>,
    /// A person who works from elsewhere, whom the line is for; with --role
    #[arg(
        long,
        value_name = "NAME",
        requires = "role",
        conflicts_with_all = ["name", "gateway", "uses", "firmware"]
    )]
    operator: Option<String>,
    /// What that person may do
    #[arg(long, requires = "operator")]
    role: Option<Role>,
    /// How many devices the line is good for
    #[arg(long, default_value_t = 1, value_name = "N")]
    uses: u32,
    /// For how long it is good
    #[arg(long, default_value = "24h", value_name = "SPAN", value_parser = span::parse)]
    expires: Duration,
    /// Where devices find the server, best first; may be repeated; with --firmware no IPv6 [default: what the server is
    /// configured with]
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    address: Vec<String>,
    /// Write provisioning blocks for microcontrollers instead, and register their keys
    #[arg(long, requires = "out", conflicts_with_all = ["gateway", "uses", "expires"])]
    firmware: bool,
    /// How many microcontrollers
    #[arg(long, default_value_t = 1, value_name = "N", requires = "firmware")]
    count: usize,
    /// Where the blocks go: made if it is not there; blocks that are in it stay, and the list of them grows
    #[arg(long, value_name = "DIR", requires = "firmware")]
    out: Option<PathBuf>,
}

/// `holdfast enroll`.
pub(super) async fn enroll(api: &ApiClient, enroll: &Enroll, output: &mut Output) -> Result<(), CliError> {
    if let Some((gateway, name)) = enroll.gateway.as_ref().zip(enroll.name.as_ref()) {
        return wired(api, name, gateway, output).await;
    }
    if let Some(directory) = enroll.out.as_ref().filter(|_| enroll.firmware) {
        let (name, count) = (enroll.name.as_deref(), enroll.count);
        let firmware = Firmware { name, count, addresses: &enroll.address, directory };
        return firmware::make(api, &firmware, output).await;
    }
    let request = TokenRequest {
        name: enroll.name.clone(),
        operator: enroll.operator.clone(),
        role: enroll.role.map(|role| role.name().to_owned()),
        uses: Some(enroll.uses),
        expires_seconds: Some(enroll.expires.as_secs()),
        addresses: enroll.address.clone(),
    };
    let answer: TokenAnswer = api.post("/api/v1/tokens", &request).await?;
    if output.json {
        return Ok(output.json_line(&answer)?);
    }
    output.line(&answer.line)?;
    output.flush()?;
    if let Some(operator) = enroll.operator.as_ref() {
        eprintln!(
            "{operator} runs this line on their machine. It is good once, until {}.",
            clock(answer.expires)
        );
        return tell_guess(&answer);
    }
    let devices = match answer.uses {
        1 => "one device".to_owned(),
        uses => format!("{uses} devices"),
    };
    eprintln!("Run this line on the device. It is good for {devices}, until {}.", clock(answer.expires));
    tell_guess(&answer)
}

/// Says where the server will be looked for, if nobody has said where it is.
fn tell_guess(answer: &TokenAnswer) -> Result<(), CliError> {
    if answer.guessed {
        eprintln!(
            "The server will be looked for at {}: that is a guess. If it is wrong, use --address, or set \
             `advertise` in the server's configuration.",
            answer.addresses.join(", ")
        );
    }
    Ok(())
}

/// `holdfast enroll --name NAME --gateway DEVICE`.
async fn wired(api: &ApiClient, name: &str, gateway: &str, output: &mut Output) -> Result<(), CliError> {
    let request = WiredRequest { name: name.to_owned(), gateway: gateway.to_owned() };
    let answer: WiredAnswer = api.post("/api/v1/devices", &request).await?;
    if output.json {
        return Ok(output.json_line(&answer)?);
    }
    output.line(answer.config.trim_end())?;
    output.flush()?;
    let WiredAnswer { name, gateway, repeat, .. } = answer;
    let registered = match repeat {
        true => format!("registered for {gateway} already, and nothing has changed"),
        false => "registered".to_owned(),
    };
    eprintln!(
        "{name} is {registered}. Write this into agent.toml on {gateway}, with the port that {name} is wired to and its \
         speed, and restart the agent there."
    );
    Ok(())
}
