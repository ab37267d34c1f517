//! Starting and stopping the HTTP server: one worker on a thread of its own.

use super::caller::{FACE, look};
use super::context::ApiContext;
use super::feed::Feed;
use super::guard::guard;
use super::log_in::{LogIn, SessionLimits};
use super::names::{Front, Names};
use super::problem::Problem;
use super::{
    access, alarms, checkpoint, cluster, control, devices, erase, events, history, keys, ledger,
    log_in, metrics, own, page, readers, status, users,
};
use actix_web::body::MessageBody;
use actix_web::dev::{ServerHandle, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::{App, HttpServer, web};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::{io, thread};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Connections that are served at the same time; more wait to be accepted.
pub(super) const MAX_CONNECTIONS: usize = 256;

/// How long running answers get when the hub stops.
pub(super) const SHUTDOWN_SECONDS: u64 = 2;

/// Every bound that a server of this module has. A macro, because the type of an application cannot be
/// written down.
macro_rules! bounded {
    ($server:expr, $listener:expr) => {
        $crate::api::server::bounds!($server)
            .listen($listener)
            .map(actix_web::HttpServer::run)
    };
}
pub(super) use bounded;

/// The bounds alone.
macro_rules! bounds {
    ($server:expr) => {
        $server
            .workers(1)
            .max_connections($crate::api::server::MAX_CONNECTIONS)
            .client_request_timeout(std::time::Duration::from_secs(5))
            .shutdown_timeout($crate::api::server::SHUTDOWN_SECONDS)
            .disable_signals()
    };
}
pub(super) use bounds;

/// Why the HTTP face cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Other machines could reach the address.
    #[error(
        "the HTTP face cannot listen on {0}, because other machines can reach that address: set \
         `log_in = true` and `tls = true` in [http], or set `bind` to a loopback address such as \
         127.0.0.1:8080 and reach it from elsewhere through a tunnel \
         (ssh -L 8080:127.0.0.1:8080 <this machine>)"
    )]
    NotLoopback(SocketAddr),
    /// Another program listens there.
    #[error(
        "the HTTP face cannot listen on {0}, because another program does: stop that program, or \
         set `bind` in [http] to another port (port 0 takes any free one)"
    )]
    InUse(SocketAddr),
    /// The operating system refused the address.
    #[error("the HTTP face cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The server's thread could not be started.
    #[error("the HTTP face cannot start: {0}")]
    Start(#[source] io::Error),
}

/// A running HTTP face. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    /// How it is pointed to, without the port.
    place: String,
    handle: ServerHandle,
    stopping: CancellationToken,
    ended: watch::Receiver<bool>,
}

impl Running {
    /// Where to point a browser, for example `http://127.0.0.1:8080/`.
    pub fn url(&self) -> String {
        format!("{}:{}/", self.place, self.address.port())
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Ends the streams, lets running answers finish, and returns when the thread is done.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        self.handle.stop(true).await;
        // An error means that the thread is gone, which is what is waited for.
        let _ = self.ended.wait_for(|ended| *ended).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopping.cancel();
        // The command is sent at once; only waiting for its end needs the future.
        drop(self.handle.stop(false));
    }
}

/// What every handler shares.
pub(super) struct Api {
    pub(super) context: ApiContext,
    pub(super) feed: Arc<Feed>,
    pub(super) names: Names,
    /// Who is logged in; without it nobody logs in.
    pub(super) log_in: Option<LogIn>,
}

/// Starts the HTTP face on `bind`; port 0 takes any free one. Returns once it accepts connections; call it
/// from anywhere, it needs no runtime around it.
///
/// # Errors
/// When the address is not a loopback address and `front` has not both TLS and users, when it is taken, or
/// the operating system refuses.
pub fn start(bind: SocketAddr, front: Front, context: ApiContext) -> Result<Running, ApiError> {
    if !bind.ip().is_loopback() && (front.tls.is_none() || context.log_in.is_none()) {
        return Err(ApiError::NotLoopback(bind));
    }
    let scheme = if front.tls.is_some() { "https" } else { "http" };
    let host = match front.hosts.first() {
        Some(host) if bind.ip().is_unspecified() => host.clone(),
        _ => host(bind.ip()),
    };
    let mut running = begin(bind, move |listener, stopping, report| {
        serve((listener, bind.ip()), front, context, stopping, report)
    })?;
    running.place = format!("{scheme}://{host}");
    Ok(running)
}

/// An address as it stands in a URL.
fn host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V6(ip) => format!("[{ip}]"),
        IpAddr::V4(ip) => ip.to_string(),
    }
}

