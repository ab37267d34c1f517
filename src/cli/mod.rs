//! The command line: one file a subcommand.
//!
//! Exit codes, the same for every subcommand: 0 it went well; 1 it did not, and standard error says
//! why; 2 the command line is wrong; 69 no hub answers; 78 a configuration is wrong. The last two are
//! `EX_UNAVAILABLE` and `EX_CONFIG` of BSD's sysexits.

mod access;
mod alarms;
mod archive;
mod bench;
mod blocks;
mod centre;
mod certs;
mod check;
mod checkpoint;
mod cluster;
mod completions;
mod data_dir;
mod demo;
mod edge;
mod ending;
mod erase;
mod evidence;
mod history;
mod http_get;
mod hub_args;
mod hubs;
mod import;
mod init;
mod keys;
mod ledger_from;
mod live;
mod log;
mod login;
mod next_key;
mod output;
mod private_process;
mod profile;
mod prove;
mod qr;
mod read;
mod reader;
mod records;
mod reload;
mod replay;
mod run;
mod scan;
mod secret_input;
mod session;
mod sim;
mod status;
mod stopped_hub;
mod temporary;
mod user;
mod verify;
mod verify_evidence;
mod verify_note;
mod watch;
mod write;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Exit code: no hub answers.
pub const EXIT_UNAVAILABLE: u8 = 69;
/// Exit code: a configuration is wrong.
pub const EXIT_CONFIG: u8 = 78;

/// The hub between a factory's machines and the systems above them: every measurement is validated,
/// signed, encrypted and written to a ledger that can be verified.
#[derive(Debug, Parser)]
#[command(
    name = "weighbridge",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  weighbridge demo                          a factory cell and a hub, nothing to set up
  weighbridge init plant && weighbridge run --config plant/hub.toml
  weighbridge verify plant/data             check everything that is recorded, offline

Exit codes: 0 success, 1 failure, 2 wrong command line, 69 no hub answers, 78 wrong configuration.
Colours appear on a terminal only, and never with NO_COLOR set."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the main job: a factory cell and a hub, nothing to set up
    Demo(demo::DemoArgs),
    /// Make a directory with keys and a configuration that runs
    Init(init::InitArgs),
    /// Set up edge nodes, which read machines and upload to hubs
    Edge(edge::EdgeArgs),
    /// The hubs that share a chain: who they are, how they are, who comes and goes
    Cluster(cluster::ClusterArgs),
    /// Check configuration files, and show every mistake in them
    Check(check::CheckArgs),
    /// Take over the tags of another gateway
    Import(import::ImportArgs),
    /// Kinds of machines: list, show, test and begin device profiles
    Profile(profile::ProfileArgs),
    /// List, trust and renew certificates
    Certs(certs::CertsArgs),
    /// Add, list and remove users: passwords, one-time codes, keys
    User(user::UserArgs),
    /// Log in at a hub, for the commands below
    Login(login::LoginArgs),
    /// Log out
    Logout(login::LogoutArgs),
    /// Show how a running hub is
    Status(status::StatusArgs),
    /// Show the newest values of a device's tags
    Read(read::ReadArgs),
    /// Write tags of a device, and show what was read back
    Write(write::WriteArgs),
    /// Show values as they change
    Watch(watch::WatchArgs),
    /// List the newest blocks of a ledger
    Blocks(blocks::BlocksArgs),
    /// List the newest records of a ledger
    Records(records::RecordsArgs),
    /// List who may what, and change it
    Access(access::AccessArgs),
    /// List keys, and give the hub another one
    Keys(keys::KeysArgs),
    /// Key generation centres, and the keys that several of them help to make
    Centre(centre::CentreArgs),
    /// List what is wrong, and acknowledge, confirm or shelve it
    Alarms(alarms::AlarmsArgs),
    /// Find out what is there, before anybody has described it
    Scan(Box<scan::ScanArgs>),
    /// Run the simulated factory cell alone
    Sim(sim::SimArgs),
    /// Run a hub
    Run(run::RunArgs),
    /// Show what was recorded of a tag
    History(history::HistoryArgs),
    /// Read what was recorded with a key of one's own
    Reader(reader::ReaderArgs),
    /// Write a file that proves one sample
    Prove(prove::ProveArgs),
    /// Write a file that proves all samples of a time
    Evidence(evidence::EvidenceArgs),
    /// Show the ledger's head as a signed note, and have witnesses cosign it
    Checkpoint(checkpoint::CheckpointArgs),
    /// Destroy the keys of what was recorded of a device up to a time
    Erase(erase::EraseArgs),
    /// List, check and read what was retired into an archive
    Archive(archive::ArchiveArgs),
    /// Check a ledger, an evidence file or a checkpoint, offline
    Verify(verify::VerifyArgs),
    /// Try a validator on history: a CSV in, a label a row out
    Replay(replay::ReplayArgs),
    /// Measure what this machine does
    Bench(bench::BenchArgs),
    /// Print the completions of a shell
    Completions(completions::CompletionsArgs),
}

/// Runs the program with its command line.
pub fn main() -> ExitCode {
    private_process::keep_private();
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            let style = output::Style::stderr();
            eprintln!("{}: {error:#}", style.red("error"));
            if error.is::<http_get::Unreachable>() {
                ExitCode::from(EXIT_UNAVAILABLE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Init(args) => init::run(args),
        Command::Edge(args) => edge::command(args),
        Command::Cluster(args) => cluster::command(args),
        Command::Check(args) => check::run(args),
        Command::Import(args) => import::run(args),
        Command::Profile(args) => profile::run(args),
        Command::Certs(args) => certs::run(args),
        Command::User(args) => user::run(args),
        Command::Login(args) => login::run(args),
        Command::Logout(args) => login::log_out(args),
        Command::Status(args) => status::run(args),
        Command::Read(args) => read::run(args),
        Command::Write(args) => write::run(args),
        Command::Watch(args) => watch::run(args),
        Command::Blocks(args) => blocks::run(args),
        Command::Records(args) => records::run(args),
        Command::Access(args) => access::run(args),
        Command::Keys(args) => keys::run(args),
        Command::Centre(args) => centre::run(args),
        Command::Alarms(args) => alarms::run(args),
        Command::Scan(args) => scan::run(*args),
        Command::Sim(args) => sim::run(args),
        Command::Run(args) => run::run(args),
        Command::History(args) => history::run(args),
        Command::Reader(args) => reader::run(args),
        Command::Prove(args) => prove::run(args),
        Command::Evidence(args) => evidence::run(args),
        Command::Checkpoint(args) => checkpoint::run(args),
        Command::Erase(args) => erase::run(args),
        Command::Archive(args) => archive::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Completions(args) => completions::run(args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_says_what_it_does_and_shows_examples() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} has no description");
            let examples = command.get_after_help().map(ToString::to_string);
            let shown = examples.is_some_and(|e| e.contains(&format!("weighbridge {name}")));
            // A group of subcommands shows them at its members.
            let group = command.get_subcommands().next().is_some();
            assert!(shown || group, "{name} has no examples");
        }
    }
}
