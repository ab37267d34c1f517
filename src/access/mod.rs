//! Who may do what. One pure function, [`decide`], over one state, [`AccessState`]:
//!
//! 1. the **lists** of the side that somebody comes from: blacklisted, or not whitelisted, is refused
//!    (Wan et al. 2019, Algorithms 1 and 2);
//! 2. the **identity**: enrolled, not withdrawn, not expired;
//! 3. the **levels** of subject and object: Bell-LaPadula and Biba as the paper joins them (Table 2);
//! 4. the **roles**: rights × object patterns × time windows;
//! 5. the **permit**: for a while, for storing, reading or controlling.
//!
//! Users are low and machines are high, and low on high may nothing. So people act on machines by
//! request and see data by release: [`decide_passage`] says both halves.
//!
//! A hub's faces ask by its [`Gate`], which holds the state that is in force.
//!
//! Before that, who it is: [`verify_login`] looks at what somebody shows, [`LoginGuard`] slows down those who
//! guess, and [`Challenges`] are there to be signed.

mod binding;
mod challenge;
mod change;
mod config;
pub mod credentials;
mod decide;
mod declare;
mod entry;
mod flood;
mod gate;
mod grants;
mod known_by;
mod level;
mod lists;
mod login;
mod login_guard;
mod parcel;
mod pattern;
mod permit;
mod reader;
mod renewal;
mod role;
mod rules;
mod shared;
mod state;
mod unread;
mod usage;
mod window;

pub use binding::{Binding, DeclaredBinding, Stranger};
pub use challenge::{Challenge, ChallengeError, Challenges, Nonce};
pub use change::{Change, ChangeError};
pub use config::AccessConfig;
pub use credentials::{Credentials, CredentialsError, Totp, user_name};
pub use decide::{Denied, Granted, Passage, Request, decide, decide_passage};
pub use declare::{Declared, reconcile};
pub use entry::{ESCROW_ENTRY, Entry, EntryError, READER_ENTRY};
pub use flood::{Flood, FloodGauge};
pub use gate::{Gate, Sight};
pub use known_by::{Invitation, KnownBy};
pub use level::{Level, Mode};
pub use lists::{Lists, Side};
pub use login::{Attempt, Method, Proved, Refused, verify_code, verify_login};
pub use login_guard::{GuardLimits, LoginGuard, TooEarly};
pub use parcel::{Parcel, ParcelError};
pub use pattern::{Pattern, PatternError};
pub use permit::Permit;
pub use reader::{ReadGrant, Reader, escrow_name};
pub use renewal::{RENEWAL_OPEN_FOR, RenewalChallenge, RenewalError, Renewals};
pub use role::{Caller, Right, Role};
pub use rules::{Rule, Rules};
pub use shared::{SharedAccess, Told};
pub use state::{AccessState, Subject};
pub use usage::{Usage, UsageLimits};
pub use window::{Window, WindowError};

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tenants;
