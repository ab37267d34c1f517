//! Entries that a hub of several has on its chain and cannot read yet: their keys or their bytes are still to come
//! from another hub. What they say may be that somebody is out, so whatever they could be about is refused until
//! they are read, and nobody here makes them anew over what cannot be seen.

use super::decide::Denied;
use super::level::Mode;
use super::lists::Side;
use super::state::{AccessState, Subject};
use std::collections::BTreeSet;

impl AccessState {
    /// There is a newer entry of this name, which cannot be read.
    pub fn hide(&mut self, name: &str) {
        self.unread.insert(name.to_owned());
    }

    /// Whether the newest entry of this name cannot be read.
    pub fn is_unread(&self, name: &str) -> bool {
        self.unread.contains(name)
    }

    /// The names of all such entries.
    pub fn unread(&self) -> &BTreeSet<String> {
        &self.unread
    }

    pub(super) fn set_unread(&mut self, names: BTreeSet<String>) {
        self.unread = names;
    }

    /// Whether what is not read may be about somebody, or about a role of theirs.
    ///
    /// # Errors
    /// If so.
    pub(super) fn is_read(&self, id: &str, subject: Option<&Subject>) -> Result<(), Denied> {
        if self.unread.is_empty() {
            return Ok(());
        }
        let own = ["subject", "binding", "credentials", "code"];
        let own = own.map(|kind| format!("{kind}/{id}"));
        let lists = [Side::Intranet, Side::Extranet].map(|s| format!("list/{}/{id}", s.name()));
        let permits = Mode::ALL.map(|mode| format!("permit/{}/{id}", mode.name()));
        let roles = subject.map_or_else(BTreeSet::new, |subject| subject.roles.clone());
        let roles = roles.into_iter().map(|role| format!("role/{role}"));
        let mut names = own.into_iter().chain(lists).chain(permits).chain(roles);
        match names.find(|name| self.unread.contains(name)) {
            Some(name) => Err(Denied::Unread(name)),
            None => Ok(()),
        }
    }

    /// The same for the level of an object.
    ///
    /// # Errors
    /// If so.
    pub(super) fn is_level_read(&self, object: &str) -> Result<(), Denied> {
        if self.unread.is_empty() {
            return Ok(());
        }
        let whole = object.split('/').next().unwrap_or(object);
        let names = [object, whole].map(|of| format!("level/{of}"));
        match names.into_iter().find(|name| self.unread.contains(name)) {
            Some(name) => Err(Denied::Unread(name)),
            None => Ok(()),
        }
    }

    /// Whether a level of anything cannot be read.
    pub(super) fn hides_a_level(&self) -> bool {
        let first = self.unread.range("level/".to_owned()..).next();
        first.is_some_and(|name| name.starts_with("level/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::decide::{all_until, decide, decide_passage, somewhere};
    use crate::access::{Change, Entry, Permit, Request, Right};
    use weighbridge_verifier::IdentityKind;

    const NOON: i64 = 1_794_830_400_000_000_000;
    const ANN: &str = "user:ann";
    const PRESS: &str = "device:press-1/force";

    fn site() -> AccessState {
        let mut state = AccessState::default();
        let mut ann = Subject::new(IdentityKind::User);
        ann.roles.insert("observer".into());
        let always = Permit {
            from: 0,
            until: i64::MAX,
        };
        for change in [
            Change::Enrol(ANN.into(), ann),
            Change::White(Side::Extranet, ANN.into(), true),
            Change::Permit(ANN.into(), Mode::Read, Some(always)),
            Change::Enrol("hub:h".into(), Subject::new(IdentityKind::Hub)),
            Change::White(Side::Intranet, "hub:h".into(), true),
        ] {
            state.apply(change).unwrap();
        }
        state
    }

    fn looks(state: &AccessState) -> Result<(), &'static str> {
        let request = Request {
            subject: ANN,
            right: Right::Live,
            object: PRESS,
            time: NOON,
        };
        let passage = decide_passage(state, &request, "hub:h").map(drop);
        passage.map_err(|denied| denied.rule())
    }

    #[test]
    fn what_an_unread_entry_may_be_about_is_refused_until_it_is_read() {
        let state = site();
        looks(&state).unwrap();
        assert!(all_until(&state, (ANN, Right::Live), "hub:h", NOON).is_some());
        for (name, rule) in [
            ("subject/user:ann", "unread"),
            ("list/extranet/user:ann", "unread"),
            ("list/intranet/user:ann", "unread"),
            ("permit/read/user:ann", "unread"),
            ("credentials/user:ann", "unread"),
            ("code/user:ann", "unread"),
            ("role/observer", "unread"),
            ("level/device:press-1", "hub"),
            ("level/device:press-1/force", "hub"),
            ("list/intranet/hub:h", "hub"),
        ] {
            let mut state = state.clone();
            let entry = state.entry_named(name);
            state.hide(name);
            assert_eq!(looks(&state), Err(rule), "{name}");
            let all = all_until(&state, (ANN, Right::Live), "hub:h", NOON);
            assert_eq!(all, None, "{name}");
            state.load(&entry).unwrap();
            looks(&state).unwrap();
        }
        // Nobody who is in has anything to do with these.
        let mut others = state.clone();
        for name in ["subject/user:bob", "role/presses", "level/device:lab"] {
            others.hide(name);
        }
        looks(&others).unwrap();
    }

    #[test]
    fn nobody_is_let_in_who_may_have_been_put_out() {
        let mut state = AccessState::default();
        state.hide("list/extranet/user:bob");
        let denied = state.admits("user:bob", NOON).unwrap_err();
        assert_eq!(denied, Denied::Unread("list/extranet/user:bob".into()));
        assert!(!somewhere(&state, ("user:bob", Right::Live), NOON));
        let store = Request {
            subject: "device:press-1",
            right: Right::Store,
            object: "device:press-1",
            time: NOON,
        };
        state.hide("binding/device:press-1");
        assert_eq!(decide(&state, &store).unwrap_err().rule(), "unread");
        let black = Entry {
            name: "list/extranet/user:bob".into(),
            says: serde_json::json!({"white": true, "black": true}),
        };
        state.load(&black).unwrap();
        let denied = state.admits("user:bob", NOON).unwrap_err();
        assert_eq!(denied.rule(), "blacklist");
    }
}
