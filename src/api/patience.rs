//! How long somebody may take to send what they ask, and to take what is answered. The server has no bounds of its own
//! for either, and its places are few.

use actix_web::HttpMessage;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::Stream;
use socket2::SockRef;
use std::cell::RefCell;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// For the whole body of a request.
const BODY: Duration = Duration::from_secs(10);
/// For taking something of an answer.
#[cfg(target_os = "linux")]
const ANSWER: Duration = Duration::from_secs(20);

/// Whoever takes nothing of an answer for a while loses their connection: every one of `listener`'s has that from it.
pub(super) fn bound_answers(listener: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(ANSWER))?;
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
    Ok(())
}

/// The body of a request. While an answer is sent the server must not believe that nobody wants the rest of it: it would
/// wait for that rest before it closes the connection, for ever where the body comes in chunks.
pub(super) struct Held {
    _body: Rc<RefCell<Payload>>,
}

impl Held {
    /// Sees to it that the connection ends when the rest of the body is not there with the end of the answer.
    pub(super) fn until_answered(self, answer: impl MessageBody + 'static) -> Answer {
        Answer {
            body: answer.boxed(),
            _request: self,
        }
    }
}

/// The body of an answer, with what is left of its request.
pub(super) struct Answer {
    body: BoxBody,
    _request: Held,
}

impl MessageBody for Answer {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

/// A body that has to be there in time.
struct Timely {
    body: Rc<RefCell<Payload>>,
    late: Pin<Box<Sleep>>,
}

impl Stream for Timely {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = Pin::new(&mut *self.body.borrow_mut()).poll_next(cx);
        if piece.is_ready() {
            return piece;
        }
        self.late.as_mut().poll(cx).map(|()| {
            let late = io::Error::from(io::ErrorKind::TimedOut);
            Some(Err(PayloadError::Io(late)))
        })
    }
}

/// The body of `request` ends with an error when it is not there in time.
pub(super) fn bound_body(request: &mut ServiceRequest) -> Held {
    let body = Rc::new(RefCell::new(request.take_payload()));
    let timely = Timely {
        body: body.clone(),
        late: Box::pin(sleep(BODY)),
    };
    let payload = Box::pin(timely);
    request.set_payload(Payload::Stream { payload });
    Held { _body: body }
}
