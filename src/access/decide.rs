//! The decision.

use super::level::{Level, Mode};
use super::lists::Side;
use super::permit::Permit;
use super::role::Right;
use super::rules::Reach;
use super::state::{AccessState, Subject};
use crate::model::{Nanos, rfc3339};
use std::fmt;
use weighbridge_verifier::IdentityKind;

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Who, for example `user:ann`.
    pub subject: &'a str,
    /// What.
    pub right: Right,
    /// On what, for example `device:press-1/force`.
    pub object: &'a str,
    /// When: the time of the record that is made of it.
    pub time: Nanos,
}

/// A request that may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Under which permit; `None` for a hub, which gives them.
    pub permit: Option<Permit>,
}

/// Both halves of a request that crosses levels: two records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The user's half, on their own level.
    pub user: Granted,
    /// The hub's half, on the machine's level.
    pub hub: Granted,
}

/// The rule that denied a request. It is for the log and the record; who asked is told only that
/// they may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Nobody of this name was ever enrolled.
    Unknown,
    /// On the blacklist of that side.
    Blacklisted(Side),
    /// Not on the whitelist of that side.
    NotListed(Side),
    /// Was withdrawn.
    Revoked,
    /// Since then.
    Expired(Nanos),
    /// The levels forbid it.
    Level {
        /// Of who asks.
        subject: Level,
        /// What.
        mode: Mode,
        /// Of what it is asked for.
        object: Level,
    },
    /// No role carries the right.
    Right(Right),
    /// A role does, but not on this object.
    Object(Right),
    /// A role does, but not at this time.
    Window(Right),
    /// There is no permit.
    NoPermit(Mode),
    /// There is one, which holds from then on.
    TooEarly(Mode, Nanos),
    /// There was one, until then.
    PermitExpired(Mode, Nanos),
    /// No grant over this.
    NoGrant,
    /// No key that it could be encrypted to.
    NoKey,
    /// Nobody showed a one-time code or a key for this session.
    NoCode,
    /// Something about it is on record and cannot be read here yet: the entry of this name.
    Unread(String),
    /// The hub itself may not.
    Hub(Box<Denied>),
}

impl Denied {
    /// A short name of the rule, for records and sums.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Blacklisted(_) => "blacklist",
            Self::NotListed(_) => "whitelist",
            Self::Revoked => "revoked",
            Self::Expired(_) => "expired",
            Self::Level { .. } => "level",
            Self::Right(_) => "role",
            Self::Object(_) => "object",
            Self::Window(_) => "window",
            Self::NoPermit(_) | Self::TooEarly(..) | Self::PermitExpired(..) => "permit",
            Self::NoGrant => "grant",
            Self::NoKey => "key",
            Self::NoCode => "code",
            Self::Unread(_) => "unread",
            Self::Hub(_) => "hub",
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("nobody of this name is enrolled"),
            Self::Blacklisted(side) => write!(f, "on the blacklist of the {}", side.name()),
            Self::NotListed(side) => write!(f, "not on the whitelist of the {}", side.name()),
            Self::Revoked => f.write_str("withdrawn"),
            Self::Expired(at) => write!(f, "expired at {}", rfc3339(*at)),
            Self::Level {
                subject,
                mode,
                object,
            } => write!(
                f,
                "level {} may not {} on level {}",
                subject.0,
                mode.name(),
                object.0
            ),
            Self::Right(right) => write!(f, "no role carries the right {}", right.name()),
            Self::Object(right) => {
                write!(f, "no role carries the right {} on this", right.name())
            }
            Self::Window(right) => {
                write!(f, "no role carries the right {} at this time", right.name())
            }
            Self::NoPermit(mode) => write!(f, "no permit to {}", mode.name()),
            Self::TooEarly(mode, at) => {
                write!(
                    f,
                    "the permit to {} holds from {}",
                    mode.name(),
                    rfc3339(*at)
                )
            }
            Self::PermitExpired(mode, at) => {
                write!(f, "the permit to {} ended at {}", mode.name(), rfc3339(*at))
            }
            Self::NoGrant => f.write_str("no grant over this"),
            Self::NoKey => f.write_str("no public key of theirs is enrolled"),
            Self::NoCode => f.write_str("neither a one-time code nor a key was shown at log-in"),
            Self::Unread(name) => {
                write!(f, "what is on record as {name} cannot be read here yet")
            }
            Self::Hub(denied) => write!(f, "the hub itself may not: {denied}"),
        }
    }
}

