//! The command line: arguments, and one file for each group of verbs.

mod access_tokens;
mod api_client;
pub mod client;
mod confirm;
mod context;
mod devices;
mod dial;
mod enroll;
mod error;
mod firmware;
mod hidden;
mod log;
mod login;
mod logout;
mod messages;
mod operators;
mod output;
mod reboot;
mod recordings;
mod rotate_key;
mod server;
mod ssh;
mod ssh_account;
mod tasks;
mod term_password;
#[cfg(test)]
mod tests;
mod users;
mod video;
mod watch;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use api_client::ApiClient;
use error::CliError;
use output::Output;

use crate::config::{LogFormat, Overrides};

/// The data directory, if nothing else is said.
pub const DEFAULT_DATA: &str = "/var/lib/holdfast";

/// The fleet of devices behind one server: who is online, what they say, and messages to them.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "\
Examples:
  holdfast serve                        run the server
  holdfast enroll --name greenhouse     print the line to run on a new device
  holdfast devices                      who is online
  holdfast messages --follow            what they say
  holdfast send greenhouse 'hello'      say something to one
  holdfast login hf1.…                  work with a server elsewhere

Times are in your time zone (TZ), with --json in UTC.
Exit codes: 0 fine, 1 failed, 2 usage, 3 the server can't be reached, 4 no such device, 5 refused.")]
pub struct Arguments {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    verb: Verb,
}

/// What all verbs share; it may stand before or after the verb.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of all commands")]
struct Shared {
    /// The server on this machine, by its data directory [env: HOLDFAST_DATA] [default: /var/lib/holdfast]
    // The environment is looked at where the server is chosen: what stands here goes before it.
    #[arg(long, global = true, value_name = "DIR", conflicts_with_all = ["context", "server-address"])]
    data: Option<PathBuf>,
    /// A server elsewhere, by the name that its context has here [env: HOLDFAST_CONTEXT] [default: where no server is on
    /// this machine, the one that was logged in to last]
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "server-address")]
    context: Option<String>,
    /// A server elsewhere that was logged in to, by its address
    #[arg(id = "server-address", long = "server", global = true, value_name = "HOST[:PORT]")]
    server: Option<String>,
    /// Print JSON, one object a line; `serve` logs so
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the server
    #[command(after_help = "\
Without any configuration the server makes what it needs in --data, and listens.

Examples:
  holdfast serve
  holdfast serve --data ./data --listen 0.0.0.0:55223 --advertise fleet.example.org:55223")]
    Serve(Overrides),
    /// Show all devices: who is online, since when, from where
    #[command(after_help = "Example:\n  holdfast devices --json | jq -r 'select(.online).name'")]
    Devices,
    /// Show all that is known of one device
    #[command(after_help = "Example:\n  holdfast device greenhouse")]
    Device(devices::One),
    /// Show when devices were connected, and why each connection ended
    #[command(after_help = "Example:\n  holdfast sessions greenhouse")]
    Sessions(devices::Perhaps),
    /// Show messages, all that there are, in both directions
    #[command(after_help = "\
Examples:
  holdfast messages --since 1h
  holdfast messages greenhouse --follow
  holdfast messages --json | jq -r 'select(.kind == \"text\").body'")]
    Messages(watch::Selection),
    /// Show what happened: who came, went, was refused, and who did what
    #[command(
        after_help = "Examples:\n  holdfast events --since 2026-11-22T08:00:00Z\n  holdfast events --follow"
    )]
    Events(watch::Selection),
    /// Send a message to a device; it is kept until the device has it
    #[command(after_help = "\
Examples:
  holdfast send greenhouse 'open the window'
  holdfast send greenhouse --kind config --expires 1h - < settings.json")]
    Send(messages::Send),
    /// Ask a device to answer now, and show how long it took
    #[command(after_help = "Example:\n  holdfast ping greenhouse")]
    Ping(devices::One),
    /// Log in to a device, or run a command there, by ssh
    #[command(after_help = "\
