//! `/api/v1/cluster`: the hubs that share the chain, and how they are. `POST /api/v1/cluster/votes`: a vote of this hub
//! on who is one of them.

use super::body::{self, Body};
use super::caller::caller;
use super::ports::KeyFault;
use super::problem::Problem;
use super::server::Api;
use crate::access::Caller;
use actix_web::{HttpRequest, HttpResponse, web};
use async_trait::async_trait;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use weighbridge_verifier::{HubChange, HubVoteContent, PublicKey};

/// How the cluster is.
pub(super) const PATH: &str = "/api/v1/cluster";
/// Where hubs are voted on.
const VOTES: &str = "/api/v1/cluster/votes";
/// Longest vote, in bytes.
const MAX_BODY: usize = 4 << 10;

/// How the hubs that share a chain are, as one of them sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClusterStatus {
    /// The hubs: those that decide, and others that the configuration names.
    pub hubs: Vec<ClusterHub>,
    /// How many of them must agree.
    pub threshold: u32,
    /// Height of the newest block here.
    pub height: u64,
    /// The height that is being decided; `None` before the first.
    pub deciding: Option<u64>,
    /// Whether there is nothing to decide for now.
    pub parked: bool,
    /// Hubs that consensus is connected to.
    pub linked: usize,
    /// Why nothing is decided here any more, if so.
    pub halted: Option<String>,
    /// Records of this hub that no block has yet.
    pub open: u64,
    /// Sealed values of the chain that are not here yet, counted up to a bound.
    pub missing: usize,
    /// Entries of access that are on the chain and cannot be read here yet: what they may be about is refused.
    pub unread: usize,
    /// Votes that do not count yet.
    pub votes: Vec<OpenVote>,
    /// Who reads the devices that several hubs may read.
    pub leases: Vec<DeviceLease>,
    /// What somebody should look at, newest last.
    pub alarms: Vec<String>,
}

/// A hub of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterHub {
    /// Its id.
    pub id: String,
    /// Its key; `None` when neither the chain nor the configuration has one.
    pub key: Option<PublicKey>,
    /// Whether it decides.
    pub member: bool,
    /// Its place among those that stand by, from 1; `None` where it does not.
    pub standby: Option<usize>,
    /// Whether it is the one that is asked.
    pub own: bool,
    /// Whether its records are being fetched.
    pub connected: bool,
    /// The height that it says it has; of the one that is asked the one that it has.
    pub height: Option<u64>,
}

/// Who reads a device that several hubs may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceLease {
    /// The device.
    pub device: String,
    /// The hub that has its lease.
    pub hub: String,
    /// The fencing epoch of the lease.
    pub epoch: u64,
    /// Since when, as the hub that is asked heard of it; `None` when that was before it started.
    pub since: Option<String>,
    /// Whether the hub that is asked reads it.
    pub read_here: bool,
}

/// A vote that not enough hubs have given yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenVote {
    /// On which hub.
    pub hub: String,
    /// Whether it shall come or go.
    pub change: HubChange,
    /// Who said so.
    pub by: Vec<String>,
}

/// The hubs that share the chain.
#[async_trait]
pub trait ClusterPort: Send + Sync {
    /// How they are. Never blocks.
    fn status(&self) -> ClusterStatus;

    /// Gives this hub's vote; the block that has it, once the others agreed to that.
    async fn vote(&self, caller: &Caller, vote: HubVoteContent) -> Result<u64, KeyFault>;
}

/// Whether something is changed at `path`.
pub(super) fn acts(path: &str) -> bool {
    path == VOTES
}

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            web::resource(PATH)
                .route(web::get().to(status))
                .route(web::head().to(status)),
        )
        .service(
            web::resource(VOTES)
                .app_data(web::PayloadConfig::new(MAX_BODY))
                .route(web::post().to(vote)),
        );
}

fn port(api: &Api) -> Result<Arc<dyn ClusterPort>, Problem> {
    let none = || {
        Problem::not_found(
            "this hub shares its chain with no other: it has no `[cluster]` in its file",
        )
    };
    api.context.cluster.clone().ok_or_else(none)
}

async fn status(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    caller(&request)?;
    Ok(HttpResponse::Ok().json(port(&api)?.status()))
}

async fn vote(
    request: HttpRequest,
    api: web::Data<Api>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let caller = caller(&request)?;
    let port = port(&api)?;
    let body = body::whole(body)?;
    let vote: HubVoteContent = serde_json::from_slice(&body).map_err(|error| {
        Problem::unread(
            None,
            format!("the body is not what is expected here: {error}"),
        )
    })?;
    let height = port.vote(&caller, vote).await;
    let height = height.map_err(super::keys::problem)?;
    Ok(HttpResponse::Ok().json(json!({ "height": height })))
}
