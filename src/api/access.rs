//! `/api/v1/access`: who is in and may what, and the changes of it that people here make.

use super::body::{self, Body};
use super::caller::{caller, problem, refused};
use super::problem::Problem;
use super::server::Api;
use crate::access::{
    AccessState, Caller, Change, Denied, Gate, Level, Mode, Pattern, ReadGrant, Reader, Right,
    Rule, Side, Subject,
};
use crate::crypto::SealingPublicKey;
use crate::model::{Nanos, Peer, now, parse_time, rfc3339};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use weighbridge_verifier::{IdentityKind, PublicKey};

/// Where it is.
pub(super) const PATH: &str = "/api/v1/access";
/// Longest body of a request, in bytes.
const MAX_BODY: usize = 64 << 10;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.service(
        web::resource(PATH)
            .app_data(web::PayloadConfig::new(MAX_BODY))
            .route(web::get().to(list))
            .route(web::head().to(list))
            .route(web::post().to(change)),
    );
}

/// What shall change.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Wish {
    Enrol {
        id: String,
        #[serde(default)]
        roles: BTreeSet<String>,
        level: Option<u8>,
        expires: Option<String>,
    },
    Revoke {
        id: String,
    },
    Renew {
        id: String,
        expires: Option<String>,
    },
    Assign {
        id: String,
        roles: BTreeSet<String>,
    },
    Whitelist {
        id: String,
        on: bool,
    },
    Blacklist {
        id: String,
        on: bool,
    },
    EndPermits {
        id: String,
    },
    Define {
        role: String,
        rules: Vec<Rule>,
    },
    Classify {
        object: String,
        level: Option<u8>,
    },
    Bind {
        id: String,
        peer: Peer,
    },
    Unbind {
        id: String,
    },
    Reader {
        id: String,
        /// In PEM form or as 66 hexadecimal digits; none: a reader no more.
        key: Option<String>,
    },
    Grant {
        id: String,
        devices: String,
        from: Option<String>,
        until: Option<String>,
    },
    EndGrant {
        id: String,
        /// All where it is not said.
        devices: Option<String>,
    },
}

impl Wish {
    fn changes(self, state: &AccessState) -> Result<Vec<Change>, Problem> {
        Ok(match self {
            Self::Enrol {
                id,
                roles,
                level,
                expires,
            } => {
                let mut subject = Subject::new(kind(&id)?);
                subject.roles = roles;
                subject.expires = expires.as_deref().map(time).transpose()?;
                if let Some(level) = level {
                    subject.level = Level(level);
                }
                let side = subject.side();
                let white = Change::White(side, id.clone(), true);
                vec![Change::Enrol(id, subject), white]
            }
            Self::Revoke { id } => vec![Change::Revoke(id)],
            Self::Renew { id, expires } => {
                let expires = expires.as_deref().map(time).transpose()?;
                vec![Change::Renew(id, expires)]
            }
            Self::Assign { id, roles } => vec![Change::Assign(id, roles)],
            Self::Whitelist { id, on } => vec![Change::White(side(&id)?, id, on)],
            Self::Blacklist { id, on } => vec![Change::Black(side(&id)?, id, on)],
            Self::EndPermits { id } => {
                let held = Mode::ALL
                    .into_iter()
                    .filter(|m| state.permit(&id, *m).is_some());
                held.map(|mode| Change::Permit(id.clone(), mode, None))
                    .collect()
            }
            Self::Define { role, rules } => vec![Change::Define(role, rules)],
            Self::Classify { object, level } => vec![Change::Classify(object, level.map(Level))],
            Self::Bind { id, peer } => vec![Change::Bind(device(id)?, Some(peer.into()))],
            Self::Unbind { id } => vec![Change::Bind(device(id)?, None)],
            Self::Reader { id, key } => {
                let key = key.as_deref().map(public_key).transpose()?;
                vec![Change::ReaderKey(id, key)]
            }
            Self::Grant {
                id,
                devices,
                from,
                until,
            } => {
                let span = |name, text: Option<String>| {
                    text.as_deref().map(|text| time_of(name, text)).transpose()
                };
                let grant = ReadGrant {
                    devices: pattern(&devices)?,
                    from: span("from", from)?,
                    until: span("until", until)?,
                };
                vec![Change::Grant(id, grant)]
            }
            Self::EndGrant { id, devices } => {
                let all = || {
                    let grants = state.reader(&id).map(|reader| reader.grants.iter());
                    grants.into_iter().flatten().map(|g| g.devices.clone())
                };
                let ended: BTreeSet<Pattern> = match devices {
                    Some(devices) => BTreeSet::from([pattern(&devices)?]),
                    None => all().collect(),
                };
                let ended = ended.into_iter();
                ended.map(|of| Change::EndGrant(id.clone(), of)).collect()
            }
        })
    }
}

