//! `weighbridge user`: who can log in, and by what. What they may do is not said here.

mod adopt;
mod key;
mod remote;
mod totp;

use super::http_get::HubUrl;
use super::output::{self, Align, Style};
use super::secret_input::new_password;
use crate::access::Credentials;
use crate::crypto::TotpHash;
use crate::store::CredentialFiles;
use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `weighbridge user` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge user add ann                           asks for a password, twice
  weighbridge user add mes --password-file mes.txt   the first line of the file
  weighbridge user totp ann                          a QR code for an authenticator app
  weighbridge user passwd ann --config plant/hub.toml
  weighbridge user key ann --add ann.crt             logs in by certificate or by signing a challenge
  weighbridge user adopt --config plant/hub.toml     the OPC UA server's own users become the hub's
  weighbridge user list
  weighbridge user remove ann

At a running hub, as whoever is logged in there, each change on record before it is in force:
  weighbridge user add ann --role operator --url https://plant.example:8443    she is invited to choose a password
  weighbridge user accept INVITATION --url https://plant.example:8443
  weighbridge user invite ann --codes --url https://plant.example:8443         another password, and other codes
  weighbridge user passwd ann --url https://plant.example:8443                 her own, by the one she has
  weighbridge user expire ann 2027-01-31T00:00:00Z --url https://plant.example:8443
  weighbridge user remove ann --url https://plant.example:8443                 withdrawn at once
  weighbridge user reissue ann --url https://plant.example:8443                in again, with nothing of what she had

Credentials are files in the directory `users` beside the configuration: mode 0600, passwords as Argon2id hashes. A
change holds from the next log-in on, also of a running hub, which records that it was made, but not by whom.

Exit codes: 0 done, 1 not done, and standard error says why.")]
pub(super) struct UserArgs {
    #[command(subcommand)]
    act: Act,
    /// The configuration beside which the credentials are
    #[arg(long, value_name = "FILE", default_value = "hub.toml", global = true)]
    config: PathBuf,
    /// The directory of the credentials, when it is another
    #[arg(long, value_name = "DIR", global = true)]
    users: Option<PathBuf>,
    /// A running hub, whose API does it on record
    #[arg(long, value_name = "URL", global = true, conflicts_with = "users")]
    url: Option<HubUrl>,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Add a user
    Add {
        /// Lower-case letters, digits, `-`, `_`, `.` and `@`
        name: String,
        #[command(flatten)]
        new: remote::NewArgs,
        #[command(flatten)]
        password: PasswordArgs,
        /// No password: logs in by a key only (`weighbridge user key`)
        #[arg(long, conflicts_with = "password_file")]
        no_password: bool,
    },
    /// Give a user a new password
    Passwd {
        /// Whose
        name: String,
        #[command(flatten)]
        password: PasswordArgs,
        /// Take the password away: logs in by a key only
        #[arg(long, conflicts_with = "password_file")]
        remove: bool,
    },
    /// Have one-time codes asked for beside the password
    Totp(totp::TotpArgs),
    /// Let a user log in by a key: its certificate, or a signed challenge
    Key(key::KeyArgs),
    /// Have a user of a running hub choose another password
    Invite(remote::InviteArgs),
    /// Take an invitation: choose the password, and set up one-time codes
    Accept(remote::AcceptArgs),
    /// Take everything that a user of a running hub logs in by, and invite them anew
    Reissue(remote::ReissueArgs),
    /// Have a user of a running hub expire
    Expire(remote::ExpireArgs),
    /// Take over the users that the OPC UA server has of its own
    Adopt,
    /// List users
    List,
    /// Take a user's credentials away
    Remove {
        /// Whose
        name: String,
    },
}

