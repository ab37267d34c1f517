//! `weighbridge certs`: the certificates of the hub, and of those that knock at it or are called by it;
//! and the site's own authority, which issues some.

mod folders;
mod renewal;
mod site;

pub(super) use folders::expiring;
pub(super) use site::{CorporateArgs, establish};

use crate::cli::output::{self, Align, Style};
use crate::model::{Nanos, now, rfc3339};
use crate::protocols::opcua::pki::{self, Certificate, ListError, Place};
use anyhow::bail;
use clap::{Args, Subcommand};
use folders::Folders;
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Days before its end from which on a certificate is shown as expiring.
const SOON: i64 = 30;

/// What `weighbridge certs` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge certs list --config plant/hub.toml        all folders that the configuration names
  weighbridge certs list --pki plant/pki/opcua-client
  weighbridge certs trust ab12cd34 --pki plant/pki/opcua-client
  weighbridge certs trust robot.der --pki plant/pki/opcua-client
  weighbridge certs reject ab12cd34 --config plant/hub.toml
  weighbridge certs show ab12cd34 --json
  weighbridge certs renew --pki plant/pki/opcua         a new key and certificate
  weighbridge certs renew --all --config plant/hub.toml everything that has expired, or will within 30 days
  weighbridge certs issue user ann --config plant/hub.toml
  weighbridge certs issue hub hub-1 --host plant.example --host 192.0.2.7
  weighbridge certs issue edge edge-1 --request edge-1.csr
  weighbridge certs request edge edge-1 --key cell-a/keys/edge.key
  weighbridge certs authority --ca corp.pem             a corporate authority, whose key is elsewhere
  weighbridge certs install hub hub-1 signed.pem

A certificate is named by the first digits of its thumbprint, at least four.
Exit codes: 0 done, 1 not done, and standard error says why.")]
pub(super) struct CertsArgs {
    #[command(subcommand)]
    act: Act,
    #[command(flatten)]
    folders: Folders,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// List own, trusted and rejected certificates
    List,
    /// Let one in: one that knocked, or a file
    Trust {
        /// The first digits of its thumbprint, or a file (DER or PEM)
        #[arg(value_name = "THUMBPRINT|FILE")]
        which: String,
    },
    /// Let one in no longer
    Reject {
        /// The first digits of its thumbprint
        #[arg(value_name = "THUMBPRINT")]
        which: String,
    },
    /// Show everything about one
    Show {
        /// The first digits of its thumbprint
        #[arg(value_name = "THUMBPRINT")]
        which: String,
    },
    /// Make a new OPC UA key and certificate with the names of the old; with --all, renew everything that expires
    Renew {
        /// Renew all of the site's own that have expired or soon will: the authority, what it issued, and OPC UA's
        #[arg(long)]
        all: bool,
        /// How soon is soon
        #[arg(long, value_name = "DAYS", default_value_t = SOON, requires = "all", value_parser = clap::value_parser!(i64).range(0..=36_500))]
        within: i64,
    },
    /// Make the site's authority where there is none, or take a corporate one
    Authority {
        /// Id of the hub
        #[arg(long, value_name = "ID", default_value = "hub-1", value_parser = super::init::hub_id)]
        id: String,
        #[command(flatten)]
        corporate: CorporateArgs,
    },
    /// Issue a certificate by the site's authority
    Issue(site::IssueArgs),
    /// Make a request for an authority whose key is elsewhere
    Request(site::RequestArgs),
    /// Put a certificate that was signed elsewhere to where the hub looks for it
    Install(site::InstallArgs),
}

pub(super) fn run(args: CertsArgs) -> anyhow::Result<ExitCode> {
    let site = args.folders.site();
    let of_the_site = match &args.act {
        Act::Authority { id, corporate } => Some(site::authority(site, id, corporate)?),
        Act::Issue(issue) => Some(site::issue(site, issue)?),
        Act::Request(request) => Some(site::request(site, request)?),
        Act::Install(install) => Some(site::install(site, install)?),
        _ => None,
    };
    if let Some(report) = of_the_site {
        return report.print(args.json, true);
    }
    let folders = args.folders.find()?;
    let mut clean = true;
    let report = match &args.act {
        Act::List => list(&folders, args.folders.are_configured().then_some(site))?,
        Act::Trust { which } if Path::new(which).is_file() => {
            let folder = one(&folders)?;
            let moved = pki::import(folder, Path::new(which))?;
            told("trusted", folder, &moved)
        }
        Act::Trust { which } => {
            let (folder, _) = find(&folders, which)?;
            told("trusted", folder, &pki::trust(folder, which)?)
        }
        Act::Reject { which } => {
            let (folder, _) = find(&folders, which)?;
            told("rejected", folder, &pki::reject(folder, which)?)
        }
        Act::Show { which } => {
            let (folder, found) = find(&folders, which)?;
            Report {
                json: as_json(folder, &found),
                text: details(&found),
            }
        }
        Act::Renew { all: true, within } => {
            let (report, all_of_it) = renewal::all(site, &folders, *within)?;
            clean = all_of_it;
            report
        }
        _ => renew(one(&folders)?)?,
    };
    report.print(args.json, clean)
}

struct Report {
    json: Json,
    text: String,
}

