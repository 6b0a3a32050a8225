//! Live video: what relaying it costs, and how old a picture is when somebody sees it; beside what ffmpeg makes and the
//! plainest relay passes on.

pub(crate) mod camera;
pub(crate) mod plain;

mod rows;
mod viewers;

use std::{env, fs, net::SocketAddr, path::Path, process::Command, sync::Arc, time::Duration};

use holdfast_tests::{process::Process, wait};
use rustls::ClientConfig;
use serde::Deserialize;
use serde_json::json;

pub(crate) use self::rows::{ROWS, Row};
use self::{
    rows::{Measure, Way},
    viewers::Sight,
};
use crate::{
    browser::Driver,
    compare::{Figures, Outcome, in_turn, in_words},
    error::{Error, Result},
    process::{self, free_port},
    tunnels::{
        measure::of_times,
        ours::{invite, log_in},
        peers::{Site, said},
    },
};

/// As many operators look as are needed: one may have only a part of the streams that there are.
const OPERATORS: usize = 5;

/// How many pictures are looked at, and how often the first one is waited for.
const PICTURES: usize = 300;
const FIRSTS: usize = 10;

/// Measures a row, so many rounds of so many seconds.
pub(crate) fn measure(row: &'static Row, site: &Site, rounds: usize, seconds: f64) -> Outcome {
    let measured = in_turn(row.ways, rounds, Way::name, |way| {
        let figures = once(row, way, site, seconds)?;
        eprintln!("  {:<26}{}", way.name(), in_words(&row.sheet, &figures));
        Ok(figures)
    });
    Outcome::of(&row.sheet, measured)
}

fn once(row: &Row, way: Way, site: &Site, seconds: f64) -> Result<Figures> {
    if way == Way::Encoder {
        return Ok(of_times(&mut camera::encoding_times(PICTURES)?));
    }
    // Nothing of an earlier run is left; if it can't go, what follows says so.
    let _ = fs::remove_dir_all(&site.directory);
    fs::create_dir_all(&site.directory).map_err(Error::file(&site.directory))?;
    let scene = match way {
        Way::Plain => Scene::of_plain(site)?,
        _ => Scene::of_ours(site, way == Way::Codecs || way == Way::Units)?,
    };
    let runtime = tokio::runtime::Runtime::new()?;
    match row.measure {
        Measure::Relay => runtime.block_on(viewers::measure(&scene.sight, seconds)),
        Measure::Latency => {
            let config = scene.sight.operators.first().cloned();
            let config = config.ok_or_else(|| Error::Told("there is no operator".to_owned()))?;
            // The camera stays on as long as this one looks.
            let mut keeper = runtime.block_on(scene.sight.look(config))?;
            let drain = runtime.spawn(async move {
                let mut nowhere = tokio::io::sink();
                tokio::io::copy(&mut keeper, &mut nowhere).await
            });
            let figures = look(way, &scene, &site.directory);
            drain.abort();
            figures
        }
    }
}

/// A camera, and what relays it. All of it ends with this.
struct Scene {
    sight: Sight,
    /// Where a browser finds it.
    address: String,
    /// The one-time login of somebody who may look.
    login: Option<String>,
    _processes: Vec<Process>,
}

impl Scene {
    fn of_plain(site: &Site) -> Result<Self> {
        let listen = free_port()?;
        let mut relay = Command::new(env::current_exe()?);
        relay.args(["plain", "--listen", &listen.to_string()]);
        let relay = process::start(&relay, &site.file("plain.log"), "ready")?;
        let anyone = holdfast_tests::tls::client(&holdfast_tests::tls::new_key(), "http/1.1");
        let sight = Sight {
            server: listen,
            process: relay.id(),
            operators: vec![without_protocol(&anyone)],
            path: "/live.mp4".to_owned(),
            is_web_socket: false,
        };
        let address = format!("https://localhost:{}", listen.port());
        Ok(Self { sight, address, login: None, _processes: vec![relay] })
    }

