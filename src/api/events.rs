//! `/api/v1/events`: the stream of server-sent events behind the dashboard.
//!
//! The first event is `picture`, with everything; then `live`, `blocks`, `verdict` and `refusals`
//! tell of changes, and `status` comes every second. A client that falls behind gets a new `picture`.

use super::feed::Place;
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
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.route("/api/v1/events", web::to(events));
}

/// How long a browser waits before it connects again.
const RETRY: &[u8] = b"retry: 1000\n\n";

/// One client's side of the stream.
struct Client {
    api: web::Data<Api>,
    events: Receiver<Bytes>,
    stopping: CancellationToken,
    next: Next,
    _place: Place,
    _visit: Visit,
}

/// A listener is a user session, for as long as it listens. There is no log-in on loopback yet, so
/// the user is only called local.
struct Visit {
    sessions: Arc<dyn SessionPort>,
    name: String,
}

impl Visit {
    fn new(sessions: &Arc<dyn SessionPort>) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let name = format!("http {}", COUNT.fetch_add(1, Ordering::Relaxed));
        sessions.asked(&name, "local");
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
}

impl Client {
    /// The next piece of the stream; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        match self.next {
            Next::Retry => {
                self.next = Next::Picture;
                Some(Bytes::from_static(RETRY))
            }
            Next::Picture => Some(self.picture()),
            Next::Event => {
                let event = tokio::select! {
                    _ = self.stopping.cancelled() => return None,
                    event = self.events.recv() => event,
                };
                match event {
                    Ok(event) => Some(event),
                    Err(RecvError::Lagged(_)) => Some(self.picture()),
                    Err(RecvError::Closed) => None,
                }
            }
        }
    }

    /// Everything as it is now; what was queued before is part of it and need not be sent.
    fn picture(&mut self) -> Bytes {
        self.next = Next::Event;
        self.events = self.api.feed.subscribe();
        self.api.feed.picture(&self.api.context)
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
    let client = Client {
        events: api.feed.subscribe(),
        stopping: api.feed.stopping(),
        _visit: Visit::new(&api.context.sessions),
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
            _visit: Visit::new(&api.context.sessions),
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
