//! Who asks. There is no log-in on loopback: whoever is on this machine is the user `local`, with the
//! roles that `[http]` gives.

use super::problem::Problem;
use super::server::Api;
use crate::access::{Caller, Right};
use crate::model::now;
use crate::protocols::ports::AccessError;

/// The user of this face.
pub const LOCAL: &str = "local";
/// The face's name in records of who came in.
const FACE: &str = "http";

/// Who asks, let in.
pub(super) async fn caller(api: &Api) -> Result<Caller, Problem> {
    let admitted = api.context.access.admit(LOCAL, FACE).await;
    admitted.map_err(problem)?;
    Ok(Caller {
        user: LOCAL.to_owned(),
        session: FACE.to_owned(),
    })
}

/// Who asks, when they may see something of the hub.
pub(super) async fn onlooker(api: &Api) -> Result<Caller, Problem> {
    let caller = caller(api).await?;
    let gate = api.context.access.gate();
    match gate.somewhere(&caller.user, Right::Live, now()) {
        true => Ok(caller),
        false => Err(Problem::forbidden(format!(
            "`{}` may not see this hub: none of the user's roles lets them",
            caller.user
        ))),
    }
}

/// Why somebody was not let in, or a change of access was not made, as an answer.
pub(super) fn problem(error: AccessError) -> Problem {
    let detail = error.to_string();
    match error {
        AccessError::Denied(_) => Problem::forbidden(detail),
        AccessError::Impossible(_) => Problem::not_done(detail),
        AccessError::NotRecorded(_) | AccessError::Busy => Problem::busy(detail),
    }
}
