//! `/api/v1/devices`, `/api/v1/tags` and the control charts.

use super::about::AboutView;
use super::caller::Viewer;
use super::context::{ApiContext, DeviceInfo, no_device};
use super::feeds::FeedView;
use super::problem::Problem;
use super::query::{Params, shortened};
use super::server::Api;
use super::views::{ChartView, LinkView, TagView, VerdictView};
use crate::live_view::DeviceLive;
use crate::model::{TagSpec, now};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most points of one chart, and how many there are when nothing is said.
const MAX_POINTS: usize = 1000;
const DEFAULT_POINTS: usize = 100;

/// Most points in all charts of one answer of `…/charts`.
const MAX_POINTS_IN_ALL: usize = 20_000;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/api/v1/devices", web::to(devices))
        .route("/api/v1/devices/{id}", web::to(device))
        .route("/api/v1/devices/{id}/charts", web::to(charts))
        .route("/api/v1/devices/{id}/tags/{tag}", web::to(tag))
        .route("/api/v1/devices/{id}/tags/{tag}/chart", web::to(chart))
        .route("/api/v1/tags", web::to(tags));
}

/// A device without its tags.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct DeviceView {
    pub(super) id: String,
    pub(super) group: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) address: Option<String>,
    pub(super) link: LinkView,
    /// What it says that it is, and the certificates of its connection.
    #[serde(flatten)]
    pub(super) about: AboutView,
    /// Points read since the start.
    pub(super) points: u64,
    /// Samples that had to be dropped since the start.
    pub(super) dropped: u64,
    pub(super) reconnects: u64,
    /// What validation said of the newest batch.
    pub(super) verdict: Option<VerdictView>,
    pub(super) tag_count: usize,
    /// The edge node that reads it, where one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) edge: Option<FeedView>,
}

impl DeviceView {
    pub(super) fn new(live: &DeviceLive, info: Option<&DeviceInfo>) -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            id: live.id.to_string(),
            group: info.and_then(|i| i.group.clone()),
            protocol: info.map(|i| i.protocol.clone()),
            address: info.map(|i| i.address.clone()),
            link: LinkView::from(&live.link()),
            about: AboutView::new(&live.about(), now()),
            points: read(&live.points),
            dropped: read(&live.dropped),
            reconnects: read(&live.reconnects),
            verdict: live.verdict().as_ref().map(VerdictView::from),
            tag_count: live.tags.len(),
            edge: None,
        }
    }

    /// With the edge node that reads it.
    pub(super) fn fed(mut self, feed: Option<FeedView>) -> Self {
        self.edge = feed;
        self
    }
}

/// At most `limit` tags of `live` from index `from` on, of those that `viewer` sees.
pub(super) fn tag_views(
    live: &DeviceLive,
    from: usize,
    limit: usize,
    viewer: &Viewer,
) -> Vec<TagView> {
    let tags = live.tags.iter().enumerate().skip(from);
    let seen = tags.filter(|(_, tag)| viewer.sees_tag(&live.id, &tag.name));
    seen.take(limit)
        .map(|(i, tag)| TagView::new(&live.id, tag, live.sample(i).as_ref()))
        .collect()
}

/// Device `id`, when `viewer` sees it.
async fn seen(api: &Api, viewer: &Viewer, id: &str) -> Result<Arc<DeviceLive>, Problem> {
    let live = api.context.device(id)?;
    match viewer.sees_device(id) {
        true => Ok(live),
        false => Err(hidden(api, viewer, id).await),
    }
}

/// Who may not see a device is told that there is none.
async fn hidden(api: &Api, viewer: &Viewer, id: &str) -> Problem {
    let object = format!("device:{id}");
    viewer.refused(api, &object, no_device(id)).await
}

/// Device `id` and which of its tags `name` is, when `viewer` sees that.
async fn seen_tag(
    api: &Api,
    viewer: &Viewer,
    (id, name): (&str, &str),
) -> Result<(Arc<DeviceLive>, usize), Problem> {
    let live = api.context.device(id)?;
    match viewer.sees_tag(id, name) {
        true => tag_index(&live, name).map(|index| (live, index)),
        // That the device is there may be all they may know.
        false if viewer.sees_device(id) => {
            let object = format!("device:{id}/{name}");
            Err(viewer.refused(api, &object, no_tag(id, name)).await)
        }
        false => Err(hidden(api, viewer, id).await),
    }
}

async fn devices(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let params = Params::parse(request.query_string(), &["after", "limit"])?;
    let viewer = Viewer::of(&request, &api)?;
    let mut all = api.context.ordered_devices();
    all.retain(|(live, _)| viewer.sees_device(&live.id));
    let from = match params.text("after") {
        None => 0,
        Some(id) => match all.iter().position(|(live, _)| &*live.id == id) {
            Some(at) => at + 1,
            None => {
                let detail = format!("`after` names no device: `{}`", shortened(id));
                return Err(Problem::parameter("after", detail));
            }
        },
    };
    let limit = params.limit()?;
    let part: Vec<_> = all
        .iter()
        .skip(from)
        .take(limit)
        .map(|(live, info)| DeviceView::new(live, info.as_ref()).fed(api.context.feed(live)))
        .collect();
    let next = part.last().filter(|_| from + limit < all.len());
    let next = next.map(|last| &last.id);
    Ok(HttpResponse::Ok().json(json!({ "devices": part, "next": next })))
}