fn kind(id: &str) -> Result<IdentityKind, Problem> {
    match id.split_once(':') {
        Some(("user", name)) if !name.is_empty() => Ok(IdentityKind::User),
        Some(("device", name)) if !name.is_empty() => Ok(IdentityKind::Device),
        Some(("edge", name)) if !name.is_empty() => Ok(IdentityKind::Edge),
        Some(("hub", name)) if !name.is_empty() => Ok(IdentityKind::Hub),
        _ => Err(Problem::body(
            "an id is `user:NAME`, `device:ID`, `edge:ID` or `hub:ID`",
        )),
    }
}

fn device(id: String) -> Result<String, Problem> {
    match kind(&id)? {
        IdentityKind::Device => Ok(id),
        _ => Err(Problem::body("only a device is bound: write `device:ID`")),
    }
}

fn side(id: &str) -> Result<Side, Problem> {
    Ok(Subject::new(kind(id)?).side())
}

fn time(text: &str) -> Result<Nanos, Problem> {
    time_of("expires", text)
}

fn time_of(name: &str, text: &str) -> Result<Nanos, Problem> {
    parse_time(text).map_err(|why| Problem::body(format!("`{name}`: {why}")))
}

fn public_key(text: &str) -> Result<PublicKey, Problem> {
    let key = SealingPublicKey::from_text(text).map(|key| key.compressed());
    key.ok_or_else(|| {
        let detail = "`key` is a P-256 or SM2 public key, in PEM form or as 66 hexadecimal digits";
        Problem::body(detail)
    })
}

/// A pattern over devices; `press-*` is `device:press-*`.
fn pattern(text: &str) -> Result<Pattern, Problem> {
    let whole = match text.starts_with("device:") {
        true => text.to_owned(),
        false => format!("device:{text}"),
    };
    Pattern::new(&whole).map_err(|why| Problem::body(format!("`devices`: {why}")))
}

async fn change(
    request: HttpRequest,
    api: web::Data<Api>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let example = r#"{"do": "revoke", "id": "user:anna"}"#;
    let wish: Wish = body::json(&body::whole(body)?, example)?;
    let caller = caller(&request)?;
    let port = &api.context.access;
    let changes = wish.changes(&port.gate().state())?;
    if changes.is_empty() {
        // Nothing to be done takes no right, and the answer shows everything.
        may_list(&api, &caller).await?;
    }
    port.change(&caller, changes).await.map_err(problem)?;
    let mut view = view(port.gate(), &caller.user, now());
    // Who was granted something can read, and who was put out cannot, when this is answered.
    if let Some(readers) = &api.context.readers {
        view["keys_pending"] = readers.settled().await.err().into();
    }
    Ok(HttpResponse::Ok().json(view))
}

/// The rights of which one is needed to see who may what.
const LISTED_FOR: [Right; 5] = [
    Right::Enrol,
    Right::Assign,
    Right::Admit,
    Right::Configure,
    Right::Evidence,
];

/// Whether one of these rights reaches `object`: who has them for some only sees only those.
fn is_shown(gate: &Gate, user: &str, object: &str, time: Nanos) -> bool {
    let mut rights = LISTED_FOR.iter();
    rights.any(|right| gate.reaches(user, *right, object, time))
}

/// Whether a user may know of subject `id`: of themself, and of whom their rights reach.
pub(super) fn knows(gate: &Gate, user: &str, id: &str, time: Nanos) -> bool {
    let named = |side: &str| format!("{side}{id}");
    id.strip_prefix("user:") == Some(user)
        || ["identity:", "list:extranet/", "list:intranet/"]
            .iter()
            .any(|begins| is_shown(gate, user, &named(begins), time))
}

/// Whether somebody may see who may what: for those who administer it, and those who check what was recorded.
async fn may_list(api: &Api, caller: &Caller) -> Result<(), Problem> {
    let gate = api.context.access.gate();
    let may = |right: &Right| gate.somewhere(&caller.user, *right, now());
    if LISTED_FOR.iter().any(may) {
        return Ok(());
    }
    let why = Problem::forbidden(format!(
        "`{}` may not see who may what: that is for security_admin, configure_admin, supervisor \
         and auditor; `roles` in [http] gives the roles of users of this machine",
        caller.user
    ));
    Err(refused(api, caller, "access:", why).await)
}

async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let caller = caller(&request)?;
    may_list(&api, &caller).await?;
    let gate = api.context.access.gate();
    Ok(HttpResponse::Ok().json(view(gate, &caller.user, now())))
}

