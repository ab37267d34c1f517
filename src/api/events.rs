//! `/api/v1/events`: the stream of server-sent events behind the dashboard.
//!
//! The first event is `picture`, with everything; then `live`, `blocks`, `verdict` and `refusals`
//! tell of changes, and `status` comes every second. A client that falls behind gets a new `picture`.

use super::caller::{FACE, Viewer, caller, let_in, may_stay};
use super::feed::Place;
use super::log_in::LogIn;
use super::problem::Problem;
use super::query::Params;
use super::server::Api;
use crate::protocols::ports::SessionPort;
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use weighbridge_verifier::Hash;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.route("/api/v1/events", web::to(events));
}

/// From one picture to the next, of who does not see everything.
const LATER: Duration = Duration::from_secs(1);

/// How long a browser waits before it connects again.
const RETRY: &[u8] = b"retry: 1000\n\n";

/// One client's side of the stream.
struct Client {
    api: web::Data<Api>,
    events: Receiver<Bytes>,
    stopping: CancellationToken,
    next: Next,
    user: String,
    /// Of the session that it is part of, where users log in.
    token: Option<Hash>,
    _place: Place,
    _visit: Option<Visit>,
}

/// A listener is a user session, for as long as it listens, where nobody logs in.
struct Visit {
    sessions: Arc<dyn SessionPort>,
    name: String,
}

impl Visit {
    fn new(sessions: &Arc<dyn SessionPort>, user: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let name = format!("http {}", COUNT.fetch_add(1, Ordering::Relaxed));
        sessions.asked(&name, user);
        Self {
            sessions: sessions.clone(),
            name,
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.sessions.ended(&self.name);
    }
}

enum Next {
    Retry,
    Picture,
    Event,
    /// As [`Picture`](Self::Picture), but after a while: for who does not see all that events tell.
    LaterPicture,
}

impl Client {
    /// The next piece of the stream; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        let piece = self.piece().await?;
        // After waiting: what came meanwhile is not for who may not stay.
        may_stay(&self.api, self.token.as_ref(), &self.user).then_some(piece)
    }

    async fn piece(&mut self) -> Option<Bytes> {
        match self.next {
            Next::Retry => {
                self.next = Next::Picture;
                Some(Bytes::from_static(RETRY))
            }
            Next::Picture => Some(self.picture().await),
            Next::LaterPicture => {
                tokio::select! {
                    _ = self.stopping.cancelled() => return None,
                    () = tokio::time::sleep(LATER) => {}
                }
                Some(self.picture().await)
            }
            Next::Event => {
                let event = tokio::select! {
                    _ = self.stopping.cancelled() => return None,
                    event = self.events.recv() => event,
                };
                match event {
                    // What they see may have changed while nothing happened.
                    Ok(_) if !self.viewer().sees_all() => Some(self.picture().await),
                    Ok(event) => Some(event),
                    Err(RecvError::Lagged(_)) => Some(self.picture().await),
                    Err(RecvError::Closed) => None,
                }
            }
        }
    }

    /// Everything as it is now; what was queued before is part of it and need not be sent.
    async fn picture(&mut self) -> Bytes {
        // Permits end while somebody listens; within their life this costs nothing. When they cannot be
        // renewed, less is seen.
        let _ = let_in(&self.api, &self.user).await;
        let viewer = self.viewer();
        self.next = match viewer.sees_all() {
            true => Next::Event,
            false => Next::LaterPicture,
        };
        self.events = self.api.feed.subscribe();
        self.api.feed.picture(&self.api.context, &viewer)
    }

    fn viewer(&self) -> Viewer {
        let session = crate::access::Caller::new(&*self.user, FACE);
        Viewer::new(self.api.context.access.gate(), session)
    }
}

async fn events(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    Params::parse(request.query_string(), &[])?;
    let mut response = HttpResponse::Ok();
    response.content_type("text/event-stream");
    if request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    let place = api.feed.place().ok_or_else(|| {
        let most = super::feed::MAX_CLIENTS;
        Problem::busy(format!(
            "{most} clients listen to the events already, and that is the most: close one"
        ))
    })?;
    let user = caller(&request)?.user;
    let shown = |log_in: &LogIn| log_in.shown(request.headers());
    let visit = api.log_in.is_none();
    let client = Client {
        events: api.feed.subscribe(),
        stopping: api.feed.stopping(),
        _visit: visit.then(|| Visit::new(&api.context.sessions, &user)),
        token: api.log_in.as_ref().and_then(shown),
        user,
        api,
        next: Next::Retry,
        _place: place,
    };
    let body = stream::unfold(client, |mut client| async move {
        let piece = client.next().await?;
        Some((Ok::<_, Infallible>(piece), client))
    });
    Ok(response.streaming(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fakes::FakeHub;

    #[actix_web::test]
    async fn a_client_that_falls_behind_gets_a_fresh_picture() {
        let api = FakeHub::new().api();
        let mut client = Client {
            events: api.feed.subscribe(),
            stopping: api.feed.stopping(),
            next: Next::Retry,
            _place: api.feed.place().unwrap(),
            _visit: None,
            user: crate::api::LOCAL.to_owned(),
            token: None,
            api: api.clone(),
        };
        assert_eq!(client.next().await.unwrap(), RETRY);
        let first = client.next().await.unwrap();
        assert!(first.starts_with(b"event: picture\ndata: {"));
        for number in 0..1000 {
            api.feed.send("live", &number);
        }
        let next = client.next().await.unwrap();
        assert!(next.starts_with(b"event: picture\n"), "{next:?}");
        api.feed.send("live", &1000);
        let next = client.next().await.unwrap();
        assert_eq!(next, "event: live\ndata: 1000\n\n");
    }
}
