//! `weighbridge user --url`: users of a running hub, by its API. Each change is a record before it is in force, and
//! needs the rights of whoever is logged in.

use super::key::What;
use super::{Act, Done, PasswordArgs};
use crate::cli::http_get::{self, Credentials, HubUrl, get_json, post_json};
use crate::cli::login::only_encrypted;
use crate::cli::output::{self, Align, Style, cell};
use crate::cli::qr;
use crate::cli::secret_input::{first_line, typed, typed_twice};
use crate::crypto::TotpHash;
use crate::store::site_certificates;
use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value as Json, json};
use std::path::Path;
use zeroize::Zeroizing;

const USERS: &str = "/api/v1/users";
/// What a link to an invitation has before it.
const LINK: &str = "#invitation=";

/// Who is to be a user of a running hub.
#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// A role, at a running hub; may be given several times
    #[arg(long = "role", value_name = "ROLE", requires = "url")]
    roles: Vec<String>,
    /// Until when, at a running hub, for example 2027-01-31T00:00:00Z
    #[arg(long, value_name = "TIME", requires = "url")]
    expires: Option<String>,
    /// Without one-time codes, at a running hub
    #[arg(long, requires = "url")]
    no_codes: bool,
}

#[derive(Debug, Args)]
pub(super) struct InviteArgs {
    /// Whom
    name: String,
    /// Have them set up one-time codes as well
    #[arg(long)]
    codes: bool,
}

