//! Several ways to do the same, side by side: what was measured of each, as a table.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::report::{Goal, Spread};

/// What was measured of one way in one round: by the names of its quantities.
pub(crate) type Figures = BTreeMap<String, f64>;

/// What came of one way: its rounds, or why there are none.
pub(crate) type Rounds = std::result::Result<Vec<Figures>, String>;

/// What a row of the report is to show.
#[derive(Debug)]
pub(crate) struct Sheet {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What it is called in the table.
    pub(crate) title: &'static str,
    pub(crate) quantities: &'static [Quantity],
    pub(crate) aims: &'static [Aim],
}

/// A quantity that is measured: its name, its title with its unit, and how many decimals are shown.
#[derive(Debug)]
pub(crate) struct Quantity(pub(crate) &'static str, pub(crate) &'static str, pub(crate) usize);

/// What is aimed at, of our median.
#[derive(Debug)]
pub(crate) enum Aim {
    /// This quantity is at least so many times that of the way of this name, of the same round.
    OfPeer(&'static str, &'static str, f64),
    /// This quantity is at most this.
    AtMost(&'static str, f64),
}

/// A row, measured.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    name: &'static str,
    title: &'static str,
    quantities: Vec<Measured>,
    /// What could not be measured, and why.
    missing: Vec<(&'static str, String)>,
    pub(crate) aims: Vec<Goal>,
}

#[derive(Debug, Serialize)]
struct Measured {
    title: &'static str,
    #[serde(skip)]
    decimals: usize,
    ways: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    way: &'static str,
    figures: Spread,
    /// What ours is for each of this, of the same round.
    ratio: Option<Spread>,
}

impl Outcome {
    /// Nothing could be measured of these ways.
    pub(crate) fn none(sheet: &Sheet, ways: impl Iterator<Item = &'static str>, reason: &str) -> Self {
        Self::of(sheet, ways.map(|way| (way, Err(reason.to_owned()))).collect())
    }

    /// `measured`: for each way its rounds, ours first.
    pub(crate) fn of(sheet: &Sheet, measured: Vec<(&'static str, Rounds)>) -> Self {
        let ours = measured.first().map(|(way, _)| *way);
        let mut came: Vec<(&str, Vec<Figures>)> = Vec::new();
        let mut missing = Vec::new();
        for (way, rounds) in measured {
            match rounds {
                Ok(rounds) => came.push((way, rounds)),
                Err(reason) => missing.push((way, reason)),
            }
        }
        let values = |rounds: &[Figures], name: &str| -> Vec<f64> {
            rounds.iter().filter_map(|round| round.get(name).copied()).collect()
        };
        let values_of = |way: Option<&str>, name: &str| {
            let found = came.iter().find(|(one, _)| Some(*one) == way);
            found.map(|(_, rounds)| values(rounds, name)).unwrap_or_default()
        };
        let ratio = |name, peer: &[f64]| {
            Spread::of(values_of(ours, name).iter().zip(peer).map(|(ours, peer)| ours / peer))
        };
        let quantity = |quantity: &Quantity| {
            let Quantity(name, title, decimals) = *quantity;
            let line = |(way, rounds): &(&'static str, Vec<Figures>)| {
                let values = values(rounds, name);
                // Not all of them have all quantities.
                values.first()?;
                let has_ours = !values_of(ours, name).is_empty();
                let is_compared = has_ours && Some(*way) != ours && values.iter().all(|value| *value > 0.0);
                Some(Line {
                    way,
                    ratio: is_compared.then(|| ratio(name, &values)),
                    figures: Spread::of(values.into_iter()),
                })
            };
            Measured { title, decimals, ways: came.iter().filter_map(line).collect() }
        };
        let title = |name| sheet.quantities.iter().find(|quantity| quantity.0 == name).map_or("", |it| it.1);
        let goal = |aim: &Aim| match *aim {
            Aim::AtMost(name, most) => {
                let median = Spread::of(values_of(ours, name).into_iter()).median;
                Goal::new(format!("{}: at most {most}", title(name)), median, |came| came <= most)
            }
            Aim::OfPeer(name, peer, least) => {
                let words = format!("{}: at least {least} of {peer}", title(name));
                Goal::new(words, ratio(name, &values_of(Some(peer), name)).median, |came| came >= least)
            }
        };
        Self {
            name: sheet.name,
            title: sheet.title,
            quantities: sheet.quantities.iter().map(quantity).collect(),
            missing,
            aims: sheet.aims.iter().map(goal).collect(),
        }
    }

    /// Prints it as a table.
    pub(crate) fn print(&self) {
        println!("\n{} ({})", self.title, self.name);
        println!("  {:<44}{:>10}{:>10}{:>10}   ours/this", "", "least", "median", "most");
        for quantity in &self.quantities {
            println!("  {}", quantity.title);
            for Line { way, figures: Spread { least, median, most }, ratio } in &quantity.ways {
                let ratio = ratio.map_or_else(String::new, |Spread { least, median, most }| {
                    format!("   {least:.2} {median:.2} {most:.2}")
                });
                let decimals = quantity.decimals;
                println!(
                    "    {way:<42}{least:>10.decimals$}{median:>10.decimals$}{most:>10.decimals$}{ratio}"
                );
            }
        }
        for (way, reason) in &self.missing {
            println!("  {way}: not measured: {reason}");
        }
    }

    /// What it is called where aims are listed.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }
}

/// Measures ways in turn, so many rounds: one that fails is not tried again. `once` gives what one round of a way has
/// brought.
pub(crate) fn in_turn<Way: Copy + PartialEq>(
    ways: &[Way],
    rounds: usize,
    name: impl Fn(Way) -> &'static str,
    mut once: impl FnMut(Way) -> crate::error::Result<Figures>,
) -> Vec<(&'static str, Rounds)> {
    let mut measured: Vec<(Way, Rounds)> = ways.iter().map(|way| (*way, Ok(Vec::new()))).collect();
    for round in 0..rounds {
        let mut turns: Vec<_> = measured.iter_mut().collect();
        // Whoever comes first gets the machine in the state of whoever came last: in turn.
        if round % 2 == 1 {
            turns.reverse();
        }
        for (way, rounds) in turns {
            let Ok(figures) = rounds else { continue };
            match once(*way) {
                Ok(news) => figures.push(news),
                Err(error) => {
                    eprintln!("  {:<26}{error}", name(*way));
                    *rounds = Err(error.to_string());
                }
            }
        }
    }
    measured.into_iter().map(|(way, rounds)| (name(way), rounds)).collect()
}

/// A round in words, for whoever waits.
pub(crate) fn in_words(sheet: &Sheet, figures: &Figures) -> String {
    let shown = sheet.quantities.iter().filter_map(|quantity| {
        let value = figures.get(quantity.0)?;
        Some(format!("{value:>10.*}", quantity.2))
    });
    shown.collect()
}
