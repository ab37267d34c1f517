//! A real conversation with the server, recorded chunk by chunk, and held again with other words.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How the token of a session begins as it is encoded: an opaque node id of 32 bytes in namespace 0.
const TOKEN: [u8; 7] = [5, 0, 0, 32, 0, 0, 0];

/// What a client said, chunk by chunk, and the token that it was given.
pub(super) struct Conversation {
    pub(super) chunks: Vec<Vec<u8>>,
    token: Vec<u8>,
}

/// One side's whole chunks.
async fn forward(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    heard: Arc<parking_lot::Mutex<Vec<Vec<u8>>>>,
) {
    while let Some(chunk) = chunk(&mut from).await {
        heard.lock().push(chunk.clone());
        if to.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

/// The next chunk; `None` at the end.
pub(super) async fn chunk(from: &mut (impl AsyncReadExt + Unpin)) -> Option<Vec<u8>> {
    let mut chunk = vec![0; 8];
    from.read_exact(&mut chunk).await.ok()?;
    let size = u32::from_le_bytes(chunk[4..8].try_into().unwrap()) as usize;
    chunk.resize(size.max(8), 0);
    from.read_exact(&mut chunk[8..]).await.ok()?;
    Some(chunk)
}

fn token_in(chunk: &[u8]) -> Option<&[u8]> {
    let at = chunk.windows(TOKEN.len()).position(|w| w == TOKEN)?;
    chunk.get(at + TOKEN.len()..at + TOKEN.len() + 32)
}

impl Conversation {
    /// Has a client connect through a proxy, and do a little of everything.
    pub(super) async fn record(hub: &Hub) -> Self {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = proxy.local_addr().unwrap().port();
        let said: Arc<parking_lot::Mutex<Vec<Vec<u8>>>> = Arc::default();
        let answered: Arc<parking_lot::Mutex<Vec<Vec<u8>>>> = Arc::default();
        let (requests, answers) = (Arc::clone(&said), Arc::clone(&answered));
        let server = ("127.0.0.1", hub.server.port());
        let relaying = tokio::spawn(async move {
            // The client asks for the endpoints first, over a connection of its own.
            let mut both = JoinSet::new();
            while let Ok((client, _)) = proxy.accept().await {
                requests.lock().clear();
                answers.lock().clear();
                let (from_client, to_client) = client.into_split();
                let server = TcpStream::connect(server).await.unwrap();
                let (from_server, to_server) = server.into_split();
                both.spawn(forward(from_client, to_server, requests.clone()));
                both.spawn(forward(from_server, to_client, answers.clone()));
            }
        });
        let url = format!("opc.tcp://127.0.0.1:{at}/");
        let endpoint = (
            url.as_str(),
            SecurityPolicy::None.to_str(),
            MessageSecurityMode::None,
            UserTokenPolicy::anonymous(),
        );
        let (session, events) = client(hub.dir.path())
            .connect_to_endpoint_directly(endpoint, IdentityToken::Anonymous)
            .unwrap();
        let _driver = events.spawn();
        assert!(session.wait_for_connection().await);
        let node = tag_node(&session, "setpoint").await;
        read(&session, &node).await;
        let mut values = subscribe(&session, &node).await;
        values.recv().await.unwrap();
        let write = opcua::types::WriteValue {
            node_id: node.clone(),
            attribute_id: AttributeId::Value as u32,
            value: Variant::Double(1.0).into(),
            ..Default::default()
        };
        session.write(&[write]).await.unwrap();
        let browse = opcua::types::BrowseDescription {
            node_id: ObjectId::ObjectsFolder.into(),
            include_subtypes: true,
            ..Default::default()
        };
        session.browse(&[browse], 10, None).await.unwrap();
        relaying.abort();
        let token = answered
            .lock()
            .iter()
            .find_map(|c: &Vec<u8>| token_in(c).map(<[u8]>::to_vec));
        let chunks = said.lock().clone();
        assert!(chunks.len() > 8, "{} chunks", chunks.len());
        Self {
            chunks,
            token: token.unwrap(),
        }
    }

    /// Holds it again, each chunk changed by `change` before it is sent; as far as the server goes
    /// along. Returns the connection.
    pub(super) async fn hold(
        &self,
        port: u16,
        mut change: impl FnMut(usize, &mut Vec<u8>),
    ) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut channel, mut token) = ([0; 8], self.token.clone());
        for (index, chunk_then) in self.chunks.iter().enumerate() {
            let mut said = chunk_then.clone();
            if said.starts_with(b"MSG") {
                // Of this channel and this session.
                said[8..16].copy_from_slice(&channel);
                let length = self.token.len();
                let old = said.windows(length).position(|w| w == self.token);
                if let Some(at) = old {
                    said[at..at + length].copy_from_slice(&token);
                }
            }
            change(index, &mut said);
            if stream.write_all(&said).await.is_err() {
                break;
            }
            let waiting = tokio::time::timeout(Duration::from_millis(50), chunk(&mut stream));
            match waiting.await {
                // No answer, as to a Publish.
                Err(_) => {}
                Ok(None) => break,
                Ok(Some(answer)) if answer.starts_with(b"OPN") => {
                    // The channel is in the header, its token behind the response's own header.
                    channel[..4].copy_from_slice(&answer[8..12]);
                    let at = answer.windows(4).skip(12).position(|w| w == &answer[8..12]);
                    if let Some(id) = at.and_then(|at| answer.get(at + 16..at + 20)) {
                        channel[4..].copy_from_slice(id);
                    }
                }
                Ok(Some(answer)) => {
                    if let Some(new) = token_in(&answer) {
                        token = new.to_vec();
                    }
                }
            }
        }
        stream
    }
}
