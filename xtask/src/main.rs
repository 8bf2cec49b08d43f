//! The project's own commands: `cargo xtask <command>`. One file a command.

mod bench;
mod ci;
mod download_weights;
mod embed_backbone;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure this project, beside PyTorch and alone
    #[command(subcommand)]
    Bench(bench::Arguments),
    Ci(ci::Arguments),
    DownloadWeights(download_weights::Arguments),
    EmbedBackbone(embed_backbone::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Ci(_) => ci::run(),
        Command::DownloadWeights(arguments) => download_weights::run(&arguments),
        Command::EmbedBackbone(arguments) => embed_backbone::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_well_formed() {
        super::Arguments::command().debug_assert();
    }
}
