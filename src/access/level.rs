//! Levels: Bell-LaPadula (nobody reads above themselves, nobody writes below) and Biba (nobody writes
//! above themselves), as Wan et al. 2019 join them in Table 2.
//!
//! | subject \ object | low | high |
//! | --- | --- | --- |
//! | low | store, read, control | nothing |
//! | high | read, control | store, read, control |

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// How trusted somebody or something is; higher is more. A site has as many as it wants.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(transparent)]
pub struct Level(pub u8);

impl Level {
    /// Of people and their programs, unless the site says otherwise.
    pub const LOW: Self = Self(1);
    /// Of devices, edge nodes and hubs.
    pub const HIGH: Self = Self(2);

    /// Whether a subject of this level may act on an object of level `object` so.
    pub fn may(self, mode: Mode, object: Self) -> bool {
        match mode {
            Mode::Store => self == object,
            Mode::Read | Mode::Control => self >= object,
        }
    }
}

/// The three ways to act (the paper's w, r and c).
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Put something there.
    Store,
    /// See it.
    Read,
    /// Make it act.
    Control,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Store, Self::Read, Self::Control];

    /// The name used in files and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Read => "read",
            Self::Control => "control",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wan et al. 2019, Table 2: s1, o1 on level l1 below s2, o2 on l2.
    #[test]
    fn table_2_of_the_paper() {
        let (l1, l2) = (Level::LOW, Level::HIGH);
        let table = [
            (l1, l1, "wrc"),
            (l1, l2, ""),
            (l2, l1, "rc"),
            (l2, l2, "wrc"),
        ];
        for (subject, object, wanted) in table {
            let letters = [(Mode::Store, 'w'), (Mode::Read, 'r'), (Mode::Control, 'c')];
            let got: String = letters
                .into_iter()
                .filter(|(mode, _)| subject.may(*mode, object))
                .map(|(_, letter)| letter)
                .collect();
            assert_eq!(got, wanted, "{subject:?} on {object:?}");
        }
    }

    /// Bell-LaPadula's and Biba's rules, for every pair of levels.
    #[test]
    fn no_read_up_no_write_down_no_write_up() {
        for s in 0..=u8::MAX {
            for o in 0..=u8::MAX {
                let (subject, object) = (Level(s), Level(o));
                assert_eq!(subject.may(Mode::Read, object), o <= s);
                assert_eq!(subject.may(Mode::Store, object), o == s);
                assert_eq!(subject.may(Mode::Control, object), o <= s);
            }
        }
    }
}