    fn of_ours(site: &Site, is_web_socket: bool) -> Result<Self> {
        let data = site.file("data");
        let listen = SocketAddr::new(site.server_address, free_port()?.port());
        let mut serve = Command::new(&site.holdfast);
        serve.args(["serve", "--classic", "off", "--http", "off", "--listen", &listen.to_string()]);
        serve.arg("--data").arg(&data);
        let server = process::start(&serve, &site.file("server.log"), "ready:")?;
        let agent = start_agent(site, &data)?;
        let operators = (0..OPERATORS)
            .map(|number| log_in(site, &data, &format!("ada-{number}")))
            .collect::<Result<Vec<Arc<ClientConfig>>>>()?;
        let cameras = || said(Command::new(&site.holdfast).args(["cameras", "kiosk", "--data"]).arg(&data));
        wait::until_true("the device tells of its camera", || {
            cameras().is_ok_and(|listed| listed.contains("stamped"))
        });
        let printed = said(
            Command::new(&site.holdfast)
                .args(["user", "add", "eva", "--role", "viewer", "--data"])
                .arg(&data),
        )?;
        let login =
            printed.split_whitespace().find_map(|word| Some(word.split_once("/#/first/")?.1.to_owned()));
        let rest = if is_web_socket { "units" } else { "live.mp4" };
        let sight = Sight {
            server: listen,
            process: server.id(),
            operators,
            path: format!("/api/v1/devices/kiosk/cameras/stamped/{rest}"),
            is_web_socket,
        };
        let address = format!("https://localhost:{}", listen.port());
        Ok(Self { sight, address, login, _processes: vec![agent, server] })
    }
}

/// The same client, which names no protocol: the plain relay speaks but one.
fn without_protocol(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols.clear();
    Arc::new(config)
}

/// A device with the camera whose pictures tell when they were drawn.
fn start_agent(site: &Site, data: &Path) -> Result<Process> {
    let here = env::current_exe()?;
    let camera = json!([here, "camera", "--format", "h264"]);
    let text = format!("[[cameras]]\nname = 'stamped'\nkind = 'command'\ncommand = {camera}\n");
    let config = site.write("agent.toml", &text)?;
    let line = invite(site, data, &["--name", "kiosk"])?;
    let agent = |verb: &[&str]| {
        let mut agent = Command::new(&site.agent);
        agent.args(verb).arg("--state").arg(site.file("kiosk")).arg("--config").arg(&config);
        agent
    };
    said(&mut agent(&["enroll", &line]))?;
    process::start(&agent(&["run"]), &site.file("agent.log"), "")
}

/// What a browser has seen.
#[derive(Deserialize)]
struct Seen {
    /// How old each picture was when it was seen, in milliseconds.
    ages: Vec<f64>,
    /// How long the first picture took, each time, in milliseconds.
    firsts: Vec<f64>,
    /// How many different pictures were seen each second.
    rate: f64,
}

/// Has a browser look.
fn look(way: Way, scene: &Scene, directory: &Path) -> Result<Figures> {
    let wanted = json!({
        "address": scene.address,
        "login": scene.login,
        "path": if way == Way::Plain { "/" } else { "/devices/kiosk/video" },
        "player": if way == Way::Codecs { "WebCodecs" } else { "MSE" },
        "pictures": PICTURES,
        "firsts": FIRSTS,
    });
    let seen: Seen = Driver::start("video.mjs", &wanted, &directory.join("browser.log"))?.hear()?;
    let times =
        |of: &[f64]| of.iter().map(|each| Duration::from_secs_f64(each.max(0.0) / 1e3)).collect::<Vec<_>>();
    let mut figures = of_times(&mut times(&seen.ages));
    let firsts = of_times(&mut times(&seen.firsts));
    figures.insert("first".to_owned(), firsts.get("median").copied().unwrap_or(f64::NAN));
    figures.insert("rate".to_owned(), seen.rate);
    Ok(figures)
}