/// Starts a plain face without users on `bind`, which must be a loopback address.
pub(super) fn begin_local<F: Future<Output = ()>>(
    bind: SocketAddr,
    serve: impl FnOnce(TcpListener, CancellationToken, Report) -> F + Send + 'static,
) -> Result<Running, ApiError> {
    match bind.ip().is_loopback() {
        true => begin(bind, serve),
        false => Err(ApiError::NotLoopback(bind)),
    }
}

/// Tells the server's handle, or why there is none.
pub(super) type Report = std::sync::mpsc::Sender<io::Result<ServerHandle>>;

/// Starts what `serve` makes on a thread of its own.
fn begin<F: Future<Output = ()>>(
    bind: SocketAddr,
    serve: impl FnOnce(TcpListener, CancellationToken, Report) -> F + Send + 'static,
) -> Result<Running, ApiError> {
    let refused = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ApiError::InUse(bind),
        _ => ApiError::Bind {
            address: bind,
            source,
        },
    };
    let listener = TcpListener::bind(bind).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    super::patience::bound_answers(&listener).map_err(refused)?;

    let stopping = CancellationToken::new();
    let (end, ended) = watch::channel(false);
    let (report, reported) = std::sync::mpsc::channel();
    let token = stopping.clone();
    thread::Builder::new()
        .name("http".to_owned())
        .spawn(move || {
            actix_web::rt::System::new().block_on(serve(listener, token, report));
            end.send_replace(true);
        })
        .map_err(ApiError::Start)?;
    let gone = |_| ApiError::Start(io::Error::other("its thread ended at once"));
    let handle = reported.recv().map_err(gone)?.map_err(ApiError::Start)?;
    Ok(Running {
        address,
        place: format!("http://{}", host(address.ip())),
        handle,
        stopping,
        ended,
    })
}

/// Runs the server until it is stopped; reports its handle, or why there is none.
async fn serve(
    (listener, address): (TcpListener, IpAddr),
    front: Front,
    context: ApiContext,
    stopping: CancellationToken,
    report: Report,
) {
    let feed = Arc::new(Feed::new(stopping));
    let (stop_ticking, stopped) = oneshot::channel();
    let ticker = actix_web::rt::spawn(feed.clone().run(context.clone(), stopped));
    let sessions = context.sessions.clone();
    let names = Names::new(&front, address);
    let log_in = context.log_in.clone().map(|desk| {
        let (limits, port) = (SessionLimits::default(), context.sessions.clone());
        LogIn::new(desk, names.tls, limits, port)
    });
    let api = web::Data::new(Api {
        context,
        feed,
        names,
        log_in,
    });
    let server = HttpServer::new(move || app(api.clone()));
    let server = match front.tls {
        None => bounded!(server, listener),
        Some(tls) => bounds!(server)
            .on_connect(log_in::keep_shown)
            .listen_rustls_0_23(listener, tls)
            .map(HttpServer::run),
    };
    until_stopped(server, report).await;
    sessions.ended(FACE);
    drop(stop_ticking);
    let _ = ticker.await;
}

/// Reports how the server began, and lets it run to its end.
pub(super) async fn until_stopped(server: io::Result<actix_web::dev::Server>, report: Report) {
    match server {
        Ok(server) => {
            // A caller that is gone by now dropped the receiver, and the handle ends the server.
            let _ = report.send(Ok(server.handle()));
            if let Err(error) = server.await {
                tracing::error!(%error, "the HTTP face ended");
            }
        }
        Err(error) => drop(report.send(Err(error))),
    }
}

/// The application: every address the hub answers on.
pub(super) fn app(
    api: web::Data<Api>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    App::new()
        .app_data(api)
        .wrap(actix_web::middleware::from_fn(look))
        .wrap(actix_web::middleware::from_fn(guard))
        .configure(page::routes)
        .configure(log_in::routes)
        .configure(status::routes)
        .configure(metrics::routes)
        .configure(devices::routes)
        .configure(control::routes)
        .configure(ledger::routes)
        .configure(checkpoint::routes)
        .configure(erase::routes)
        .configure(keys::routes)
        .configure(cluster::routes)
        .configure(alarms::routes)
        .configure(access::routes)
        .configure(users::routes)
        .configure(own::routes)
        .configure(history::routes)
        .configure(readers::routes)
        .configure(events::routes)
        .default_service(web::to(nothing_here))
}

async fn nothing_here() -> Result<&'static str, Problem> {
    Err(Problem::not_found(
        "there is nothing at this address: the dashboard is at /, the API under /api/v1/ \
         (status, devices, tags, alarms, blocks, records, batches, refusals, events), and there are \
         /healthz and /metrics",
    )
    .counted("unknown address"))
}
