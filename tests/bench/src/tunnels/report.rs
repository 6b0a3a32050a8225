//! What was measured of the tunnels, as a table.

use serde::Serialize;

use super::{
    Rounds,
    measure::Figures,
    peers::Tunnel,
    rows::{self, Aim, Row},
};
use crate::report::{Goal, Spread};

/// A row, measured.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    name: &'static str,
    title: &'static str,
    quantities: Vec<Quantity>,
    /// What could not be measured, and why.
    missing: Vec<(&'static str, String)>,
    pub(crate) aims: Vec<Goal>,
}

#[derive(Debug, Serialize)]
struct Quantity {
    title: &'static str,
    #[serde(skip)]
    decimals: usize,
    tunnels: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    tunnel: &'static str,
    figures: Spread,
    /// What ours is for each of this, of the same round.
    ratio: Option<Spread>,
}

impl Outcome {
    /// Nothing could be measured.
    pub(crate) fn none(row: &'static Row, reason: &str) -> Self {
        Self::of(row, row.tunnels.iter().map(|tunnel| (*tunnel, Err(reason.to_owned()))).collect())
    }

    /// `measured`: for each tunnel its rounds, ours first.
    pub(crate) fn of(row: &'static Row, measured: Vec<(Tunnel, Rounds)>) -> Self {
        let mut came: Vec<(Tunnel, Vec<Figures>)> = Vec::new();
        let mut missing = Vec::new();
        for (tunnel, rounds) in measured {
            match rounds {
                Ok(rounds) => came.push((tunnel, rounds)),
                Err(reason) => missing.push((tunnel.name(), reason)),
            }
        }
        let values = |rounds: &[Figures], name: &str| -> Vec<f64> {
            rounds.iter().filter_map(|round| round.get(name).copied()).collect()
        };
        let ours = |name| {
            let ours = came.iter().find(|(tunnel, _)| *tunnel == Tunnel::Holdfast);
            ours.map(|(_, rounds)| values(rounds, name)).unwrap_or_default()
        };
        let ratio =
            |name, peer: &[f64]| Spread::of(ours(name).iter().zip(peer).map(|(ours, peer)| ours / peer));
        let quantity = |quantity: &rows::Quantity| {
            let rows::Quantity(name, title, decimals) = *quantity;
            let line = |(tunnel, rounds): &(Tunnel, Vec<Figures>)| {
                let values = values(rounds, name);
                // Not all of them have all quantities.
                values.first()?;
                let is_compared = *tunnel != Tunnel::Holdfast && values.iter().all(|value| *value > 0.0);
                Some(Line {
                    tunnel: tunnel.name(),
                    ratio: is_compared.then(|| ratio(name, &values)),
                    figures: Spread::of(values.into_iter()),
                })
            };
            Quantity { title, decimals, tunnels: came.iter().filter_map(line).collect() }
        };
        let title = |name| row.quantities.iter().find(|quantity| quantity.0 == name).map_or("", |it| it.1);
        let goal = |aim: &Aim| match *aim {
            Aim::AtMost(name, most) => {
                let median = Spread::of(ours(name).into_iter()).median;
                Goal::new(format!("{}: at most {most}", title(name)), median, |came| came <= most)
            }
            Aim::OfPeer(name, peer, least) => {
                let rounds = came.iter().find(|(tunnel, _)| *tunnel == peer);
                let peers = rounds.map(|(_, rounds)| values(rounds, name)).unwrap_or_default();
                let words = format!("{}: at least {least} of {}", title(name), peer.name());
                Goal::new(words, ratio(name, &peers).median, |came| came >= least)
            }
        };
        Self {
            name: row.name,
            title: row.title,
            quantities: row.quantities.iter().map(quantity).collect(),
            missing,
            aims: row.aims.iter().map(goal).collect(),
        }
    }

    /// Prints it as a table.
    pub(crate) fn print(&self) {
        println!("\n{} ({})", self.title, self.name);
        println!("  {:<44}{:>10}{:>10}{:>10}   ours/this", "", "least", "median", "most");
        for quantity in &self.quantities {
            println!("  {}", quantity.title);
            for Line { tunnel, figures: Spread { least, median, most }, ratio } in &quantity.tunnels {
                let ratio = ratio.map_or_else(String::new, |Spread { least, median, most }| {
                    format!("   {least:.2} {median:.2} {most:.2}")
                });
                let decimals = quantity.decimals;
                println!(
                    "    {tunnel:<42}{least:>10.decimals$}{median:>10.decimals$}{most:>10.decimals$}{ratio}"
                );
            }
        }
        for (tunnel, reason) in &self.missing {
            println!("  {tunnel}: not measured: {reason}");
        }
    }

    /// What it is called where aims are listed.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }
}
