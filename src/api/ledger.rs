//! `/api/v1/blocks`, `/api/v1/records`, `/api/v1/batches`.

use super::caller::Viewer;
use super::ports::{LedgerReadError, LedgerReader, RecordAt, RecordFilter};
use super::problem::Problem;
use super::query::{MAX_LIMIT, Params, shortened};
use super::server::Api;
use super::views::{BatchView, BlockView, RecordView};
use crate::model::VerdictClass;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use weighbridge_verifier::Action;

const VERDICTS: [VerdictClass; 3] = [
    VerdictClass::Accepted,
    VerdictClass::OutOfControl,
    VerdictClass::Invalid,
];

/// Every action with its name, as records are filtered by it.
const ACTIONS: [(&str, Action); 16] = [
    ("enrol", Action::Enrol),
    ("revoke", Action::Revoke),
    ("configure", Action::Configure),
    ("store", Action::Store),
    ("read", Action::Read),
    ("control", Action::Control),
    ("grant", Action::Grant),
    ("release", Action::Release),
    ("refuse", Action::Refuse),
    ("session", Action::Session),
    ("summary", Action::Summary),
    ("exchange", Action::Exchange),
    ("membership", Action::Membership),
    ("erase", Action::Erase),
    ("acknowledge", Action::Acknowledge),
    ("alarm", Action::Alarm),
];

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/api/v1/blocks", web::to(blocks))
        .route("/api/v1/blocks/{height}", web::to(block))
        .route("/api/v1/records", web::to(records))
        .route("/api/v1/batches", web::to(batches));
}

/// Asks the ledger on a thread that may block.
pub(super) async fn ask<T, F>(ledger: &Arc<dyn LedgerReader>, question: F) -> Result<T, Problem>
where
    T: Send + 'static,
    F: FnOnce(&dyn LedgerReader) -> Result<T, LedgerReadError> + Send + 'static,
{
    let ledger = ledger.clone();
    let answer = web::block(move || question(ledger.as_ref())).await;
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            tracing::error!(%error, "a question to the ledger failed");
            Err(Problem::internal(error.to_string()))
        }
        Err(_) => Err(Problem::busy("the hub is stopping")),
    }
}

/// Blocks, newest first, without their records.
async fn blocks(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let params = Params::parse(request.query_string(), &["before", "limit"])?;
    let before = params.number("before", 1..=u64::MAX)?;
    let limit = params.limit()?;
    let found = ask(&api.context.ledger, move |ledger| {
        let blocks = ledger.blocks(before, limit)?;
        Ok(blocks.iter().map(BlockView::from).collect::<Vec<_>>())
    })
    .await?;
    let next = found.last().map(|b| b.height).filter(|height| *height > 1);
    Ok(HttpResponse::Ok().json(json!({ "blocks": found, "next": next })))
}

/// One block with its records; a block of more records than one answer holds is read in parts.
async fn block(
    request: HttpRequest,
    path: web::Path<String>,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let params = Params::parse(request.query_string(), &["from", "limit"])?;
    let from = params.number("from", 0..=u32::MAX)?.unwrap_or(0);
    let limit = params.limit_or(MAX_LIMIT)?;
    let Some(height) = path.parse::<u64>().ok().filter(|height| *height > 0) else {
        let detail = format!(
            "`{}` is no height of a block: heights are whole numbers from 1 on",
            shortened(&path)
        );
        return Err(Problem::parameter("height", detail));
    };
    let viewer = Viewer::of(&request, &api)?;
    let found = ask(&api.context.ledger, move |ledger| ledger.block(height)).await?;
    let Some(found) = found else {
        let tip = api.context.ledger.tip().map_or(0, |tip| tip.height);
        let detail = format!("there is no block {height}: the newest one is {tip}");
        return Err(Problem::not_found(detail));
    };
    #[derive(Serialize)]
    struct Whole {
        #[serde(flatten)]
        block: BlockView,
        records: Vec<RecordView>,
    }
    let part = found.records.iter().skip(from as usize).take(limit);
    let records = (from..)
        .zip(part)
        .filter(|(_, record)| sees(&viewer, record))
        .map(|(position, record)| RecordView::new(RecordAt { height, position }, record))
        .collect();
    let block = BlockView::from(&found);
    Ok(HttpResponse::Ok().json(Whole { block, records }))
}

/// Records, newest first.
async fn records(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let params = Params::parse(
        request.query_string(),
        &["before", "limit", "device", "action"],
    )?;
    let names = ACTIONS.map(|(name, _)| name);
    let action = params.word("action", &names)?;
    let filter = RecordFilter {
        device: params.text("device").map(str::to_owned),
        action: action
            .and_then(|at| ACTIONS.get(at))
            .map(|(_, action)| *action),
        ..RecordFilter::default()
    };
    let viewer = Viewer::of(&request, &api)?;
    let (found, next) = page((&params, viewer), &api, filter, RecordView::new).await?;
    Ok(HttpResponse::Ok().json(json!({ "records": found, "next": next })))
}

/// Batches that were stored or refused, newest first.
async fn batches(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let params = Params::parse(
        request.query_string(),
        &["before", "limit", "device", "verdict"],
    )?;
    let verdict = params.word("verdict", &VERDICTS.map(VerdictClass::name))?;
    let filter = RecordFilter {
        batches_only: true,
        device: params.text("device").map(str::to_owned),
        verdict: verdict.and_then(|at| VERDICTS.get(at)).copied(),
        action: None,
    };
    let viewer = Viewer::of(&request, &api)?;
    let (found, next) = page((&params, viewer), &api, filter, BatchView::new).await?;
    let found: Vec<_> = found.into_iter().flatten().collect();
    Ok(HttpResponse::Ok().json(json!({ "batches": found, "next": next })))
}

/// Whether `viewer` sees a record: who does not see all sees those of the machines they see.
fn sees(viewer: &Viewer, record: &weighbridge_verifier::Record) -> bool {
    let object = &record.body.object;
    viewer.sees_all() || object.starts_with("device:") && viewer.sees(object)
}

/// One page of records, each as `view` shows it, and the cursor of the next page. Those that `viewer` does
/// not see are left out, so a page may be short.
async fn page<V: Send + 'static>(
    (params, viewer): (&Params, Viewer),
    api: &Api,
    filter: RecordFilter,
    view: fn(RecordAt, &weighbridge_verifier::Record) -> V,
) -> Result<(Vec<V>, Option<String>), Problem> {
    let before = params.text("before").map(cursor).transpose()?;
    let limit = params.limit()?;
    ask(&api.context.ledger, move |ledger| {
        let page = ledger.records(before, limit, &filter)?;
        let found = page.records.iter();
        let found = found.filter(|(_, record)| sees(&viewer, record));
        let found = found.map(|(at, record)| view(*at, record)).collect();
        let next = page.next.map(|at| format!("{}-{}", at.height, at.position));
        Ok((found, next))
    })
    .await
}

/// Reads a cursor: the height of a block and a position in it, `12-3`.
fn cursor(text: &str) -> Result<RecordAt, Problem> {
    let parsed = text.split_once('-').and_then(|(height, position)| {
        Some(RecordAt {
            height: height.parse().ok()?,
            position: position.parse().ok()?,
        })
    });
    parsed.ok_or_else(|| {
        let detail = format!(
            "`before` is `{}`, which is not the height of a block and a position in it, as in \
             `12-3`: take it from `next` of the answer before",
            shortened(text)
        );
        Problem::parameter("before", detail)
    })
}