/// One device with its tags; a device of more tags than one answer holds is continued at `/tags`.
async fn device(
    request: HttpRequest,
    path: web::Path<String>,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let params = Params::parse(request.query_string(), &["limit"])?;
    let viewer = Viewer::of(&request, &api)?;
    let live = seen(&api, &viewer, &path).await?;
    let device = DeviceView::new(&live, api.context.info(&path).as_ref());
    let device = device.fed(api.context.feed(&live));
    let tags = tag_views(&live, 0, params.limit()?, &viewer);
    #[derive(Serialize)]
    struct Whole {
        #[serde(flatten)]
        device: DeviceView,
        tags: Vec<TagView>,
    }
    Ok(HttpResponse::Ok().json(Whole { device, tags }))
}

/// The tags of all devices, or of one; the cursor is `device/tag` of the last one seen.
async fn tags(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let params = Params::parse(request.query_string(), &["device", "after", "limit"])?;
    let limit = params.limit()?;
    let viewer = Viewer::of(&request, &api)?;
    let sees = |live: &DeviceLive, index| viewer.sees_tag(&live.id, tag_name(live, index));
    let devices: Vec<_> = match params.text("device") {
        Some(id) => {
            let live = api.context.device(id)?;
            let any = (0..live.tags.len()).any(|index| sees(&live, index));
            if !any && !viewer.sees_device(id) {
                return Err(hidden(&api, &viewer, id).await);
            }
            vec![live]
        }
        None => {
            let all = api.context.ordered_devices();
            all.into_iter().map(|(live, _)| live).collect()
        }
    };
    let every = devices
        .iter()
        .flat_map(|live| (0..live.tags.len()).map(move |index| (live, index)))
        .filter(|(live, index)| sees(live, *index));
    let mut rest = every.peekable();
    if let Some(text) = params.text("after") {
        let cursor = text.split_once('/').and_then(|(device, tag)| {
            rest.find(|(live, index)| *live.id == *device && tag_name(live, *index) == tag)
        });
        if cursor.is_none() {
            let detail = format!(
                "`after` is `{}`, which is no `device/tag` of this listing",
                shortened(text)
            );
            return Err(Problem::parameter("after", detail));
        }
    }
    let part: Vec<_> = rest
        .by_ref()
        .take(limit)
        .flat_map(|(live, index)| tag_views(live, index, 1, &viewer))
        .collect();
    let last = part.last().filter(|_| rest.peek().is_some());
    let next = last.map(|tag| format!("{}/{}", tag.device, tag.tag));
    Ok(HttpResponse::Ok().json(json!({ "tags": part, "next": next })))
}

fn tag_name(live: &DeviceLive, index: usize) -> &str {
    live.tags.get(index).map_or("", |tag| &tag.name)
}

/// One tag, with its device's connection.
async fn tag(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    Params::parse(request.query_string(), &[])?;
    let (device, name) = path.into_inner();
    let viewer = Viewer::of(&request, &api)?;
    let (live, index) = seen_tag(&api, &viewer, (&device, &name)).await?;
    #[derive(Serialize)]
    struct Whole {
        #[serde(flatten)]
        tag: Option<TagView>,
        link: LinkView,
    }
    let tag = tag_views(&live, index, 1, &viewer).pop();
    let link = LinkView::from(&live.link());
    Ok(HttpResponse::Ok().json(Whole { tag, link }))
}

/// Which tag of the device `name` is, or the answer that there is none.
fn tag_index(live: &DeviceLive, name: &str) -> Result<usize, Problem> {
    let index = live.tags.iter().position(|tag| *tag.name == *name);
    index.ok_or_else(|| no_tag(&live.id, name))
}

fn no_tag(device: &str, name: &str) -> Problem {
    Problem::not_found(format!(
        "device `{device}` has no tag `{}`: /api/v1/tags?device={device} lists those it has",
        shortened(name)
    ))
}

/// The control chart of one tag.
async fn chart(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let params = Params::parse(request.query_string(), &["points"])?;
    let points = params.number("points", 1..=MAX_POINTS)?;
    let (device, name) = path.into_inner();
    let viewer = Viewer::of(&request, &api)?;
    let (live, index) = seen_tag(&api, &viewer, (&device, &name)).await?;
    let Some(tag) = live.tags.get(index) else {
        return Err(Problem::internal("the tag is gone"));
    };
    let view = chart_of(&api.context, &live, tag, points.unwrap_or(DEFAULT_POINTS));
    Ok(HttpResponse::Ok().json(view))
}

/// The control charts of the first tags of a device in one answer, for overviews.
async fn charts(
    request: HttpRequest,
    path: web::Path<String>,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let params = Params::parse(request.query_string(), &["points", "limit"])?;
    let points = params.number("points", 1..=MAX_POINTS)?;
    let points = points.unwrap_or(DEFAULT_POINTS);
    let limit = params.limit()?;
    if points * limit > MAX_POINTS_IN_ALL {
        let detail = format!(
            "`points` times `limit` is {}, and one answer holds {MAX_POINTS_IN_ALL}: ask for fewer",
            points * limit
        );
        return Err(Problem::parameter("points", detail));
    }
    let viewer = Viewer::of(&request, &api)?;
    let live = seen(&api, &viewer, &path).await?;
    let tags = live.tags.iter();
    let first = tags.filter(|tag| viewer.sees_tag(&live.id, &tag.name));
    let first = first.take(limit);
    let charts: Vec<_> = first
        .map(|tag| chart_of(&api.context, &live, tag, points))
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "device": &*live.id, "tags": charts })))
}

fn chart_of(context: &ApiContext, live: &DeviceLive, tag: &TagSpec, points: usize) -> ChartView {
    let chart = context.charts.chart(&live.id, &tag.name, points);
    ChartView::new(&live.id, tag, chart.as_ref())
}
