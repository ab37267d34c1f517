//! `weighbridge completions`: what a shell needs to complete the command line.

use super::{Cli, output};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::process::ExitCode;

/// What `weighbridge completions` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge completions bash > /etc/bash_completion.d/weighbridge
  weighbridge completions zsh > ~/.zfunc/_weighbridge
  weighbridge completions fish > ~/.config/fish/completions/weighbridge.fish")]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "weighbridge", &mut script);
    output::print(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}
