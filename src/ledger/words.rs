//! Objects of which the newest record is remembered, and the kinds of record that say so.

/// What the object of every record about an alarm begins with.
pub const ALARM_OBJECT: &str = "alarm:";

/// Kind of a record that tells the state of an alarm.
pub const ALARM: &str = "alarm";

/// Kind of a record after which nothing of the alarm must be remembered: it is over, acknowledged and
/// confirmed.
pub const ALARM_OVER: &str = "alarm-over";

/// What the object of every record about access begins with; the rest is the name of the entry of
/// [`AccessState`](crate::access::AccessState) that it makes anew.
pub const ACCESS_OBJECT: &str = "access:";

/// Kind of a record that makes an entry about access anew.
pub const ACCESS: &str = "access";

/// Kind of a record after which an entry about access is no more.
pub const ACCESS_OVER: &str = "access-over";
