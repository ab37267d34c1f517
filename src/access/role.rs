//! Rights, the roles that every site has, and the rights that each one carries.
//!
//! The names are those of the well-known roles of OPC UA (OPC 10000-18, 4.2) with one of our own,
//! the auditor.

use super::level::Mode;
use borsh::BorshSerialize;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// Something that a user may be allowed to do.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Put batches into the record.
    Store,
    /// See live values, alarms and the state of the ledger.
    Live,
    /// See what was recorded: it is decrypted for them.
    History,
    /// Take evidence of recorded samples away.
    Evidence,
    /// Write tags.
    Write,
    /// Call methods of devices.
    Call,
    /// Acknowledge and confirm alarms.
    Acknowledge,
    /// Shelve alarms.
    Shelve,
    /// Enrol, renew and withdraw identities.
    Enrol,
    /// Give roles and take them; which ones, the object patterns say (`role:operator`). And grants to readers:
    /// `grant:device:press-*`.
    Assign,
    /// Put on the lists of the intranet and the extranet, and take off.
    Admit,
    /// Change limits, device configurations, roles and levels.
    Configure,
    /// Destroy the keys of recorded data.
    Erase,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Store,
        Self::Live,
        Self::History,
        Self::Evidence,
        Self::Write,
        Self::Call,
        Self::Acknowledge,
        Self::Shelve,
        Self::Enrol,
        Self::Assign,
        Self::Admit,
        Self::Configure,
        Self::Erase,
    ];

    /// Which of the three ways to act it is.
    pub fn mode(self) -> Mode {
        match self {
            Self::Store => Mode::Store,
            Self::Live | Self::History | Self::Evidence => Mode::Read,
            _ => Mode::Control,
        }
    }

    /// The name used in files and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Live => "live",
            Self::History => "history",
            Self::Evidence => "evidence",
            Self::Write => "write",
            Self::Call => "call",
            Self::Acknowledge => "acknowledge",
            Self::Shelve => "shelve",
            Self::Enrol => "enrol",
            Self::Assign => "assign",
            Self::Admit => "admit",
            Self::Configure => "configure",
            Self::Erase => "erase",
        }
    }
}

/// What a user is to the factory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks.
    Observer,
    /// Runs the machines.
    Operator,
    /// Sets the machines up.
    Engineer,
    /// Answers for the shift.
    Supervisor,
    /// Checks what was recorded.
    Auditor,
    /// Enrols people, gives them roles, and keeps the lists.
    SecurityAdmin,
    /// Configures machines and roles, and erases.
    ConfigureAdmin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Observer,
        Self::Operator,
        Self::Engineer,
        Self::Supervisor,
        Self::Auditor,
        Self::SecurityAdmin,
        Self::ConfigureAdmin,
    ];

    /// The name used in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Observer => "observer",
            Self::Operator => "operator",
            Self::Engineer => "engineer",
            Self::Supervisor => "supervisor",
            Self::Auditor => "auditor",
            Self::SecurityAdmin => "security_admin",
            Self::ConfigureAdmin => "configure_admin",
        }
    }

    /// Whether it carries `right`.
    pub fn carries(self, right: Right) -> bool {
        use Right::{
            Acknowledge, Admit, Assign, Call, Configure, Enrol, Erase, Evidence, History, Live,
            Shelve, Write,
        };
        match self {
            Self::Observer => matches!(right, Live),
            Self::Operator => matches!(right, Live | History | Write | Acknowledge),
            Self::Engineer => matches!(right, Live | History | Write | Call | Acknowledge | Shelve),
            // What is everybody's: administration is a role of its own.
            Self::Supervisor => matches!(
                right,
                Live | History | Evidence | Write | Call | Acknowledge | Shelve
            ),
            Self::Auditor => matches!(right, Live | History | Evidence),
            Self::SecurityAdmin => matches!(right, Enrol | Assign | Admit),
            Self::ConfigureAdmin => matches!(right, Configure | Erase),
        }
    }
}

/// Who asks, over whatever face.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user's name; `anonymous` where nobody logged in.
    pub user: String,
    /// The session, unique among all faces.
    pub session: String,
    /// What they call this request, where their face has a place for that; it is in the request's record.
    pub request: Option<String>,
}

impl Caller {
    /// Who asks in a session.
    pub fn new(user: impl Into<String>, session: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            session: session.into(),
            request: None,
        }
    }

    /// Says in the details of a record in which session it was asked, and by which name.
    pub fn tell(&self, details: &mut Json) {
        details["session"] = self.session.as_str().into();
        if let Some(request) = &self.request {
            details["request_id"] = request.as_str().into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_roles_and_rights() {
        // In the order of `Right::ALL`: store, live, history, evidence, write, call, acknowledge, shelve,
        // enrol, assign, admit, configure, erase.
        let table = [
            (Role::Observer, ".x..........."),
            (Role::Operator, ".xx.x.x......"),
            (Role::Engineer, ".xx.xxxx....."),
            (Role::Supervisor, ".xxxxxxx....."),
            (Role::Auditor, ".xxx........."),
            (Role::SecurityAdmin, "........xxx.."),
            (Role::ConfigureAdmin, "...........xx"),
        ];
        assert_eq!(table.map(|(role, _)| role), Role::ALL);
        for (role, row) in table {
            let carried = Right::ALL.map(|right| if role.carries(right) { 'x' } else { '.' });
            assert_eq!(String::from_iter(carried), row, "{}", role.name());
        }
    }
}