/// Whether a request may be, and if not, by which rule. Pure: the same everywhere, for ever.
pub fn decide(state: &AccessState, request: &Request<'_>) -> Result<Granted, Denied> {
    let subject = admitted(state, request.subject, request.time)?;
    state.is_level_read(request.object)?;
    check_levels(
        subject.level,
        request.right.mode(),
        state.level(request.object),
    )?;
    check_roles(state, subject, request)?;
    permitted(state, subject, request)
}

/// Whether a user may reach what lies on another level by way of `hub`. They act by request: they
/// store it on their own level, and the hub controls the machine. They see by release: the hub reads,
/// and makes a copy on their level, for them alone. The half on one's own level is always theirs, so
/// levels have a say in the hub's half only.
pub fn decide_passage(
    state: &AccessState,
    request: &Request<'_>,
    hub: &str,
) -> Result<Passage, Denied> {
    let subject = admitted(state, request.subject, request.time)?;
    check_roles(state, subject, request)?;
    let user = permitted(state, subject, request)?;
    let of_hub = Request {
        subject: hub,
        ..*request
    };
    let hub = decide(state, &of_hub).map_err(|denied| Denied::Hub(Box::new(denied)))?;
    Ok(Passage { user, hub })
}

/// Until when a user may use `right` on everything by way of `hub`, if now they may: who looks often need
/// not ask for each thing that they look at.
pub(super) fn all_until(
    state: &AccessState,
    (user, right): (&str, Right),
    hub: &str,
    time: Nanos,
) -> Option<Nanos> {
    let of = |id| admitted(state, id, time).ok();
    let (subject, hub) = (of(user)?, of(hub)?);
    let highest = state.levels.values().copied().chain([Level::HIGH]).max()?;
    if state.hides_a_level()
        || !hub.level.may(right.mode(), highest)
        || !state.rules.reach_all(&subject.roles, right)
    {
        return None;
    }
    let permit = state.permit(user, right.mode())?;
    let ends = [subject.expires, hub.expires].into_iter().flatten();
    let until = ends.fold(permit.until, Nanos::min);
    permit.holds(time).then_some(until)
}

/// Whether a user has `right` on anything at all, now or at another time of the day: what they are shown
/// of it need not be hidden.
pub(super) fn somewhere(state: &AccessState, (user, right): (&str, Right), time: Nanos) -> bool {
    admitted(state, user, time).is_ok_and(|subject| {
        let reach = state.rules.reach(&subject.roles, right, "", time);
        reach > Reach::Nothing
    })
}

/// Whether the roles of a user carry `right` to `object`, now or at another time of the day: what they are shown of it
/// need not be hidden. Levels and permits say nothing of who knows whom.
pub(super) fn reaches(
    state: &AccessState,
    (user, right): (&str, Right),
    object: &str,
    time: Nanos,
) -> bool {
    admitted(state, user, time).is_ok_and(|subject| {
        let reach = state.rules.reach(&subject.roles, right, object, time);
        reach >= Reach::Object
    })
}

impl AccessState {
    /// Whether somebody is let in at all: lists and identity.
    ///
    /// # Errors
    /// By which rule not.
    pub fn admits(&self, id: &str, time: Nanos) -> Result<&Subject, Denied> {
        admitted(self, id, time)
    }
}

/// Lists and identity. The blacklist is looked at first, so that a name on it costs nothing more.
fn admitted<'a>(state: &'a AccessState, id: &str, time: Nanos) -> Result<&'a Subject, Denied> {
    let subject = state.subjects.get(id);
    let side = subject.map_or(Side::Extranet, Subject::side);
    let lists = state.lists(side);
    if lists.black.contains(id) {
        return Err(Denied::Blacklisted(side));
    }
    state.is_read(id, subject)?;
    let subject = subject.ok_or(Denied::Unknown)?;
    if !lists.white.contains(id) {
        return Err(Denied::NotListed(side));
    }
    if subject.revoked {
        return Err(Denied::Revoked);
    }
    match subject.expires {
        Some(at) if time >= at => Err(Denied::Expired(at)),
        _ => Ok(subject),
    }
}

