//! init
#[derive(Debug, clap::Args)]
#[command(after_help = "weighbridge init")]
pub(super) struct InitArgs {}
pub(super) fn run(_: InitArgs) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("x")
}
