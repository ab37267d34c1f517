//! `/api/v1/checkpoint`: the ledger's head as a signed note, for witnesses and auditors.

use super::ports::{CheckpointPort, NoCheckpoint};
use super::problem::Problem;
use super::query::Params;
use super::server::Api;
use actix_web::{HttpRequest, HttpResponse, web};

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/api/v1/checkpoint", web::to(checkpoint))
        .route("/api/v1/checkpoint/keys", web::to(keys));
}

/// The newest checkpoint, or that of `size` blocks; with `old`, after the proof that it extends the
/// tree of so many blocks.
async fn checkpoint(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let params = Params::parse(request.query_string(), &["old", "size"])?;
    let old = params.number("old", 0..=u64::MAX)?;
    let size = params.number("size", 1..=u64::MAX)?;
    answer(&api, move |port| port.checkpoint(old, size)).await
}

/// The keys that sign checkpoints, as `NAME+ID+BASE64`.
async fn keys(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    Params::parse(request.query_string(), &[])?;
    answer(&api, |port| port.keys()).await
}

async fn answer(
    api: &Api,
    ask: impl FnOnce(&dyn CheckpointPort) -> Result<String, NoCheckpoint> + Send + 'static,
) -> Result<HttpResponse, Problem> {
    let none = || Problem::not_found("this hub makes no checkpoints: it has no file for their key");
    let port = api.context.checkpoints.clone().ok_or_else(none)?;
    match web::block(move || ask(&*port)).await {
        Ok(Ok(text)) => Ok(HttpResponse::Ok()
            .content_type("text/plain; charset=utf-8")
            .body(text)),
        Ok(Err(NoCheckpoint::Short(why))) => Err(Problem::conflict(why)),
        Ok(Err(busy @ NoCheckpoint::Busy)) => Err(Problem::busy(busy.to_string())),
        Ok(Err(NoCheckpoint::Failed(why))) => {
            tracing::error!(why, "a checkpoint cannot be made");
            Err(Problem::internal(why))
        }
        Err(_) => Err(Problem::busy("the hub is stopping")),
    }
}
