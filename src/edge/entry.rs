//! How a connection to a hub begins: under which key, and what both sides say first.

use super::lane::Lane;
use super::uplink::{
    ANSWER, FIRST_WAIT, LONGEST_WAIT, Lanes, Reader, Stream, Target, Uplink, Writer,
};
use crate::crypto::pinned_tls::{self, ClientConfig};
use crate::crypto::{Identity, Signer};
use crate::model::now;
use crate::protocols::edge::Introduction;
use crate::protocols::edge::wire::{self, EDGE_PROTOCOL, Hello, MAX_FRAME, Welcome, WireError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncWriteExt, BufReader, BufWriter, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A connection on which both sides have said who they are.
pub(super) struct Entry {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    /// The lanes that the hub was greeted with.
    pub(super) lanes: Lanes,
    pub(super) welcome: Welcome,
}

impl Uplink {
    /// Connects and greets: under the key in use, and under the next one where the hub lets in that one only.
    pub(super) async fn enter(&self, target: &Target) -> Result<Entry, String> {
        let refused = match self.greeted(target, &self.key.current()).await {
            Ok(entry) => return Ok(entry),
            Err(reason) => reason,
        };
        let Some(next) = self.key.next() else {
            return Err(refused);
        };
        match self.greeted(target, &next).await {
            Ok(entry) => {
                self.goes_by(&next);
                Ok(entry)
            }
            Err(_) => Err(refused),
        }
    }

    /// Connects under `identity`; what the hub answers to the greeting.
    async fn greeted(&self, target: &Target, identity: &Identity) -> Result<Entry, String> {
        let (reader, writer) = split(reach(target, identity).await?);
        let mut reader = BufReader::new(reader);
        let mut writer = BufWriter::with_capacity(64 << 10, writer);
        let lanes = self.lanes.borrow().clone();
        let welcome = timeout(ANSWER, greet(&lanes, &mut reader, &mut writer));
        let welcome = match welcome.await {
            Ok(welcome) => welcome.map_err(|e| e.to_string())?,
            Err(_) => return Err("it did not answer the greeting".to_owned()),
        };
        self.heard.store(now(), Ordering::Relaxed);
        Ok(Entry {
            reader,
            writer,
            lanes,
            welcome,
        })
    }

    pub(super) fn goes_by(&self, next: &Arc<Identity>) {
        self.key.succeed_with(next);
        tracing::info!(key = %next.public_key(), "the edge node signs by its new key");
    }

    /// Waits for a key that is to take the place of the one in use, and tries until the hub lets it in. The
    /// hub ends the connection before; `trying` while that may be.
    pub(super) async fn go_over(
        &self,
        target: &Target,
        trying: &AtomicBool,
    ) -> (Arc<Identity>, Entry) {
        let mut wait = FIRST_WAIT;
        loop {
            let next = self.key.offered().await;
            trying.store(true, Ordering::Relaxed);
            let greeted = self.greeted(target, &next).await;
            trying.store(false, Ordering::Relaxed);
            match greeted {
                Ok(entry) => return (next, entry),
                Err(reason) => tracing::info!(reason, "the hub does not let in the new key yet"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

async fn greet(
    lanes: &[Arc<Lane>],
    reader: &mut Reader,
    writer: &mut Writer,
) -> Result<Welcome, WireError> {
    let hello = Hello {
        version: EDGE_PROTOCOL,
        devices: lanes.iter().map(|lane| lane.hello()).collect(),
    };
    wire::write(writer, &hello).await?;
    writer.flush().await?;
    wire::read(reader, "welcome", MAX_FRAME).await
}

/// Connects to the hub under `identity`; to one that shows another key than it is known by once it has said
/// by which records it has that one.
async fn reach(target: &Target, identity: &Identity) -> Result<Stream, String> {
    let tls = || target.known.tls(identity).map_err(|e| e.to_string());
    let refused = match connect(&target.address, tls()?).await {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    if !pinned_tls::is_other_key(&refused) {
        return Err(refused.to_string());
    }
    let strange = |why: String| format!("it shows another key than it is known by: {why}");
    let asking = pinned_tls::asking(identity).map_err(|e| strange(e.to_string()))?;
    let asked = connect(&target.address, asking).await;
    let mut asked = asked.map_err(|e| strange(e.to_string()))?;
    let said = timeout(ANSWER, Introduction::read(&mut asked)).await;
    let said = said.map_err(|_| strange("it does not say who it is".to_owned()))?;
    let said = said.map_err(|e| strange(e.to_string()))?;
    target.known.meet(&said).map_err(strange)?;
    let again = connect(&target.address, tls()?).await;
    again.map_err(|e| e.to_string())
}

async fn connect(address: &str, tls: Arc<ClientConfig>) -> std::io::Result<Stream> {
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(tls);
        connector.connect(pinned_tls::any_name(), stream).await
    };
    match timeout(ANSWER, connecting).await {
        Ok(connected) => connected,
        Err(_) => {
            let silent = format!("it did not answer within {} s", ANSWER.as_secs());
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, silent))
        }
    }
}