The user is the one that the device has reported, the host key the one it was enrolled with: nothing
is asked, and another key is refused. Behind -- stands what ssh is to be told beside that.

The exit code is ssh's own, once it runs: that of the command, or 255 where there was no session, also if
your role or the device's agent.toml does not allow one.

Examples:
  holdfast ssh greenhouse
  holdfast ssh pi@greenhouse uptime
  holdfast ssh greenhouse -- -L 8080:localhost:80
  holdfast ssh --wait greenhouse -- uptime")]
    Ssh(ssh::Ssh),
    /// Carry the bytes of a device's SSH server on standard input and output, for ssh's ProxyCommand
    #[command(after_help = "Example:\n  ssh -o ProxyCommand='holdfast proxy %h' pi@greenhouse.fleet")]
    Proxy(ssh::Proxy),
    /// Print the host keys of devices, for ssh's KnownHostsCommand
    #[command(after_help = "\
Examples:
  holdfast known-hosts > known_hosts
  ssh -o KnownHostsCommand='/usr/bin/holdfast known-hosts %H' pi@greenhouse.fleet")]
    KnownHosts(ssh::KnownHosts),
    /// Accept another host key of a device's SSH server: it was set up anew, or its key was not known yet
    #[command(after_help = "\
Without TYPE and KEY it is the key that an operator's ssh was shown last: its fingerprint is told, and
asked about. Compare it with the device's own: whoever sits in between would show another.

Examples:
  holdfast accept-host-key greenhouse
  holdfast accept-host-key greenhouse ssh-ed25519 AAAAC3…")]
    AcceptHostKey(ssh::AcceptHostKey),
    /// Print the configuration by which ssh, scp, rsync, git and Ansible reach DEVICE.fleet; or install it
    #[command(after_help = "\
Examples:
  holdfast ssh-config --install && ssh greenhouse.fleet
  holdfast ssh-config --uninstall
  holdfast ssh-config > fleet.conf && scp -F fleet.conf notes.txt greenhouse.fleet:")]
    SshConfig(ssh::SshConfig),
    /// Start a device anew
    #[command(after_help = "Example:\n  holdfast reboot greenhouse --wait")]
    Reboot(reboot::Reboot),
    /// Show a device's cameras
    #[command(after_help = "Example:\n  holdfast cameras greenhouse")]
    Cameras(devices::One),
    /// Show what a camera shows, live: in a window, or as MP4 in a file
    #[command(after_help = "\
What is written can be played at any time, also where it was cut off. It comes as the camera gives it; where the
network is too slow, pictures are left out.

Examples:
  holdfast video greenhouse --play
  holdfast video greenhouse --camera door -o door.mp4 --for 10s
  holdfast video greenhouse -o - | ffmpeg -i - -frames:v 1 now.png")]
    Video(video::Video),
    /// Show who looks at cameras; throw somebody out
    #[command(after_help = "Examples:\n  holdfast viewers\n  holdfast viewers --stop 17")]
    Viewers(video::Viewers),
    /// Show what was recorded of cameras
    #[command(after_help = "Examples:\n  holdfast recordings\n  holdfast recordings greenhouse --json")]
    Recordings(recordings::Selection),
    /// Record a camera; end, fetch or delete a recording
    #[command(
        subcommand,
        after_help = "\
A recording is a file on the server. It ends after an hour, and is deleted after 30 days, or for newer ones,
if the server's configuration ([recordings]) does not say otherwise.

