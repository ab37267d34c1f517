//! `weighbridge check`: every mistake in configuration files, without starting anything.

use super::EXIT_CONFIG;
use super::certs;
use super::output::{self, Style};
use crate::config::profile::Profile;
use crate::config::{self, Diagnostic, HubConfig, Severity};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `weighbridge check` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge check plant/hub.toml
  weighbridge check --json *.toml
  weighbridge check plugins/profiles/*.toml
  weighbridge check --together acme/hub.toml bolt/hub.toml

Exit codes: 0 all files are right (warnings allowed), 78 at least one is not.")]
pub(super) struct CheckArgs {
    /// Configuration files, and profiles
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// One process shall run the chains of all these files: they must share nothing
    #[arg(long)]
    together: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let mut checked: Vec<_> = args.files.iter().map(|f| (f.as_path(), look(f))).collect();
    if args.together {
        together(&mut checked);
    }
    let right = checked.iter().all(|(_, c)| c.right);
    if args.json {
        let files = checked
            .iter()
            .map(|(path, c)| json!({ "file": path, "ok": c.right, "diagnostics": c.diagnostics }));
        output::print_json(&json!({ "ok": right, "files": files.collect::<Vec<_>>() }))?;
    } else {
        let style = Style::stdout();
        let text: String = checked
            .iter()
            .map(|(path, c)| c.text(path, style))
            .collect();
        output::print(&text)?;
    }
    Ok(if right {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_CONFIG)
    })
}

/// Adds what the chains of right files may not share, where one process runs them.
fn together(checked: &mut [(&Path, Checked)]) {
    let right = checked.iter().filter(|(_, c)| c.right);
    let loaded: Vec<_> = right
        .filter_map(|(path, _)| Some((*path, config::load(path).ok()?.config)))
        .collect();
    let beside: Vec<_> = loaded
        .iter()
        .map(|(path, config)| (*path, config))
        .collect();
    for diagnostic in config::side_by_side(&beside) {
        let of = |(path, _): &&mut (&Path, Checked)| path.display().to_string() == diagnostic.file;
        if let Some((_, checked)) = checked.iter_mut().find(of) {
            checked.right = false;
            checked.contents = None;
            checked.diagnostics.push(diagnostic);
        }
    }
}

struct Checked {
    right: bool,
    diagnostics: Vec<Diagnostic>,
    /// What is in a right file.
    contents: Option<Contents>,
}

/// What a right file holds.
enum Contents {
    /// So many devices and tags.
    Hub(usize, usize),
    /// So many tags.
    Profile(usize),
}

impl Checked {
    fn text(&self, path: &Path, style: Style) -> String {
        let mut out = String::new();
        for diagnostic in &self.diagnostics {
            out.push_str(&diagnostic.render(style.colour));
            out.push('\n');
        }
        let count = |severity| {
            let found = self.diagnostics.iter();
            found.filter(|d| d.severity == severity).count()
        };
        let mut parts = Vec::new();
        match self.contents {
            Some(Contents::Hub(devices, tags)) => {
                parts.push(plural(devices, "device"));
                parts.push(plural(tags, "tag"));
            }
            Some(Contents::Profile(tags)) => {
                parts.push("profile".to_owned());
                parts.push(plural(tags, "tag"));
            }
            None => {}
        }
        for (severity, word) in [(Severity::Error, "error"), (Severity::Warning, "warning")] {
            let found = count(severity);
            if found > 0 {
                parts.push(plural(found, word));
            }
        }
        let mark = if self.right {
            style.green("✓")
        } else {
            style.red("×")
        };
        let path = style.bold(&path.display().to_string());
        out.push_str(&format!("{mark} {path}: {}\n", parts.join(", ")));
        out
    }
}

fn plural(count: usize, word: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {word}{s}")
}

fn look(path: &Path) -> Checked {
    if is_profile(path) {
        return match Profile::load(path) {
            Ok(profile) => Checked {
                right: true,
                contents: Some(Contents::Profile(profile.device.tags.len())),
                diagnostics: profile.warnings,
            },
            Err(diagnostics) => Checked {
                right: false,
                diagnostics,
                contents: None,
            },
        };
    }
    match config::load(path) {
        Ok(loaded) => {
            let mut diagnostics = loaded.warnings;
            diagnostics.extend(around(path, &loaded.config));
            diagnostics.extend(config::files_around(path, &loaded.config));
            diagnostics.extend(certs::expiring(path, &loaded.config));
            let tags = loaded.config.devices.iter().map(|d| d.tags.len()).sum();
            let contents = Contents::Hub(loaded.config.devices.len(), tags);
            let wrong = |d: &Diagnostic| d.severity == Severity::Error;
            let right = !diagnostics.iter().any(wrong);
            Checked {
                right,
                contents: Some(contents).filter(|_| right),
                diagnostics,
            }
        }
        Err(diagnostics) => Checked {
            right: false,
            diagnostics,
            contents: None,
        },
    }
}

/// Whether a file is a profile; one that cannot be read is for whoever reads it next to say.
fn is_profile(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| config::profile::is_profile(&text))
}

/// What the file names and the disk does not have. It may be there on the machine that will run the
/// hub, so these are warnings.
fn around(path: &Path, config: &HubConfig) -> Vec<Diagnostic> {
    let keys = match &config.edge {
        Some(edge) => vec![&edge.signing_key],
        None => vec![&config.hub.signing_key, &config.hub.sealing_key],
    };
    let missing = keys.into_iter().filter(|key| !key.exists());
    let warn = |key: &PathBuf| {
        let message = format!("the key file {} is not there", key.display());
        let name = path.display().to_string();
        let mut d = Diagnostic::new(Severity::Warning, &name, message);
        d.help
            .push("`weighbridge init DIR` (of an edge node `weighbridge edge init DIR`) makes keys; nothing starts without them".into());
        d
    };
    missing.map(warn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, text: &str) -> PathBuf {
        let path = dir.join("hub.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_wrong_file_ends_in_a_cross_with_its_errors_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "[hub]\nid = \"A\"\nkey = 1\n");
        let checked = look(&path);
        assert!(!checked.right);
        let text = checked.text(&path, Style { colour: false });
        let last = text.lines().last().unwrap();
        assert!(last.starts_with("× "), "{text}");
        assert!(last.ends_with("2 errors, 1 warning"), "{text}");
    }

    #[test]
    fn a_right_file_whose_keys_are_elsewhere_is_right_with_warnings() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "[hub]\nid = \"a\"\n");
        let checked = look(&path);
        assert!(checked.right);
        let text = checked.text(&path, Style { colour: false });
        assert!(text.contains("hub.key is not there"), "{text}");
        assert!(text.lines().last().unwrap().starts_with("✓ "), "{text}");
    }

    #[test]
    fn the_file_of_escrow_is_opened_and_what_is_wrong_with_it_has_its_line() {
        use crate::crypto::{Identity, SealingKey};
        use weighbridge_verifier::Suite;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let own = SealingKey::generate_of(Suite::Nist);
        own.save(&at("private.pem")).unwrap();
        own.save_encrypted(&at("locked.pem"), "four words").unwrap();
        let write = |name: &str, text: &str| std::fs::write(at(name), text).unwrap();
        write("right.pem", &own.public().to_pem());
        write("right.hex", &own.public().compressed().to_string());
        let other = SealingKey::generate_of(Suite::Guomi);
        write("other.pem", &other.public().to_pem());
        write("text.pem", "to be filled in");
        std::fs::create_dir(at("directory")).unwrap();
        Identity::generate("a").save(&at("hub.key")).unwrap();
        own.save(&at("seal.key")).unwrap();
        let cases = [
            ("right.pem", None),
            ("right.hex", None),
            ("nothing.pem", Some((true, "is not there"))),
            ("directory", Some((true, "cannot be read"))),
            ("private.pem", Some((false, "holds a private key"))),
            ("locked.pem", Some((false, "holds a private key"))),
            ("other.pem", Some((false, "is of suite `guomi`"))),
            ("text.pem", Some((false, "no P-256 or SM2 public key"))),
        ];
        for (name, expected) in cases {
            let path = file(
                dir.path(),
                &format!(
                    "[hub]\nid = \"a\"\nsigning_key = \"hub.key\"\nsealing_key = \"seal.key\"\n\n\
                     [ledger]\nescrow = \"{name}\"\n"
                ),
            );
            let mut checked = look(&path);
            // That there is no device is said of the file as a whole.
            checked.diagnostics.retain(|d| d.place.is_some());
            let Some((right, what)) = expected else {
                assert_eq!(
                    (checked.right, checked.diagnostics),
                    (true, Vec::new()),
                    "{name}"
                );
                continue;
            };
            assert_eq!(checked.right, right, "{name}");
            let [found] = &checked.diagnostics[..] else {
                panic!("{name}: {:?}", checked.diagnostics);
            };
            assert!(found.message.contains(what), "{name}: {found:?}");
            let place = found.place.as_ref().unwrap();
            assert_eq!(
                (place.line, &*place.source),
                (7, &*format!("escrow = \"{name}\""))
            );
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_that_says_so() {
        let checked = look(Path::new("/nonexistent/hub.toml"));
        assert!(!checked.right);
        let text = checked.text(Path::new("x"), Style { colour: false });
        assert!(text.contains("cannot be read"), "{text}");
    }
}
