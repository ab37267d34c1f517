//! `weighbridge profile`: what kinds of machines are known, and whether what is known of them holds.

mod cycles;
mod golden;
mod show;

use super::output::{self, Style};
use crate::config::Diagnostic;
use crate::config::profile::{Profile, Shelf};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where profiles lie unless something else is said.
const FOLDER: &str = "plugins/profiles";

/// What `weighbridge profile` is told.
#[derive(Debug, Args)]
pub(super) struct ProfileArgs {
    #[command(subcommand)]
    command: ProfileCommand,
}

#[derive(Debug, Subcommand)]
enum ProfileCommand {
    /// List the profiles there are
    #[command(after_help = "\
Examples:
  weighbridge profile list
  weighbridge profile list --folder plant/profiles --json")]
    List(ListArgs),
    /// Show what a profile reads, with everything filled in
    #[command(after_help = "\
Examples:
  weighbridge profile show universal-robots
  weighbridge profile show universal-robots --toml     as a device in full, with example addresses

Exit codes: 0 shown, 78 the profile has mistakes.")]
    Show(ShowArgs),
    /// Run the golden cases of profiles: registers in, samples out
    #[command(after_help = "\
Examples:
  weighbridge profile test                              all there are
  weighbridge profile test plugins/profiles/press.toml

Exit codes: 0 all came out as expected, 1 some did not, 78 a profile has mistakes.")]
    Test(TestArgs),
    /// Begin a new profile
    #[command(after_help = "\
Examples:
  weighbridge profile new my-press
  weighbridge profile new my-press --folder plant/profiles")]
    New(NewArgs),
}

/// The folder of profiles.
#[derive(Debug, Args)]
struct Folder {
    /// Folder of profiles, beside those that are built in
    #[arg(long, value_name = "DIR", default_value = FOLDER)]
    folder: PathBuf,
}

impl Folder {
    fn shelf(&self) -> Shelf {
        Shelf::folder(&self.folder)
    }

    /// The profile that a command line names: a file, or an id.
    fn profile(&self, name: &str) -> Result<Profile, Vec<Diagnostic>> {
        let path = Path::new(name);
        if name.contains(['/', '\\']) || path.extension().is_some_and(|e| e == "toml") {
            Profile::load(path)
        } else {
            Profile::find(name, &self.shelf())
        }
    }
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    folder: Folder,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// A profile: its id, or its file
    profile: String,
    #[command(flatten)]
    folder: Folder,
    /// Print the device in full, as a configuration has it
    #[arg(long)]
    toml: bool,
    /// Print one JSON object
    #[arg(long, conflicts_with = "toml")]
    json: bool,
}

#[derive(Debug, Args)]
struct TestArgs {
    /// Profiles: their ids, or their files [default: all]
    profiles: Vec<String>,
    #[command(flatten)]
    folder: Folder,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct NewArgs {
    /// Its id: lower-case letters, digits, `-`, `_` and `.`
    id: String,
    #[command(flatten)]
    folder: Folder,
}

pub(super) fn run(args: ProfileArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        ProfileCommand::List(args) => show::list(&args.folder.shelf(), args.json),
        ProfileCommand::Show(args) => match args.folder.profile(&args.profile) {
            Ok(profile) => show::show(&profile, args.toml, args.json),
            Err(found) => Ok(refuse(&found)),
        },
        ProfileCommand::Test(args) => test(&args),
        ProfileCommand::New(args) => begin(&args),
    }
}

/// Says what is wrong with a profile.
fn refuse(found: &[Diagnostic]) -> ExitCode {
    let colour = Style::stderr().colour;
    for diagnostic in found {
        eprintln!("{}", diagnostic.render(colour));
    }
    ExitCode::from(super::EXIT_CONFIG)
}

fn test(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let names = match args.profiles.as_slice() {
        [] => args.folder.shelf().names(),
        named => named.to_vec(),
    };
    let mut profiles = Vec::new();
    let mut wrong = None;
    for name in names {
        match args.folder.profile(&name) {
            Ok(profile) => profiles.push(profile),
            Err(found) => wrong = Some(refuse(&found)),
        }
    }
    let results = golden::run(&profiles)?;
    if args.json {
        output::print_json(&golden::json(&results))?;
    } else {
        output::print(&golden::text(&results, Style::stdout()))?;
    }
    let passed = results.iter().all(golden::Outcome::passed);
    Ok(match (wrong, passed) {
        (Some(code), _) => code,
        (None, true) => ExitCode::SUCCESS,
        (None, false) => ExitCode::FAILURE,
    })
}

const SKELETON: &str = include_str!("new.toml");

fn begin(args: &NewArgs) -> anyhow::Result<ExitCode> {
    if let Some(fault) = crate::config::id_fault(&args.id) {
        bail!("`{}` is not an id: {fault}", args.id);
    }
    let folder = &args.folder.folder;
    let path = folder.join(format!("{}.toml", args.id));
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        file.write_all(SKELETON.replace("{id}", &args.id).as_bytes())
    };
    write().with_context(|| format!("{} cannot be written", path.display()))?;
    output::print(&format!(
        "{} {}\n\nNext:\n  put the machine's tags into it\n  weighbridge profile test {}\n",
        Style::stdout().green("✓"),
        path.display(),
        path.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_profile_is_right_from_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let args = NewArgs {
            id: "my-press".into(),
            folder: Folder {
                folder: dir.path().join("profiles"),
            },
        };
        begin(&args).unwrap();
        let path = dir.path().join("profiles/my-press.toml");
        let profile = args.folder.profile(path.to_str().unwrap()).unwrap();
        assert_eq!(args.folder.profile("my-press").unwrap().id, "my-press");
        let results = golden::run(&[profile]).unwrap();
        assert_eq!(results.len(), 1);
        assert!(results[0].passed(), "{results:?}");
        assert!(begin(&args).is_err(), "nothing is overwritten");
    }

    #[test]
    fn every_shipped_profile_is_right_and_its_cases_come_out() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/plugins/profiles");
        let shelf = Shelf::folder(folder);
        let mut profiles = Vec::new();
        for name in shelf.names() {
            assert!(!shelf.is_built_in(&name), "{name} is built in only");
            let in_folder = Profile::find(&name, &shelf).unwrap_or_else(|found| {
                panic!(
                    "{}",
                    found.iter().map(ToString::to_string).collect::<String>()
                )
            });
            assert_eq!(in_folder.warnings, vec![], "{name}");
            let built_in = Profile::find(&name, &Shelf::built_in());
            let built_in = built_in.unwrap_or_else(|_| panic!("{name} is not built in"));
            assert_eq!(built_in.device, in_folder.device);
            let history_only =
                in_folder.device.modbus.is_none() && in_folder.device.opcua.is_none();
            assert!(
                history_only || !in_folder.cases.is_empty(),
                "{name} has no case"
            );
            profiles.push(in_folder);
        }
        assert!(profiles.len() >= 12);
        for result in golden::run(&profiles).unwrap() {
            assert!(result.passed(), "{result:?}");
        }
    }
}
