//! What a request carries: JSON, of a form that its route knows.

use super::problem::Problem;
use actix_web::web;
use serde::de::DeserializeOwned;

/// A body as a route is given it.
pub(super) type Body = Result<web::Bytes, actix_web::Error>;

/// The whole of it.
pub(super) fn whole(body: Body) -> Result<web::Bytes, Problem> {
    body.map_err(|error| Problem::unread(Some(&error), format!("the body cannot be read: {error}")))
}

/// What it says; whoever wrote something else is shown the `example`.
pub(super) fn json<T: DeserializeOwned>(body: &[u8], example: &str) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        Problem::unread(
            None,
            format!("the body is not what is expected here: {error}; write for example {example}"),
        )
    })
}