fn check_levels(subject: Level, mode: Mode, object: Level) -> Result<(), Denied> {
    match subject.may(mode, object) {
        true => Ok(()),
        false => Err(Denied::Level {
            subject,
            mode,
            object,
        }),
    }
}

fn check_roles(
    state: &AccessState,
    subject: &Subject,
    request: &Request<'_>,
) -> Result<(), Denied> {
    let own = || {
        let rest = request.object.strip_prefix(request.subject);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match subject.kind {
        // What a hub may is said by levels and lists: it acts for those who have roles.
        IdentityKind::Hub => return Ok(()),
        // A device needs no role to put its own samples into the record.
        IdentityKind::Device if request.right == Right::Store && own() => return Ok(()),
        _ => {}
    }
    let (roles, right) = (&subject.roles, request.right);
    match state
        .rules
        .reach(roles, right, request.object, request.time)
    {
        Reach::Through => Ok(()),
        Reach::Object => Err(Denied::Window(right)),
        Reach::Right => Err(Denied::Object(right)),
        Reach::Nothing => Err(Denied::Right(right)),
    }
}

fn permitted(
    state: &AccessState,
    subject: &Subject,
    request: &Request<'_>,
) -> Result<Granted, Denied> {
    if subject.kind == IdentityKind::Hub {
        return Ok(Granted { permit: None });
    }
    let mode = request.right.mode();
    match state.permit(request.subject, mode) {
        None => Err(Denied::NoPermit(mode)),
        Some(permit) if request.time < permit.from => Err(Denied::TooEarly(mode, permit.from)),
        Some(permit) if !permit.holds(request.time) => {
            Err(Denied::PermitExpired(mode, permit.until))
        }
        Some(permit) => Ok(Granted {
            permit: Some(*permit),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Change, Rule, Window};
    use std::collections::BTreeSet;

    const NOON: Nanos = 1_794_830_400_000_000_000;

    /// A hub, a press, and Ann, an operator of presses.
    fn site() -> AccessState {
        let mut state = AccessState::default();
        let press = ["device:press-*/**"].map(|p| super::super::Pattern::new(p).unwrap());
        let rule = Rule {
            rights: BTreeSet::from([Right::Live, Right::Write]),
            objects: press.to_vec(),
            windows: vec![Window::new([true; 7], 6 * 60, 22 * 60, 0).unwrap()],
        };
        let mut ann = Subject::new(IdentityKind::User);
        ann.roles.insert("presses".into());
        let always = Permit {
            from: 0,
            until: Nanos::MAX,
        };
        let mut apply = |change| state.apply(change).unwrap();
        apply(Change::Define("presses".into(), vec![rule]));
        for (id, subject, side) in [
            ("user:ann", ann, Side::Extranet),
            ("hub:h", Subject::new(IdentityKind::Hub), Side::Intranet),
            (
                "device:press-1",
                Subject::new(IdentityKind::Device),
                Side::Intranet,
            ),
        ] {
            apply(Change::Enrol(id.into(), subject));
            apply(Change::White(side, id.into(), true));
            for mode in Mode::ALL {
                apply(Change::Permit(id.into(), mode, Some(always)));
            }
        }
        state
    }

    fn wants<'a>(subject: &'a str, right: Right, object: &'a str) -> Request<'a> {
        Request {
            subject,
            right,
            object,
            time: NOON,
        }
    }

    #[test]
    fn people_reach_machines_by_way_of_a_hub_only() {
        let state = site();
        let write = wants("user:ann", Right::Write, "device:press-1/force");
        let denied = decide(&state, &write).unwrap_err();
        assert_eq!(denied.rule(), "level");
        assert_eq!(denied.to_string(), "level 1 may not control on level 2");
        let passage = decide_passage(&state, &write, "hub:h").unwrap();
        assert!(passage.user.permit.is_some() && passage.hub.permit.is_none());
        let look = wants("user:ann", Right::Live, "device:press-1/force");
        decide_passage(&state, &look, "hub:h").unwrap();
    }

    #[test]
    fn each_rule_denies_by_itself() {
        let ann = || "user:ann".to_owned();
        let force = wants("user:ann", Right::Write, "device:press-1/force");
        let later = Permit {
            from: NOON + 1,
            until: NOON + 2,
        };
        let past = Permit {
            from: 0,
            until: NOON,
        };
        let table = [
            (Change::Black(Side::Extranet, ann(), true), "blacklist"),
            (Change::White(Side::Extranet, ann(), false), "whitelist"),
            (Change::Revoke(ann()), "revoked"),
            (Change::Renew(ann(), Some(NOON)), "expired"),
            (Change::Assign(ann(), BTreeSet::new()), "role"),
            (Change::Permit(ann(), Mode::Control, None), "permit"),
            (Change::Permit(ann(), Mode::Control, Some(later)), "permit"),
            (Change::Permit(ann(), Mode::Control, Some(past)), "permit"),
            (Change::Black(Side::Intranet, "hub:h".into(), true), "hub"),
            (
                Change::Classify("device:press-1".into(), Some(Level(9))),
                "hub",
            ),
        ];
        for (change, rule) in table {
            let mut state = site();
            decide_passage(&state, &force, "hub:h").unwrap();
            state.apply(change.clone()).unwrap();
            let denied = decide_passage(&state, &force, "hub:h").unwrap_err();
            assert_eq!(denied.rule(), rule, "{change:?}: {denied}");
        }
        let state = site();
        let elsewhere = wants("user:ann", Right::Write, "device:robot-1/speed");
        let denied = decide_passage(&state, &elsewhere, "hub:h").unwrap_err();
        assert_eq!(denied.rule(), "object");
        let night = Request {
            time: NOON + 12 * 3_600_000_000_000,
            ..force
        };
        let denied = decide_passage(&state, &night, "hub:h").unwrap_err();
        assert_eq!(denied.rule(), "window");
        let nobody = wants("user:bob", Right::Live, "device:press-1/force");
        let denied = decide_passage(&state, &nobody, "hub:h").unwrap_err();
        assert_eq!(denied, Denied::Unknown);
    }

    #[test]
    fn who_may_see_all_need_not_ask_for_each_and_nobody_else() {
        let mut state = site();
        let live = ("user:ann", Right::Live);
        assert_eq!(all_until(&state, live, "hub:h", NOON), None);
        assert!(somewhere(&state, live, NOON));
        assert!(!somewhere(&state, ("user:ann", Right::Erase), NOON));
        assert!(!somewhere(&state, ("user:bob", Right::Live), NOON));
        let observers = BTreeSet::from(["observer".to_owned()]);
        let assign = Change::Assign("user:ann".into(), observers);
        state.apply(assign).unwrap();
        assert_eq!(all_until(&state, live, "hub:h", NOON), Some(Nanos::MAX));
        let until = Change::Renew("user:ann".into(), Some(NOON + 5));
        state.apply(until).unwrap();
        assert_eq!(all_until(&state, live, "hub:h", NOON), Some(NOON + 5));
        assert_eq!(all_until(&state, live, "hub:h", NOON + 5), None);
        for change in [
            Change::Black(Side::Extranet, "user:ann".into(), true),
            Change::Black(Side::Intranet, "hub:h".into(), true),
            Change::Permit("user:ann".into(), Mode::Read, None),
            Change::Classify("device:vault".into(), Some(Level(9))),
        ] {
            let mut state = state.clone();
            state.apply(change.clone()).unwrap();
            assert_eq!(all_until(&state, live, "hub:h", NOON), None, "{change:?}");
        }
    }

    #[test]
    fn a_device_stores_what_is_its_own() {
        let state = site();
        let own = wants("device:press-1", Right::Store, "device:press-1");
        decide(&state, &own).unwrap();
        let others = wants("device:press-1", Right::Store, "device:press-10");
        assert_eq!(decide(&state, &others), Err(Denied::Right(Right::Store)));
        let control = wants("device:press-1", Right::Write, "device:press-1");
        assert_eq!(decide(&state, &control), Err(Denied::Right(Right::Write)));
    }
}