#[derive(Debug, Args)]
pub(super) struct AcceptArgs {
    /// The invitation, or the link to it
    invitation: String,
    #[command(flatten)]
    password: PasswordArgs,
    /// The first code of the new ones; asked for when they are wanted and it is not said
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ReissueArgs {
    /// Whose
    name: String,
    #[command(flatten)]
    new: NewArgs,
}

#[derive(Debug, Args)]
pub(super) struct ExpireArgs {
    /// Who
    name: String,
    /// From when on they are nobody; never when not given
    #[arg(value_name = "TIME")]
    expires: Option<String>,
}

/// Does `act` at the hub.
pub(super) fn run(url: &HubUrl, act: Act, json: bool) -> anyhow::Result<Done> {
    only_encrypted(url)?;
    match act {
        Act::Add {
            name,
            new,
            password,
            no_password,
        } => {
            if password.password_file.is_some() || no_password {
                bail!("at a running hub users choose their password themselves: they are invited");
            }
            let mut body = wish("add", &name, &new);
            body["roles"] = json!(new.roles);
            invited(url, &body)
        }
        Act::Invite(InviteArgs { name, codes }) => {
            invited(url, &json!({"do": "invite", "user": name, "codes": codes}))
        }
        Act::Reissue(ReissueArgs { name, new }) => invited(url, &wish("reissue", &name, &new)),
        Act::Accept(args) => accept(url, &args),
        Act::Passwd {
            name, remove: true, ..
        } => changed(url, &json!({"do": "remove_password", "user": name})),
        Act::Passwd { name, password, .. } => own_password(url, &name, &password),
        Act::Totp(args) if args.remove => {
            changed(url, &json!({"do": "remove_codes", "user": args.name}))
        }
        Act::Totp(args) => own_codes(url, &args, json),
        Act::Key(args) => {
            let body = match &args.what {
                What { add: Some(key), .. } => {
                    let key = match key.len() == 66 && key.bytes().all(|b| b.is_ascii_hexdigit()) {
                        true => key.clone(),
                        false => certificate(Path::new(key))?,
                    };
                    json!({"do": "key", "user": args.name, "key": key})
                }
                What {
                    pin: Some(file), ..
                } => {
                    let certificate = certificate(file)?;
                    json!({"do": "pin", "user": args.name, "certificate": certificate})
                }
                What { forget, .. } => json!({"do": "forget", "user": args.name, "hash": forget}),
            };
            changed(url, &body)
        }
        Act::Expire(ExpireArgs { name, expires }) => changed(
            url,
            &json!({"do": "expire", "user": name, "expires": expires}),
        ),
        Act::Remove { name } => changed(url, &json!({"do": "revoke", "user": name})),
        Act::List => list(url),
        Act::Adopt => bail!("`adopt` changes files: run it beside the configuration"),
    }
}

fn wish(act: &str, name: &str, new: &NewArgs) -> Json {
    let roles = (!new.roles.is_empty()).then_some(&new.roles);
    json!({
        "do": act,
        "user": name,
        "roles": roles,
        "expires": new.expires,
        "codes": !new.no_codes,
    })
}

fn certificate(file: &Path) -> anyhow::Result<String> {
    let found = site_certificates::read(file)?;
    let first = found.first().context("there is no certificate in it")?;
    Ok(first.to_pem())
}

fn changed(url: &HubUrl, body: &Json) -> anyhow::Result<Done> {
    let answer = post_json(url, USERS, body)?;
    let text = format!("{}: {}\n", cell(&answer, "/user"), cell(&answer, "/done"));
    Ok(Done { json: answer, text })
}

fn invited(url: &HubUrl, body: &Json) -> anyhow::Result<Done> {
    let answer = post_json(url, USERS, body)?;
    let (user, done) = (cell(&answer, "/user"), cell(&answer, "/done"));
    let (invitation, until) = (cell(&answer, "/invitation"), cell(&answer, "/until"));
    let text = format!(
        "{user}: {done}\n\nGive this to {user} alone; it is good once, until {until}:\n  {url}/{LINK}{invitation}\n\
         or, on the command line:\n  weighbridge user accept {invitation} --url {url}\n"
    );
    Ok(Done { json: answer, text })
}

/// As whoever is not logged in: the invitation says who they are.
fn unknown(url: &HubUrl) -> anyhow::Result<Credentials> {
    Ok(Credentials {
        token: None,
        ..Credentials::kept(url)?
    })
}

fn accept(url: &HubUrl, args: &AcceptArgs) -> anyhow::Result<Done> {
    const PATH: &str = "/api/v1/invitation";
    let given = args.invitation.split_once(LINK);
    let invitation = given.map_or(args.invitation.as_str(), |(_, invitation)| invitation);
    let credentials = unknown(url)?;
    let ask = |body: &Json| -> anyhow::Result<Json> {
        let body = Zeroizing::new(body.to_string());
        let (status, answer) = http_get::post_with(url, PATH, &body, &credentials)?;
        match status {
            200 => Ok(answer),
            _ => bail!("{url} answered {status}: {}", cell(&answer, "/detail")),
        }
    };
    let welcome = ask(&json!({ "invitation": invitation }))?;
    let user = cell(&welcome, "/user");
    let code = match (welcome.get("codes"), &args.code) {
        (None, _) => None,
        (Some(_), Some(code)) => Some(code.clone()),
        (Some(codes), None) => Some(first_code(codes)?),
    };
    let password = new_password(&user, &args.password)?;
    let body = json!({"invitation": invitation, "password": *password, "code": code});
    let answer = ask(&body)?;
    let text = format!(
        "{user}: this is your password from now on\n\nNext:\n  weighbridge login {url} --user {user}\n"
    );
    Ok(Done { json: answer, text })
}

fn new_password(user: &str, args: &PasswordArgs) -> anyhow::Result<Zeroizing<String>> {
    match &args.password_file {
        Some(file) => first_line(file),
        None => typed_twice(user),
    }
}

/// Shows new codes, and asks for the first.
fn first_code(codes: &Json) -> anyhow::Result<String> {
    let uri = Zeroizing::new(cell(codes, "/uri"));
    let secret = Zeroizing::new(cell(codes, "/secret"));
    output::print(&format!(
        "{}\nScan it with an authenticator app, or type {}\nWhoever sees it can make the codes: clear the screen afterwards.\n\n",
        qr::terminal(&uri, Style::stdout())?,
        *secret,
    ))?;
    Ok(typed("The code that the app shows now: ")?
        .trim()
        .to_owned())
}

/// Whoever is logged in, who must be `name`.
fn own(url: &HubUrl, name: &str) -> anyhow::Result<()> {
    let session = get_json(url, "/api/v1/session", &[])?;
    match session.get("user").and_then(Json::as_str) {
        Some(user) if user == name => Ok(()),
        Some(user) => bail!(
            "you are {user}: {name} does this themselves. `weighbridge user invite {name} --url {url}` lets them choose \
             a password, with --codes one-time codes as well"
        ),
        None => bail!("log in first: `weighbridge login {url} --user {name}`"),
    }
}

/// The password of somebody who is logged in, once more, and the code of those who have one.
fn proof(name: &str) -> anyhow::Result<(Zeroizing<String>, Option<String>)> {
    let password = typed(&format!("Password of {name}, the one you have: "))?;
    let code = typed("One-time code (empty if you have none): ")?;
    let code = (!code.trim().is_empty()).then(|| code.trim().to_owned());
    Ok((password, code))
}

fn own_password(url: &HubUrl, name: &str, new: &PasswordArgs) -> anyhow::Result<Done> {
    own(url, name)?;
    let (password, code) = proof(name)?;
    let new = new_password(name, new)?;
    let body = json!({"password": *password, "code": code, "new": *new});
    let answer = post_json(url, "/api/v1/own/password", &body)?;
    let text = format!("{name} has a new password; other sessions at this face are over\n");
    Ok(Done { json: answer, text })
}

fn own_codes(url: &HubUrl, args: &super::totp::TotpArgs, json: bool) -> anyhow::Result<Done> {
    const PATH: &str = "/api/v1/own/codes";
    let name = &args.name;
    if json {
        bail!("the first code is asked for: without --json");
    }
    own(url, name)?;
    let (password, code) = proof(name)?;
    let hash = match args.sha256 {
        true => TotpHash::Sha256,
        false => TotpHash::Sha1,
    };
    let body = json!({"password": *password, "code": code, "hash": hash});
    let codes = post_json(url, PATH, &body)?;
    let code = first_code(&codes)?;
    let answer = post_json(url, PATH, &json!({ "confirm": code }))?;
    let text = format!("{name} is asked for a code from now on\n");
    Ok(Done { json: answer, text })
}

fn list(url: &HubUrl) -> anyhow::Result<Done> {
    let answer = get_json(url, USERS, &[])?;
    let headings = [
        "user",
        "standing",
        "roles",
        "password",
        "codes",
        "keys",
        "certificates",
        "expires",
        "invited until",
    ];
    let headings = headings.map(|heading| (heading, Align::Left));
    let users = answer.get("users").and_then(Json::as_array);
    let row = |user: &Json| {
        let count = |key: &str| {
            let list = user.get(key).and_then(Json::as_array);
            list.map_or(0, Vec::len).to_string()
        };
        let roles = user.get("roles").and_then(Json::as_array);
        let roles = roles.into_iter().flatten().filter_map(Json::as_str);
        let password = user.get("password").and_then(Json::as_bool);
        vec![
            cell(user, "/name"),
            cell(user, "/standing"),
            roles.collect::<Vec<_>>().join(", "),
            if password == Some(true) { "yes" } else { "no" }.to_owned(),
            cell(user, "/codes"),
            count("keys"),
            count("certificates"),
            cell(user, "/expires"),
            cell(user, "/invited_until"),
        ]
    };
    let rows: Vec<_> = users.into_iter().flatten().map(row).collect();
    let text = output::table(Style::stdout(), &headings, &rows);
    Ok(Done { json: answer, text })
}
