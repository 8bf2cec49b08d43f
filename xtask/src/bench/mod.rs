//! `cargo xtask bench`: how fast we are, beside PyTorch (`peers`) and as sizes grow (`scaling`).

mod setup;
mod statistics;
mod load;
mod machine;
mod worker;
mod peer;
mod build;
mod rounds;
mod start;
mod table;
mod document;
mod peers;
mod plot;
mod scaling;

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Arguments {
    Peers(peers::Arguments),
    Scaling(scaling::Arguments),
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match arguments {
        Arguments::Peers(arguments) => peers::run(arguments),
        Arguments::Scaling(arguments) => scaling::run(arguments),
    }
}
