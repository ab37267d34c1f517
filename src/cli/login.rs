//! `weighbridge login` and `weighbridge logout`: a session at a hub, for the commands that ask it.

use super::http_get::{self, Credentials, HubUrl};
use super::output;
use super::secret_input::{first_line, typed};
use super::session::{KeptSession, SessionFile};
use crate::access::Challenge;
use crate::crypto::{Identity, Signer};
use anyhow::{Context, bail};
use clap::Args;
use data_encoding::HEXLOWER;
use serde_json::{Value as Json, json};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use weighbridge_verifier::{Hash, Suite, sha256};
use zeroize::Zeroizing;

/// What `weighbridge login` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge login https://plant.example:8443 --user ann --ca pki/authority.crt
  weighbridge login https://plant.example:8443 --user mes --password-file mes.txt
  weighbridge login https://plant.example:8443 --certificate ann.crt --key ann.key
  weighbridge login https://plant.example:8443 --user mes --key mes.key    signs a challenge
  weighbridge status --url https://plant.example:8443

It asks for the password, and for the one-time code of those who have one. The authority (--ca) is
said once. It and the session are kept in weighbridge/sessions.json of your settings
(XDG_CONFIG_HOME, or ~/.config), mode 0600, and every command that asks a hub uses them. A session
ends by `weighbridge logout`, by rest, by age, and when the hub restarts.

Exit codes: 0 logged in, 1 not, 69 no hub answers.")]
pub(super) struct LoginArgs {
    /// The hub
    #[arg(value_name = "URL", env = "WEIGHBRIDGE_URL")]
    url: HubUrl,
    /// Who you are; with a certificate it says so itself
    #[arg(long, value_name = "NAME", required_unless_present = "certificate")]
    user: Option<String>,
    /// The authority of the hub's certificate (PEM): the site's `pki/authority.crt`
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A file whose first line is the password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A one-time code; asked for when it is not written behind it
    #[arg(long, value_name = "CODE", num_args = 0..=1, default_missing_value = "")]
    code: Option<String>,
    /// Your certificate (PEM), instead of a password
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with_all = ["password_file", "code"])]
    certificate: Option<PathBuf>,
    /// Its key (PKCS#8 PEM, mode 0600); with --user instead of a certificate, a P-256 key that signs a challenge
    #[arg(long, value_name = "FILE", conflicts_with_all = ["password_file", "code"])]
    key: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `weighbridge logout` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge logout                                  where there is one session only
  weighbridge logout https://plant.example:8443

