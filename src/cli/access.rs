//! `weighbridge access`: who is in and may what, and changes of it.

mod bindings;

use super::http_get::{HubUrl, get_json, post_json};
use super::output::{self, Align, Style, cell};
use crate::crypto::SealingPublicKey;
use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `weighbridge access` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge access                                    who is in, at the hub of this machine
  weighbridge access enrol user:anna --role operator
  weighbridge access assign user:anna operator auditor
  weighbridge access blacklist device:press-1           cut off at once
  weighbridge access allow device:press-1               and let in again
  weighbridge access revoke user:anna
  weighbridge access role night-shift rules.json        give a role rules of its own
  weighbridge access reader user:anna anna.pub.pem      her public key, as `reader keygen` made it
  weighbridge access grant user:anna 'press-*'          she opens what is recorded of them with her own key
  weighbridge access end-grant user:anna                and no more
  weighbridge access bindings                           what the devices are known by
  weighbridge access bind press-1                       the machine that answers now is press-1

Every change is a record before it is in force. Whoever asks here is the user `local`, with the roles that
`roles` in [http] gives: changing takes \"security_admin\" (who is in) or \"configure_admin\" (roles and levels).
Exit codes: 0 listed or done, 1 refused, 69 no hub answers.")]
pub(super) struct AccessArgs {
    /// A running hub
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "WEIGHBRIDGE_URL",
        global = true
    )]
    url: HubUrl,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Let somebody in
    Enrol {
        /// user:NAME, device:ID, edge:ID or hub:ID
        id: String,
        /// A role; may be given several times
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// How trusted they are; 1 for users and 2 for machines when not given
        #[arg(long, value_name = "N")]
        level: Option<u8>,
        /// Until when, for example 2027-01-31T00:00:00Z
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// Withdraw somebody: they are nobody from now on
    Revoke {
        /// Whom
        id: String,
    },
    /// Have somebody expire at another time, or never
    Renew {
        /// Whom
        id: String,
        /// Until when; for ever when not given
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// Give somebody these roles instead of those they have
    Assign {
        /// Whom
        id: String,
        /// The roles
        roles: Vec<String>,
    },
    /// Put somebody on the whitelist of their side
    Whitelist(Listed),
    /// Put somebody on the blacklist of their side
    Blacklist(Listed),
    /// Let somebody in again who was cut off: takes them off the blacklist
    Allow {
        /// Whom
        id: String,
    },
    /// End somebody's permits, so that admission is repeated
    EndPermits {
        /// Whose
        id: String,
    },
    /// What the devices are known by, and who answers in their place
    Bindings,
    /// Accept who answers in the place of a device: it was replaced, or has moved
    Bind {
        /// The device
        device: String,
    },
    /// Forget what a device is known by: who answers next is the device
    Unbind {
        /// The device
        device: String,
    },
    /// Give a role rules, or make it
    Role {
        /// The role
        role: String,
        /// JSON: [{\"rights\": [\"live\"], \"objects\": [\"device:press-*/**\"], \"windows\": []}]; without it the
        /// role is no more
        rules: Option<PathBuf>,
    },
    /// Give a thing a level of its own
    Level {
        /// For example device:vault
        object: String,
        /// The level; that of its kind when not given
        level: Option<u8>,
    },
    /// Enrol the public key that keys are wrapped to for somebody
    Reader {
        /// user:NAME
        id: String,
        /// Their public key: PEM, or 66 hexadecimal digits
        #[arg(value_name = "FILE", required_unless_present = "off")]
        key: Option<PathBuf>,
        /// They are no reader any more: their grants end
        #[arg(long, conflicts_with = "key")]
        off: bool,
    },
    /// Let a reader open what is recorded of some devices with their own key
    Grant {
        /// user:NAME
        id: String,
        /// Which devices, for example 'press-*'
        #[arg(value_name = "DEVICE-PATTERN")]
        devices: String,
        /// From this source time on; from the beginning when not given
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Up to this source time; for ever when not given
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
    },
    /// End grants to a reader: wraps are overwritten, and the devices get new keys at once
    EndGrant {
        /// user:NAME
        id: String,
        /// Over which devices, as it was granted; all when not given
        #[arg(value_name = "DEVICE-PATTERN")]
        devices: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Listed {
    /// Whom
    id: String,
    /// Take them off instead
    #[arg(long)]
    off: bool,
}

pub(super) fn run(args: AccessArgs) -> anyhow::Result<ExitCode> {
    const PATH: &str = "/api/v1/access";
    let answer = match &args.act {
        None | Some(Act::Bindings) => get_json(&args.url, PATH, &[])?,
        Some(Act::Bind { device }) => {
            let seen = get_json(&args.url, PATH, &[])?;
            let wish = bindings::accept(&seen, device)?;
            post_json(&args.url, PATH, &wish)?
        }
        Some(act) => post_json(&args.url, PATH, &wish(act)?)?,
    };
    match args.json {
        true => output::print_json(&answer)?,
        false => {
            let text = match args.act {
                Some(Act::Bindings | Act::Bind { .. } | Act::Unbind { .. }) => bindings::text,
                _ => text,
            };
            output::print(&text(&answer, Style::stdout()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn wish(act: &Act) -> anyhow::Result<Json> {
    Ok(match act {
        Act::Enrol {
            id,
            roles,
            level,
            expires,
        } => {
            json!({"do": "enrol", "id": id, "roles": roles, "level": level, "expires": expires})
        }
        Act::Revoke { id } => json!({"do": "revoke", "id": id}),
        Act::Renew { id, expires } => json!({"do": "renew", "id": id, "expires": expires}),
        Act::Assign { id, roles } => json!({"do": "assign", "id": id, "roles": roles}),
        Act::Whitelist(of) => json!({"do": "whitelist", "id": of.id, "on": !of.off}),
        Act::Blacklist(of) => json!({"do": "blacklist", "id": of.id, "on": !of.off}),
        Act::Allow { id } => json!({"do": "blacklist", "id": id, "on": false}),
        Act::EndPermits { id } => json!({"do": "end_permits", "id": id}),
        Act::Unbind { device } => json!({"do": "unbind", "id": bindings::id(device)}),
        Act::Bindings | Act::Bind { .. } => anyhow::bail!("this asks for what there is first"),
        Act::Role { role, rules } => {
            let rules: Json = match rules {
                Some(file) => rules_of(file)?,
                None => json!([]),
            };
            json!({"do": "define", "role": role, "rules": rules})
        }
        Act::Level { object, level } => {
            json!({"do": "classify", "object": object, "level": level})
        }
        Act::Reader { id, key, .. } => {
            let key = key.as_deref().map(SealingPublicKey::load).transpose()?;
            let key = key.map(|key| key.compressed());
            json!({"do": "reader", "id": id, "key": key})
        }
        Act::Grant {
            id,
            devices,
            from,
            until,
        } => {
            json!({"do": "grant", "id": id, "devices": devices, "from": from, "until": until})
        }
        Act::EndGrant { id, devices } => {
            json!({"do": "end_grant", "id": id, "devices": devices})
        }
    })
}

fn rules_of(file: &Path) -> anyhow::Result<Json> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("the rules cannot be read: {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))
}

fn text(answer: &Json, style: Style) -> String {
    let headings = [
        ("who", Align::Left),
        ("standing", Align::Left),
        ("level", Align::Right),
        ("roles", Align::Left),
        ("expires", Align::Left),
        ("permits", Align::Left),
    ];
    let row = |subject: &Json| {
        let roles = subject.get("roles").and_then(Json::as_array);
        let roles = roles.into_iter().flatten().filter_map(Json::as_str);
        let permits = subject.get("permits").and_then(Json::as_object);
        let permits = permits.into_iter().flatten().map(|(mode, until)| {
            let until = until.as_str().unwrap_or_default();
            format!("{mode} until {}", until.get(..16).unwrap_or(until))
        });
        let standing = cell(subject, "/standing");
        vec![
            cell(subject, "/id"),
            match standing.as_str() {
                "in" => style.green(&standing),
                _ => style.red(&standing),
            },
            cell(subject, "/level"),
            roles.collect::<Vec<_>>().join(", "),
            cell(subject, "/expires"),
            permits.collect::<Vec<_>>().join(", "),
        ]
    };
    let subjects = answer.get("subjects").and_then(Json::as_array);
    let rows: Vec<_> = subjects.into_iter().flatten().map(row).collect();
    let mut text = output::table(style, &headings, &rows);
    let strangers = answer.get("blacklisted_strangers").and_then(Json::as_array);
    for stranger in strangers.into_iter().flatten().filter_map(Json::as_str) {
        text.push_str(&format!(
            "{stranger} is blacklisted, and was never enrolled\n"
        ));
    }
    let subjects = answer.get("subjects").and_then(Json::as_array);
    for subject in subjects.into_iter().flatten() {
        text.push_str(&reader(subject));
    }
    let escrow = answer.get("escrow").and_then(Json::as_array);
    for key in escrow.into_iter().flatten() {
        text.push_str(&format!(
            "every key is wrapped to {} as well\n",
            cell(key, "/name")
        ));
    }
    if let Some(pending) = answer.get("keys_pending").and_then(Json::as_str) {
        text.push_str(&format!("{} {pending}\n", style.yellow("!")));
    }
    text
}

/// What somebody opens with a key of their own, a line each.
fn reader(subject: &Json) -> String {
    let grants = subject.pointer("/reader/grants").and_then(Json::as_array);
    let line = |grant: &Json| {
        let end = |at: &str, word: &str| match cell(grant, at) {
            time if time.is_empty() => String::new(),
            time => format!(" {word} {time}"),
        };
        let (from, until) = (end("/from", "from"), end("/until", "until"));
        let (id, devices) = (cell(subject, "/id"), cell(grant, "/devices"));
        format!("{id} opens what is recorded of {devices}{from}{until} with their own key\n")
    };
    grants.into_iter().flatten().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_is_in_as_what_and_until_when() {
        let answer = json!({
            "subjects": [
                {"id": "user:anna", "standing": "in", "level": 1, "roles": ["auditor", "operator"], "expires": null,
                 "permits": {"read": "2026-11-22T20:05:18.123Z"}},
                {"id": "device:press-1", "standing": "blacklisted", "level": 2, "roles": [], "permits": {}},
            ],
            "blacklisted_strangers": ["user:mallory"],
        });
        let text = text(&answer, Style { colour: false });
        let anna = text.lines().nth(1).unwrap();
        assert!(anna.contains("auditor, operator"), "{anna}");
        assert!(anna.contains("read until 2026-11-22T20:05"), "{anna}");
        assert!(text.lines().nth(2).unwrap().contains("blacklisted"));
        assert!(text.ends_with("user:mallory is blacklisted, and was never enrolled\n"));
    }
}
