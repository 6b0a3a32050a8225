//! The console's list of a large fleet: whether it stays fluid while devices come and go, and what the server pays for pages
//! that show it.

mod fleet;

use std::{fs, path::Path, process::Command, time::Duration};

use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use self::fleet::Fleet;
use crate::{
    browser::Driver,
    compare::{Aim, Figures, Outcome, Quantity, Sheet, in_turn, in_words},
    device,
    error::{Error, Result},
    process::{clock, usage},
    servers::{Place, Running, Server},
    tunnels::peers::said,
};

/// How many devices there are, and how many of them go each second, and come back.
const DEVICES: usize = 5_000;
const CHANGES: u32 = 25;

/// How long things are left alone until they are as they will be.
const SETTLE: Duration = Duration::from_secs(2);

/// A part of the report.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) sheet: Sheet,
}

/// Whose frames are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The console's, while the fleet comes and goes.
    Console,
    /// Those of a page with nothing in it, in the same browser on the same machine: no page has better ones.
    Nothing,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Console => "holdfast's Fleet page",
            Self::Nothing => "an empty page",
        }
    }
}

/// Everything of the console that is measured.
pub(crate) const ROWS: &[Row] = &[Row {
    sheet: Sheet {
        name: "console-fleet",
        title: "5,000 devices in the console, of which 25 go and 25 come each second",
        quantities: &[
            Quantity("loaded", "from the page's start to all devices, ms", 0),
            Quantity("rest-median", "frame to frame, nothing done: median, ms", 1),
            Quantity("rest-most", "99 of 100 below, ms", 1),
            Quantity("rest-task", "longest task, ms (0: none of 50)", 0),
            Quantity("scroll-median", "while the list is scrolled: median, ms", 1),
            Quantity("scroll-most", "99 of 100 below, ms", 1),
            Quantity("scroll-task", "longest task, ms", 0),
            Quantity("search-median", "while it is searched, five times a second: median, ms", 1),
            Quantity("search-most", "99 of 100 below, ms", 1),
            Quantity("search-task", "longest task, ms", 0),
            Quantity("heap", "the page's heap, MB", 1),
            Quantity("cpu-0", "the server's CPU with no page, % of a core", 1),
            Quantity("cpu-1", "with one", 1),
            Quantity("cpu-10", "with ten", 1),
            Quantity("memory-0", "the server's memory with no page, MB", 1),
            Quantity("memory-1", "with one", 1),
            Quantity("memory-10", "with ten", 1),
        ],
        aims: &[
            // Two frames of most screens; a machine that draws without a graphics card needs the second.
            Aim::AtMost("scroll-median", 34.0),
            Aim::AtMost("search-median", 34.0),
            Aim::AtMost("search-task", 200.0),
        ],
    },
}];

/// Measures a row, so many rounds of so many seconds for each figure.
pub(crate) fn measure(row: &'static Row, place: &Place, rounds: usize, seconds: f64) -> Outcome {
    let ways = [Way::Console, Way::Nothing];
    let measured = in_turn(&ways, rounds, Way::name, |way| {
        let figures = match way {
            Way::Console => of_console(place, seconds)?,
            Way::Nothing => of_nothing(place, seconds)?,
        };
        eprintln!("  {:<26}{}", way.name(), in_words(&row.sheet, &figures));
        Ok(figures)
    });
    Outcome::of(&row.sheet, measured)
}

/// The frames of a page while something was done.
#[derive(Deserialize)]
struct Frames {
    /// From one to the next, in milliseconds.
    median: f64,
    most: f64,
    /// The longest task of the page's, in milliseconds; 0, if none was of 50.
    task: f64,
}

/// What a browser has seen.
#[derive(Deserialize)]
struct Seen {
    rest: Frames,
    scroll: Option<Frames>,
    search: Option<Frames>,
    /// In bytes.
    heap: f64,
}

impl Seen {
    fn note(&self, figures: &mut Figures) {
        let done =
            [("rest", Some(&self.rest)), ("scroll", self.scroll.as_ref()), ("search", self.search.as_ref())];
        for (name, frames) in done.into_iter().filter_map(|(name, frames)| Some((name, frames?))) {
            for (what, value) in [("median", frames.median), ("most", frames.most), ("task", frames.task)] {
                figures.insert(format!("{name}-{what}"), value);
            }
        }
        figures.insert("heap".to_owned(), self.heap / 1e6);
    }
}

fn of_nothing(place: &Place, seconds: f64) -> Result<Figures> {
    fs::create_dir_all(&place.directory).map_err(Error::file(&place.directory))?;
    let wanted = json!({ "address": "about:blank", "seconds": seconds });
    let seen: Seen = Driver::start("fleet.mjs", &wanted, &place.directory.join("browser.log"))?.hear()?;
    let mut figures = Figures::new();
    seen.note(&mut figures);
    Ok(figures)
}

fn of_console(place: &Place, seconds: f64) -> Result<Figures> {
    let server = Running::start(Server::Holdfast, place, DEVICES)?;
    let directory = place.directory.join("holdfast");
    let keys = device::keys(&place.keys, DEVICES)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut figures = Figures::new();
    runtime.block_on(async {
        // It ends with this.
        let fleet = Fleet::start(server.address, keys, CHANGES).await?;
        let process = server.process.id();
        note_cost(&mut figures, 0, process, seconds).await?;
        let wanted = json!({
            "address": format!("https://localhost:{}", server.address.port()),
            "login": log_in(place, &directory.join("data"))?,
            "devices": DEVICES,
            "seconds": seconds,
        });
        // Waiting for the browser must not keep the devices from going on.
        let mut driver = Driver::start("fleet.mjs", &wanted, &directory.join("browser.log"))?;
        let loaded: f64 = tokio::task::block_in_place(|| driver.hear())?;
        figures.insert("loaded".to_owned(), loaded);
        note_cost(&mut figures, 1, process, seconds).await?;
        driver.go_on()?;
        let seen: Seen = tokio::task::block_in_place(|| driver.hear())?;
        seen.note(&mut figures);
        driver.go_on()?;
        let _: usize = tokio::task::block_in_place(|| driver.hear())?;
        note_cost(&mut figures, 10, process, seconds).await?;
        fleet.check()
    })?;
    Ok(figures)
}

/// What the server uses with so many pages open.
async fn note_cost(figures: &mut Figures, pages: u32, process: u32, seconds: f64) -> Result {
    sleep(SETTLE).await;
    let before = clock(process)?;
    sleep(Duration::from_secs_f64(seconds)).await;
    let used = clock(process)?.saturating_sub(before).as_secs_f64();
    figures.insert(format!("cpu-{pages}"), 100.0 * used / seconds);
    figures.insert(format!("memory-{pages}"), usage(process)?.memory as f64 / 1e6);
    Ok(())
}

/// A one-time login of somebody who may look.
fn log_in(place: &Place, data: &Path) -> Result<String> {
    let mut add = Command::new(&place.holdfast);
    add.args(["user", "add", "eva", "--role", "viewer", "--data"]).arg(data);
    let printed = said(&mut add)?;
    let token = printed.split_whitespace().find_map(|word| word.split_once("/#/first/"));
    token
        .map(|(_, token)| token.to_owned())
        .ok_or_else(|| Error::Told(format!("expected a link, found {printed}")))
}