#[derive(Debug, Args)]
struct PasswordArgs {
    /// A file whose first line is the password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// What was done: to whom, and how it is told.
struct Done {
    json: Json,
    text: String,
}

impl Done {
    fn new(user: &str, what: &str, text: String) -> Self {
        Self {
            json: json!({ "user": user, "done": what }),
            text,
        }
    }
}

pub(super) fn run(args: UserArgs) -> anyhow::Result<ExitCode> {
    if let Some(url) = &args.url {
        let done = remote::run(url, args.act, args.json)?;
        return told(&done, args.json);
    }
    let site = args.config.parent().unwrap_or(Path::new(""));
    let dir = args.users.unwrap_or_else(|| site.join("users"));
    let files = CredentialFiles::new(&dir);
    let style = Style::stdout();
    let done = match args.act {
        Act::Add {
            name,
            password,
            no_password,
            new: _,
        } => add(&files, &name, &password, no_password)?,
        Act::Passwd {
            name,
            password,
            remove,
        } => passwd(&files, &name, &password, remove)?,
        Act::Totp(totp) => totp.run(&files, args.json, style)?,
        Act::Key(key) => key.run(&files)?,
        Act::Invite(_) | Act::Accept(_) | Act::Reissue(_) | Act::Expire(_) => {
            anyhow::bail!("this is asked of a running hub: say which, by --url")
        }
        Act::Adopt => adopt::run(&args.config, &files)?,
        Act::List => list(&files, style)?,
        Act::Remove { name } => {
            files.remove(&name)?;
            let text = format!("removed: {name}; sessions that are open stay until they end\n");
            Done::new(&name, "removed", text)
        }
    };
    told(&done, args.json)
}

fn told(done: &Done, json: bool) -> anyhow::Result<ExitCode> {
    match json {
        true => output::print_json(&done.json)?,
        false => output::print(&done.text)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn add(
    files: &CredentialFiles,
    name: &str,
    password: &PasswordArgs,
    no_password: bool,
) -> anyhow::Result<Done> {
    let mut credentials = Credentials::new(name)?;
    // Before anybody types a password for nothing.
    if files.load(name)?.is_some() {
        anyhow::bail!(
            "there is a user {name} already; `weighbridge user passwd {name}` gives a new password"
        );
    }
    if !no_password {
        let hash = new_password(&credentials, password.password_file.as_deref())?;
        credentials.password = Some(hash);
    }
    files.add(&credentials)?;
    let next = match no_password {
        true => format!("weighbridge user key {name} --add CERTIFICATE"),
        false => format!("weighbridge user totp {name}        one-time codes beside the password"),
    };
    let text = format!("added: {name}\n\nNext:\n  {next}\n");
    Ok(Done::new(name, "added", text))
}

fn passwd(
    files: &CredentialFiles,
    name: &str,
    password: &PasswordArgs,
    remove: bool,
) -> anyhow::Result<Done> {
    let Some(before) = files.load(name)? else {
        anyhow::bail!("there is no user {name}");
    };
    let hash = match remove {
        true => None,
        false => Some(new_password(&before, password.password_file.as_deref())?),
    };
    files.change(name, |credentials| -> anyhow::Result<()> {
        credentials.password = hash;
        Ok(())
    })?;
    Ok(match remove {
        true => Done::new(
            name,
            "password removed",
            format!("{name} has no password any more\n"),
        ),
        false => Done::new(
            name,
            "password changed",
            format!("{name} has a new password\n"),
        ),
    })
}

fn list(files: &CredentialFiles, style: Style) -> anyhow::Result<Done> {
    let headings = ["user", "password", "codes", "keys", "certificates"];
    let headings = headings.map(|heading| (heading, Align::Left));
    let (mut rows, mut users) = (Vec::new(), Vec::new());
    for name in files.names()? {
        let Some(user) = files.load(&name)? else {
            continue;
        };
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let codes = user.totp.as_ref().map(|totp| match totp.secret.hash() {
            TotpHash::Sha1 => "sha1",
            TotpHash::Sha256 => "sha256",
        });
        rows.push(vec![
            name.clone(),
            yes(user.password.is_some()),
            yes(codes.is_some()),
            user.keys().len().to_string(),
            user.certificates().len().to_string(),
        ]);
        users.push(json!({
            "name": name,
            "password": user.password.is_some(),
            "codes": codes,
            "keys": user.keys(),
            "certificates": user.certificates(),
        }));
    }
    let text = match rows.is_empty() {
        true => format!("no users in {}\n", files.dir().display()),
        false => output::table(style, &headings, &rows),
    };
    Ok(Done {
        json: json!({ "directory": files.dir(), "users": users }),
        text,
    })
}