Examples:
  holdfast recording start greenhouse --for 10m
  holdfast recording fetch 17 -o greenhouse.mp4"
    )]
    Recording(recordings::Verb),
    /// Show what devices were asked to do: sessions of ssh, restarts, streams of cameras
    #[command(after_help = "Examples:\n  holdfast tasks --open\n  holdfast tasks greenhouse --json")]
    Tasks(tasks::Selection),
    /// Show or stop one task
    #[command(subcommand, after_help = "Examples:\n  holdfast task show 17\n  holdfast task stop 17")]
    Task(tasks::Verb),
    /// Print the line that enrols a new device or a person elsewhere (--operator); or enrol a wired device (--gateway), or
    /// microcontrollers (--firmware)
    #[command(after_help = "\
The line is a secret until it is used up or expired. Nothing else is printed on standard output.

A person who works from elsewhere, --operator, gives their line to `holdfast login`. A viewer
looks; an operator also works with devices (messages, ping, ssh, reboot); an admin may do everything.

A microcontroller without a network is wired to a serial port of a device with the Linux agent, its
gateway: --gateway registers it, and prints what goes into agent.toml there.

A microcontroller with a network has a provisioning block in its flash instead: --firmware makes
its key here, registers the public half, and writes one block for each device (NAME.bin) and a list
(devices.csv) to a directory, beside those that are there. The private keys are in these files and nowhere else.

Examples:
  holdfast enroll
  holdfast enroll --name camera --uses 20 --expires 7d --address fleet.example.org:55223
  holdfast enroll --operator anna --role operator
  holdfast enroll --name barometer --gateway greenhouse
  holdfast enroll --firmware --name sensor --count 100 --out ./blocks")]
    Enroll(enroll::Enroll),
    /// Take a device's or an operator's rights away, and end what is open
    #[command(after_help = "Examples:\n  holdfast revoke greenhouse\n  holdfast revoke --operator anna")]
    Revoke(devices::Revoked),
    /// Show who works from elsewhere: with which role, when they were last seen (to the minute), and from where
    #[command(after_help = "Example:\n  holdfast operators")]
    Operators,
    /// Say who logs in to the console, in a browser
    #[command(
        subcommand,
        after_help = "\
A one-time login is good for a day, and for one use. Whoever is revoked is so in browsers and with keys.

Examples:
  holdfast user add anna --role admin
  holdfast user role anna viewer"
    )]
    User(users::Verb),
    /// Let a program ask the server in somebody's name, by a token
    #[command(
        subcommand,
        after_help = "\
A program shows its token as `Authorization: Bearer TOKEN`, on the TLS port or on loopback. It may do what its
operator may, but for what is about their own account; events tell both, as anna/backup.

Examples:
  holdfast token add backup --operator anna
  holdfast token revoke backup --operator anna"
    )]
    Token(access_tokens::Verb),
    /// Log in to a server elsewhere, with a line that `holdfast enroll --operator` has printed there
    #[command(after_help = "\
The key is made here and stays here. It is kept with the server's address and the pin of its key, as
a context: commands are for that server then, unless this machine has one of its own (--context).

Examples:
  holdfast login hf1.…
  holdfast login --context home hf1.…
  holdfast --context home devices")]
    Login(login::Login),
    /// Forget a server elsewhere that was logged in to: remove its context, and the key in it
    #[command(after_help = "\
The server goes on knowing who this was, until an admin says `holdfast revoke --operator NAME`.

Examples:
  holdfast logout
  holdfast logout home")]
    Logout(logout::Logout),
    /// Show the servers elsewhere that were logged in to, and which of them is used
    #[command(after_help = "Example:\n  holdfast contexts")]
    Contexts,
    /// Show how the server is doing
    #[command(after_help = "Example:\n  holdfast status --data ./data")]
    Status,
    /// Stop the server: devices are told to come back, what was accepted is kept
    #[command(after_help = "Example:\n  holdfast stop --data ./data")]
    Stop(server::Stop),
    /// Talk to a server of the original protocol, line by line
    #[command(after_help = "Example:\n  holdfast client localhost")]
    Client(client::ClientArguments),
    /// Set the password that lets a classic client stop the server
    #[command(after_help = "\
The password is asked for on a terminal, else read from standard input. It is in force at once.