Exit codes: 0 logged out, 1 there is no session.")]
pub(super) struct LogoutArgs {
    /// The hub
    #[arg(value_name = "URL")]
    url: Option<HubUrl>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: LoginArgs) -> anyhow::Result<ExitCode> {
    let file = own_file()?;
    let url = &args.url;
    only_encrypted(url)?;
    let ca = match &args.ca {
        Some(path) => Some(authority(path)?),
        None => file.of(url)?.and_then(|known| known.ca.clone()),
    };
    let pair = args.certificate.clone().zip(args.key.clone());
    let credentials = Credentials {
        token: None,
        ca: ca.clone(),
        pair,
    };
    let body = match (&args.user, &args.certificate, &args.key) {
        (Some(user), None, Some(key)) => signed(url, user, key, &credentials)?,
        _ => wish(&args)?,
    };
    let (status, answer) = http_get::post_with(url, "/api/v1/login", &body, &credentials)?;
    let text = |key: &str| answer.get(key).and_then(Json::as_str).unwrap_or_default();
    if status != 200 {
        let detail = match text("detail") {
            "" => "it is not known why",
            detail => detail,
        };
        bail!("{url} did not let you in ({status}): {detail}");
    }
    let session = KeptSession {
        user: text("user").to_owned(),
        token: text("token").to_owned(),
        expires: text("expires").to_owned(),
        ca,
    };
    if session.token.is_empty() {
        bail!("{url} answered without a token; is it a Weighbridge hub?");
    }
    file.keep(url, session)?;
    let (user, expires) = (text("user"), text("expires"));
    match args.json {
        true => output::print_json(&json!({
            "url": url.to_string(),
            "user": user,
            "roles": answer.get("roles"),
            "method": text("method"),
            "expires": expires,
        }))?,
        false => output::print(&format!(
            "logged in at {url} as {user}, until {expires} at the latest\n"
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Secrets cross no network in plain.
pub(super) fn only_encrypted(url: &HubUrl) -> anyhow::Result<()> {
    let host = url.host().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    if !url.is_tls() && !loopback {
        bail!(
            "{url} is not encrypted, and the password would cross the network for all to read: use https://"
        );
    }
    Ok(())
}

/// What is sent.
fn wish(args: &LoginArgs) -> anyhow::Result<Zeroizing<String>> {
    let user = args.user.as_deref();
    if args.certificate.is_some() {
        let body = json!({ "user": user, "certificate": true, "token": true });
        return Ok(Zeroizing::new(body.to_string()));
    }
    let name = user.unwrap_or_default();
    let password = match &args.password_file {
        Some(file) => first_line(file)?,
        None => typed(&format!("Password of {name}: "))?,
    };
    let code = match (args.code.as_deref(), &args.password_file) {
        (Some(code), _) if !code.is_empty() => Some(code.to_owned()),
        // Who types their password is asked for a code as well, because only the hub knows whether they have one.
        (Some(_), _) | (None, None) => {
            let typed = typed("One-time code (empty if you have none): ")?;
            (!typed.trim().is_empty()).then(|| typed.trim().to_owned())
        }
        (None, Some(_)) => None,
    };
    let body = json!({ "user": name, "password": *password, "code": code, "token": true });
    Ok(Zeroizing::new(body.to_string()))
}

/// The answer to a challenge, signed by the key in `file`.
fn signed(
    url: &HubUrl,
    user: &str,
    file: &Path,
    credentials: &Credentials,
) -> anyhow::Result<Zeroizing<String>> {
    let key = Identity::load(file, user)?;
    if key.suite() != Suite::Nist {
        bail!("{}: users sign by P-256 keys", file.display());
    }
    let asked = json!({ "user": user }).to_string();
    let (status, answer) = http_get::post_with(url, "/api/v1/challenge", &asked, credentials)?;
    let text = |key: &str| answer.get(key).and_then(Json::as_str).unwrap_or_default();
    if status != 200 {
        bail!("{url} gave no challenge ({status}): {}", text("detail"));
    }
    // Whatever is signed here must be good for nothing but this log-in.
    let challenge = Challenge::from_text(text("text"));
    let challenge = challenge.filter(|c| c.subject == format!("user:{user}"));
    let challenge = challenge.with_context(|| {
        format!("{url} wants something signed that is no challenge to {user}; nothing was signed")
    })?;
    let signature = key.sign(&sha256(&[text("text").as_bytes()]));
    let body = json!({
        "user": user,
        "challenge": Hash(challenge.nonce).to_string(),
        "key": HEXLOWER.encode(&key.public_key().0),
        "signature": HEXLOWER.encode(&signature.0),
        "token": true,
    });
    Ok(Zeroizing::new(body.to_string()))
}

fn authority(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path);
    text.with_context(|| format!("the authority in {} cannot be read", path.display()))
}

fn own_file() -> anyhow::Result<SessionFile> {
    SessionFile::own().context("nobody knows where your settings are: set XDG_CONFIG_HOME or HOME")
}

pub(super) fn log_out(args: LogoutArgs) -> anyhow::Result<ExitCode> {
    let file = own_file()?;
    let url = match args.url {
        Some(url) => url,
        None => match &file.hubs()?[..] {
            [] => bail!("you are logged in nowhere"),
            [one] => one.parse().map_err(anyhow::Error::msg)?,
            several => bail!("you are logged in at {}: say where", several.join(", ")),
        },
    };
    let Some(session) = file.forget(&url)? else {
        bail!("you are not logged in at {url}");
    };
    let credentials = Credentials {
        token: Some(Zeroizing::new(session.token.clone())),
        ca: session.ca.clone(),
        pair: None,
    };
    // The token is forgotten here whatever the hub says.
    let told = http_get::post_with(&url, "/api/v1/logout", "{}", &credentials);
    let told = told.is_ok_and(|(status, _)| status == 200);
    match args.json {
        true => output::print_json(&json!({
            "url": url.to_string(),
            "user": session.user,
            "told_the_hub": told,
        }))?,
        false if told => output::print(&format!("logged out: {} at {url}\n", session.user))?,
        false => output::print(&format!(
            "logged out: {} at {url}; the hub did not answer, so there the session ends by itself\n",
            session.user
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}