fn view(gate: &Gate, user: &str, time: Nanos) -> Json {
    let state = &*gate.state();
    let shown = |id: &str| knows(gate, user, id, time);
    let subjects: Vec<Json> = state
        .subjects()
        .iter()
        .filter(|(id, _)| shown(id))
        .map(|(id, subject)| {
            let until = |mode: Mode| {
                let permit = state.permit(id, mode).filter(|p| p.holds(time))?;
                Some((mode.name().to_owned(), rfc3339(permit.until).into()))
            };
            let permits: serde_json::Map<String, Json> =
                Mode::ALL.into_iter().filter_map(until).collect();
            json!({
                "id": id,
                "level": subject.level,
                "roles": subject.roles,
                "expires": subject.expires.map(rfc3339),
                "standing": standing(state.admits(id, time).err()),
                "declared": subject.declared.is_some(),
                "permits": permits,
                "reader": state.reader(id).map(reader),
            })
        })
        .collect();
    let known = |id: &&String| !state.subjects().contains_key(*id);
    let strangers: Vec<&String> = [Side::Intranet, Side::Extranet]
        .into_iter()
        .flat_map(|side| &state.lists(side).black)
        .filter(known)
        .filter(|id| shown(id))
        .collect();
    let roles: Vec<Json> = state
        .rules()
        .iter()
        .filter(|(role, _)| is_shown(gate, user, &format!("role:{role}"), time))
        .map(|(role, rules)| json!({"role": role, "rules": rules}))
        .collect();
    let known = state.bindings().iter().filter(|(id, _)| shown(id));
    let bindings: Vec<Json> = known.map(|(id, b)| named(id, b)).collect();
    let answered = gate.strangers();
    let answered = answered.iter().filter(|(id, _)| shown(id));
    let answered: Vec<Json> = answered.map(|(id, peer)| named(id, peer)).collect();
    let escrow: Vec<Json> = state
        .escrow()
        .map(|(name, key)| json!({"name": name, "key": key}))
        .collect();
    json!({
        "subjects": subjects,
        "blacklisted_strangers": strangers,
        "roles": roles,
        "bindings": bindings,
        "answered_in_place_of": answered,
        "escrow": escrow,
    })
}

/// What is said of a device, with its name.
fn named(id: &str, of: &impl Serialize) -> Json {
    let mut json = json!(of);
    json["id"] = id.into();
    json
}

fn reader(reader: &Reader) -> Json {
    let grants = reader.grants.iter().map(|grant| {
        json!({
            "devices": grant.devices,
            "from": grant.from.map(rfc3339),
            "until": grant.until.map(rfc3339),
        })
    });
    json!({"key": reader.key, "grants": grants.collect::<Vec<_>>()})
}

pub(super) fn standing(denied: Option<Denied>) -> &'static str {
    match denied {
        None => "in",
        Some(Denied::Blacklisted(_)) => "blacklisted",
        Some(Denied::NotListed(_)) => "not whitelisted",
        Some(Denied::Revoked) => "withdrawn",
        Some(Denied::Expired(_)) => "expired",
        Some(denied) => denied.rule(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whose rights reach the people of one organisation is shown nobody and no role of another.
    #[test]
    fn who_sees_some_is_shown_only_those() {
        let mut state = AccessState::default();
        for org in ["acme", "bolt"] {
            let people = [format!("identity:*:{org}-*"), format!("role:{org}-*")];
            let rule = Rule {
                rights: [Right::Enrol, Right::Assign].into(),
                objects: people.iter().map(|p| Pattern::new(p).unwrap()).collect(),
                windows: Vec::new(),
            };
            let mut admin = Subject::new(IdentityKind::User);
            admin.roles = [format!("{org}-admin")].into();
            let (admin_id, press) = (format!("user:{org}-zoe"), format!("device:{org}-press"));
            let stranger = format!("user:{org}-stranger");
            for change in [
                Change::Define(format!("{org}-admin"), vec![rule]),
                Change::Enrol(admin_id.clone(), admin),
                Change::White(Side::Extranet, admin_id, true),
                Change::Enrol(press, Subject::new(IdentityKind::Device)),
                Change::Black(Side::Extranet, stranger, true),
            ] {
                state.apply(change).unwrap();
            }
        }
        let mut root = Subject::new(IdentityKind::User);
        root.roles = ["security_admin".to_owned()].into();
        let id = || "user:root".to_owned();
        state.apply(Change::Enrol(id(), root)).unwrap();
        let listed = Change::White(Side::Extranet, id(), true);
        state.apply(listed).unwrap();
        let gate = Gate::new("h", state);
        for (org, other) in [("acme", "bolt"), ("bolt", "acme")] {
            let shown = view(&gate, &format!("{org}-zoe"), 5);
            assert_eq!(shown["subjects"].as_array().unwrap().len(), 2);
            assert_eq!(shown["roles"].as_array().unwrap().len(), 1);
            let shown = shown.to_string();
            assert!(shown.contains(&format!("{org}-stranger")), "{shown}");
            assert!(!shown.contains(other), "{shown}");
        }
        let all = view(&gate, "root", 5);
        assert_eq!(all["subjects"].as_array().unwrap().len(), 5);
        assert_eq!(all["blacklisted_strangers"].as_array().unwrap().len(), 2);
        // Whom nothing reaches, themself.
        let none = view(&gate, "nobody", 5);
        assert_eq!(none["subjects"], json!([]));
    }
}