impl Report {
    fn print(&self, json: bool, clean: bool) -> anyhow::Result<ExitCode> {
        match json {
            true => output::print_json(&self.json)?,
            false => output::print(&self.text)?,
        }
        Ok(match clean {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

fn one(folders: &[PathBuf]) -> anyhow::Result<&PathBuf> {
    match folders {
        [folder] => Ok(folder),
        _ => {
            let names: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
            bail!("say which folder with --pki: {}", names.join(", "))
        }
    }
}

/// The folder that has the certificate, and the certificate.
fn find<'a>(folders: &'a [PathBuf], which: &str) -> anyhow::Result<(&'a PathBuf, Certificate)> {
    let mut found = Vec::new();
    let mut missing = None;
    for folder in folders {
        match pki::find(folder, which) {
            Ok(certificate) => found.push((folder, certificate)),
            Err(error @ ListError::Unknown { .. }) => missing = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    match (found.len(), missing) {
        (1, _) => Ok(found.remove(0)),
        (0, Some(error)) => Err(error.into()),
        (0, None) => bail!("there is no certificate folder"),
        _ => {
            let names: Vec<_> = found.iter().map(|(f, _)| f.display().to_string()).collect();
            bail!(
                "{which} is in more than one folder; say which with --pki: {}",
                names.join(", ")
            )
        }
    }
}

fn told(what: &str, folder: &Path, certificate: &Certificate) -> Report {
    Report {
        json: as_json(folder, certificate),
        text: format!(
            "{what}: {} {} ({})\nA device that was refused is tried again within seconds.\n",
            certificate.thumbprint,
            certificate.subject,
            certificate.path.display()
        ),
    }
}

fn renew(folder: &Path) -> anyhow::Result<Report> {
    let (old, new) = pki::renew(folder)?;
    let mut json = as_json(folder, &new);
    if let Json::Object(fields) = &mut json {
        fields.insert("replaced".into(), old.clone().into());
    }
    Ok(Report {
        json,
        text: format!(
            "made: {}, valid until {}\nreplaced: {old}\n\
             Give {} to everybody who trusted the old one. A running hub's server shows it now; where it is\n\
             that of its client, restart the hub.\n",
            new.thumbprint,
            rfc3339(new.valid_until),
            new.path.display(),
        ),
    })
}

fn list(folders: &[PathBuf], site: Option<&Path>) -> anyhow::Result<Report> {
    let style = Style::stdout();
    let (mut text, mut json) = (String::new(), Vec::new());
    let site = site
        .map(|site| site::list(site, style))
        .transpose()?
        .flatten();
    if let Some(site) = &site {
        text += &site.text;
    }
    for folder in folders {
        let (found, strange) = pki::list(folder)?;
        text += &format!("{}\n", style.bold(&folder.display().to_string()));
        text += &match found.is_empty() {
            true => "nothing yet; the hub makes its certificate when it starts\n".to_owned(),
            false => table(style, &found),
        };
        for path in &strange {
            text += &format!("{} is no certificate\n", path.display());
        }
        text += &advice(folder, &found);
        text.push('\n');
        json.push(json!({
            "folder": folder,
            "certificates": found.iter().map(|c| as_json(folder, c)).collect::<Vec<_>>(),
            "no_certificates": strange,
        }));
    }
    Ok(Report {
        json: json!({ "folders": json, "site": site.map(|site| site.json) }),
        text,
    })
}

fn table(style: Style, found: &[Certificate]) -> String {
    let headings = [
        ("", Align::Left),
        ("thumbprint", Align::Left),
        ("subject", Align::Left),
        ("application", Align::Left),
        ("valid until", Align::Left),
        ("knocked", Align::Left),
    ];
    let row = |c: &Certificate| {
        let knocked = match c.place {
            Place::Rejected => date(c.seen),
            _ => String::new(),
        };
        vec![
            c.place.name().to_owned(),
            c.thumbprint.chars().take(16).collect(),
            c.subject.clone(),
            c.application_uri.clone(),
            format!("{}{}", date(c.valid_until), validity(c.days_left(now()))),
            knocked,
        ]
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    output::table(style, &headings, &rows)
}

fn date(time: Nanos) -> String {
    rfc3339(time).chars().take(16).collect()
}

fn validity(days_left: i64) -> String {
    match days_left {
        ..0 => " (expired)".into(),
        days @ 0..SOON => format!(" ({days} days left)"),
        _ => String::new(),
    }
}

/// What can be done about the one that knocked last.
fn advice(folder: &Path, found: &[Certificate]) -> String {
    let rejected = found.iter().find(|c| c.place == Place::Rejected);
    rejected.map_or_else(String::new, |c| {
        let short: String = c.thumbprint.chars().take(8).collect();
        let folder = folder.display();
        format!("To let one in: weighbridge certs trust {short} --pki {folder}\n")
    })
}

fn details(c: &Certificate) -> String {
    let mut out = String::new();
    for (name, value) in [
        ("", c.place.name().to_owned()),
        ("thumbprint", c.thumbprint.clone()),
        ("subject", c.subject.clone()),
        ("application", c.application_uri.clone()),
        ("hosts", c.hosts.join(", ")),
        ("valid from", rfc3339(c.valid_from)),
        (
            "valid until",
            format!("{}{}", rfc3339(c.valid_until), validity(c.days_left(now()))),
        ),
        ("file", c.path.display().to_string()),
        ("of", rfc3339(c.seen)),
    ] {
        out += &format!("{name:<12}{value}\n");
    }
    out
}

fn as_json(folder: &Path, c: &Certificate) -> Json {
    json!({
        "folder": folder,
        "place": c.place.name(),
        "thumbprint": c.thumbprint,
        "subject": c.subject,
        "application_uri": c.application_uri,
        "hosts": c.hosts,
        "valid_from": rfc3339(c.valid_from),
        "valid_until": rfc3339(c.valid_until),
        "days_left": c.days_left(now()),
        "file": c.path,
        "seen": rfc3339(c.seen),
    })
}