Example:
  holdfast term-password < password-file")]
    TermPassword,
    /// Take the server's next key into use, which its devices know already, and make another next one
    #[command(after_help = "\
Devices trust the key in use and the next one, so that keys change without a visit. It is refused
where that would lock devices out: until the server has been restarted since the last time, and all
have been online since.

Example:
  holdfast rotate-key && systemctl restart holdfast")]
    RotateKey(rotate_key::RotateKey),
    /// Let devices come by this machine's own SSH server: make the account ssh_server, and tell sshd of it
    #[command(after_help = "\
For devices whose agent.toml says transport = \"openssh\" under [tasks.ssh]: they run a stock ssh -R. The
account has no shell, no home and no password, and sshd asks `holdfast authorized-keys` for its keys. What
is to be done is shown first. It may be run again at any time; an account that can do more than that is refused.
Where many sessions begin at the same moment, raise MaxStartups in /etc/ssh/sshd_config: from ten logins under
way on sshd turns some away, at a hundred all.

Examples:
  holdfast setup-ssh-account --dry-run
  holdfast setup-ssh-account")]
    SetupSshAccount(ssh_account::Setup),
    /// Print what a device's key may do now, for sshd's AuthorizedKeysCommand
    #[command(after_help = "\
It prints a line for the key of a device of which a session waits, and nothing for all others; sshd's
configuration, which `holdfast setup-ssh-account` writes, calls it. It always succeeds.

Example:
  holdfast authorized-keys ecdsa-sha2-nistp256 AAAA…")]
    AuthorizedKeys(ssh_account::AuthorizedKeys),
    /// Print completions for a shell
    #[command(after_help = "\
Example:
  holdfast completions bash > /etc/bash_completion.d/holdfast")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Does what the command line asks for. Gives the exit code that stands in the help.
pub fn main() -> ExitCode {
    let Arguments { shared, verb } = Arguments::parse();
    let mut output = Output::new(shared.json);
    let done = run(&shared, verb, &mut output).and_then(|code| {
        output.flush()?;
        Ok(code)
    });
    done.unwrap_or_else(|error| error.report(shared.json))
}

fn run(shared: &Shared, verb: Verb, output: &mut Output) -> Result<ExitCode, CliError> {
    let here = || on_this_machine(shared);
    if let Verb::SshConfig(config) = &verb
        && let Some(host) = config.refresh()
    {
        return ask(async {
            ssh::refresh(shared, host).await;
            Ok(ExitCode::SUCCESS)
        });
    }
    let asked: Result<(), CliError> = match verb {
        Verb::Serve(mut overrides) => {
            if shared.json {
                overrides.log_format.get_or_insert(LogFormat::Json);
            }
            return server::serve(&here()?, &overrides);
        }
        Verb::Client(_)
        | Verb::Completions { .. }
        | Verb::Ssh(_)
        | Verb::Proxy(_)
        | Verb::KnownHosts(_)
        | Verb::SshConfig(_)
        | Verb::AuthorizedKeys(_)
        | Verb::Video(_)
            if shared.json =>
        {
            return Err(CliError::Usage("this command has no JSON to print: leave --json away".to_owned()));
        }
        Verb::Client(arguments) => return Ok(client::run(&arguments)),
        Verb::TermPassword => term_password::run(&here()?, output),
        Verb::SetupSshAccount(setup) => ssh_account::setup(&here()?, &setup, output),
        Verb::AuthorizedKeys(key) => ssh_account::authorized_keys(&here()?, &key, output),
        Verb::Login(login) => ask(login::login(shared, &login, output)),
        Verb::Logout(logout) => logout::logout(shared, &logout, output),
        Verb::Contexts => login::list(shared, output),
        Verb::SshConfig(config) if config.uninstall() => ask(ssh::uninstall(output)),
        Verb::Completions { shell } => {
            // Made in memory first: the generator panics where it can't write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "holdfast", &mut script);
            output.bytes(&script).map_err(CliError::from)
        }
        other => run_by_api(&ApiClient::chosen(shared)?, other, output),
    };
    asked.map(|()| ExitCode::SUCCESS)
}

/// Does what the server is asked for.
fn run_by_api(api: &ApiClient, verb: Verb, output: &mut Output) -> Result<(), CliError> {
    match verb {
        Verb::Devices => ask(devices::list(api, output)),
        Verb::Device(one) => ask(devices::show(api, &one.device, output)),
        Verb::Sessions(perhaps) => ask(devices::sessions(api, perhaps.device.as_deref(), output)),
        Verb::Messages(selection) => ask(watch::messages(api, &selection, output)),
        Verb::Events(selection) => ask(watch::events(api, &selection, output)),
        Verb::Send(send) => ask(messages::send(api, &send, output)),
        Verb::Ping(one) => ask(devices::ping(api, &one.device, output)),
        Verb::Ssh(arguments) => ssh::ssh(api, &arguments),
        Verb::Proxy(arguments) => ask(ssh::proxy(api, &arguments)),
        Verb::KnownHosts(arguments) => ask(ssh::known_hosts(api, &arguments, output)),
        Verb::AcceptHostKey(arguments) => ask(ssh::accept(api, &arguments, output)),
        Verb::SshConfig(arguments) => ask(ssh::ssh_config(api, &arguments, output)),
        Verb::Reboot(arguments) => ask(reboot::reboot(api, &arguments, output)),
        Verb::Cameras(one) => ask(video::cameras(api, &one.device, output)),
        Verb::Video(arguments) => ask(video::video(api, &arguments)),
        Verb::Viewers(arguments) => ask(video::viewers(api, &arguments, output)),
        Verb::Recordings(selection) => ask(recordings::list(api, &selection, output)),
        Verb::Recording(verb) => ask(recordings::one(api, &verb, output)),
        Verb::Tasks(selection) => ask(tasks::list(api, &selection, output)),
        Verb::Task(verb) => ask(tasks::one(api, &verb, output)),
        Verb::Enroll(enroll) => ask(enroll::enroll(api, &enroll, output)),
        Verb::Revoke(devices::Revoked { device: Some(device), .. }) => {
            ask(devices::revoke(api, &device, output))
        }
        Verb::Revoke(devices::Revoked { operator: Some(operator), .. }) => {
            ask(operators::revoke(api, &operator, output))
        }
        Verb::Operators => ask(operators::list(api, output)),
        Verb::User(verb) => ask(users::run(api, &verb, output)),
        Verb::Token(verb) => ask(access_tokens::run(api, &verb, output)),
        Verb::RotateKey(arguments) => ask(rotate_key::run(api, &arguments, output)),
        Verb::Status => ask(server::status(api, output)),
        Verb::Stop(stop) => ask(server::stop(api, &stop, output)),
        // These were done without asking a server.
        Verb::Serve(_)
        | Verb::Client(_)
        | Verb::TermPassword
        | Verb::SetupSshAccount(_)
        | Verb::AuthorizedKeys(_)
        | Verb::Login(_)
        | Verb::Logout(_)
        | Verb::Contexts
        | Verb::Completions { .. }
        | Verb::Revoke(_) => Ok(()),
    }
}

/// The data directory, for what is done beside the server and not by it.
fn on_this_machine(shared: &Shared) -> Result<PathBuf, CliError> {
    if shared.context.is_some() || shared.server.is_some() {
        let message = "this is done on the server's own machine: leave --context and --server away";
        return Err(CliError::Usage(message.to_owned()));
    }
    Ok(context::local(shared))
}

/// Runs the conversation with the server; Ctrl-C ends it.
fn ask<T>(conversation: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(conversation);
    // A thread may still wait for standard input, which nobody reads any longer.
    runtime.shutdown_background();
    answer
}
