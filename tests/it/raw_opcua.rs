//! A client of OPC UA that says what it is told to, chunk by chunk: policy None, blocking, and no manners.

use opcua::core::{Message, RequestMessage, ResponseMessage};
use opcua::types::{
    ActivateSessionRequest, AnonymousIdentityToken, BinaryDecodable, BinaryEncodable, ContextOwned,
    CreateSessionRequest, DateTime, ExtensionObject, MessageSecurityMode, NodeId,
    OpenSecureChannelRequest, RequestHeader, SecurityTokenRequestType, StatusCode, UAString,
};
use std::io::{self, Cursor, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
/// The largest chunk that is agreed upon.
pub const CHUNK: usize = 65_535;
/// Bytes of a message chunk before its message: chunk, channel, token, sequence and request.
pub const HEADERS: usize = 24;

/// A connection, its channel and its session.
pub struct RawClient {
    pub stream: TcpStream,
    url: String,
    channel: [u8; 8],
    sequence: u32,
    token: NodeId,
}

fn chunk(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let size = 8 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut chunk = kind.to_vec();
    chunk.extend((size as u32).to_le_bytes());
    chunk.extend(parts.concat());
    chunk
}

fn encoded(message: &RequestMessage) -> Vec<u8> {
    let context = ContextOwned::default();
    let context = context.context();
    let mut bytes = message.type_id().encode_to_vec(&context);
    bytes.extend(message.encode_to_vec(&context));
    bytes
}

impl RawClient {
    /// Says Hello, and has a channel opened; an error when the server hangs up instead.
    pub fn open(url: &str) -> io::Result<Self> {
        let address = url.trim_start_matches("opc.tcp://").trim_end_matches('/');
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            url: url.to_owned(),
            channel: [0; 8],
            sequence: 0,
            token: NodeId::null(),
        };
        let sizes = [0, CHUNK as u32, CHUNK as u32, 0, 0, url.len() as u32];
        let sizes = sizes.map(u32::to_le_bytes).concat();
        client
            .stream
            .write_all(&chunk(b"HELF", &[&sizes, url.as_bytes()]))?;
        let acknowledged = client.chunk()?;
        if !acknowledged.starts_with(b"ACKF") {
            return Err(io::Error::other("not acknowledged"));
        }
        let request = OpenSecureChannelRequest {
            request_header: client.header(),
            request_type: SecurityTokenRequestType::Issue,
            security_mode: MessageSecurityMode::None,
            requested_lifetime: 3_600_000,
            ..Default::default()
        };
        let policy = b"http://opcfoundation.org/UA/SecurityPolicy#None";
        let length = (policy.len() as u32).to_le_bytes();
        client.sequence += 1;
        let numbers = [client.sequence, client.sequence]
            .map(u32::to_le_bytes)
            .concat();
        let opening = chunk(
            b"OPNF",
            &[
                &[0; 4],
                &length,
                policy,
                &[0xff; 8],
                &numbers,
                &encoded(&request.into()),
            ],
        );
        client.stream.write_all(&opening)?;
        let answer = client.chunk()?;
        let body = answer
            .get(8 + 4 + 4 + policy.len() + 8 + 8..)
            .unwrap_or_default();
        match decoded(body) {
            Some(ResponseMessage::OpenSecureChannel(opened)) => {
                let token = &opened.security_token;
                client.channel[..4].copy_from_slice(&token.channel_id.to_le_bytes());
                client.channel[4..].copy_from_slice(&token.token_id.to_le_bytes());
                Ok(client)
            }
            other => Err(io::Error::other(format!("no channel: {other:?}"))),
        }
    }

    /// Logs in as nobody in particular, in a session that outlives `silence`.
    pub fn log_in(url: &str, silence: Duration) -> io::Result<Self> {
        let mut client = Self::open(url)?;
        client.session(silence)?;
        Ok(client)
    }

    /// Has a session made, and activated; what the server says where it refuses.
    pub fn session(&mut self, silence: Duration) -> io::Result<()> {
        let created = self.call(CreateSessionRequest {
            request_header: self.header(),
            endpoint_url: self.url.as_str().into(),
            session_name: "raw".into(),
            requested_session_timeout: silence.as_secs_f64() * 1000.0,
            ..Default::default()
        })?;
        let ResponseMessage::CreateSession(created) = created else {
            return Err(io::Error::other(format!("{:?}", status(&created))));
        };
        self.token = created.authentication_token.clone();
        let identity = AnonymousIdentityToken {
            policy_id: UAString::from("anonymous"),
        };
        let activated = self.call(ActivateSessionRequest {
            request_header: self.header(),
            user_identity_token: ExtensionObject::from_message(identity),
            ..Default::default()
        })?;
        match activated {
            ResponseMessage::ActivateSession(_) => Ok(()),
            other => Err(io::Error::other(format!("{:?}", status(&other)))),
        }
    }

    /// The header of this session's requests.
    pub fn header(&self) -> RequestHeader {
        RequestHeader {
            authentication_token: self.token.clone(),
            timestamp: DateTime::now(),
            timeout_hint: 30_000,
            request_handle: self.sequence + 1,
            ..Default::default()
        }
    }

    /// The bytes of a request, in one chunk or several.
    pub fn chunks(&mut self, request: impl Into<RequestMessage>) -> Vec<Vec<u8>> {
        let body = encoded(&request.into());
        let request = self.sequence + 1;
        let parts: Vec<_> = body.chunks(CHUNK - HEADERS).collect();
        let mut chunks = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let kind = if index + 1 < parts.len() {
                b"MSGC"
            } else {
                b"MSGF"
            };
            chunks.push(self.chunk_of(kind, request, part));
        }
        chunks
    }

    /// A chunk of a message.
    pub fn chunk_of(&mut self, kind: &[u8; 4], request: u32, part: &[u8]) -> Vec<u8> {
        self.sequence += 1;
        let numbers = [self.sequence, request].map(u32::to_le_bytes).concat();
        chunk(kind, &[&self.channel, &numbers, part])
    }

    /// Asks, and waits for the answer.
    pub fn call(&mut self, request: impl Into<RequestMessage>) -> io::Result<ResponseMessage> {
        for chunk in self.chunks(request) {
            self.stream.write_all(&chunk)?;
        }
        self.answer()
    }

    /// The next answer.
    pub fn answer(&mut self) -> io::Result<ResponseMessage> {
        let mut body = Vec::new();
        loop {
            let chunk = self.chunk()?;
            body.extend(chunk.get(HEADERS..).unwrap_or_default());
            if chunk.starts_with(b"MSGF") {
                let message = decoded(&body);
                return message.ok_or_else(|| io::Error::other("not an answer"));
            }
            if !chunk.starts_with(b"MSGC") {
                return Err(io::Error::other(String::from_utf8_lossy(&chunk)));
            }
        }
    }

    fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let mut chunk = vec![0; 8];
        self.stream.read_exact(&mut chunk)?;
        let size = u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]) as usize;
        chunk.resize(size.max(8), 0);
        self.stream.read_exact(&mut chunk[8..])?;
        Ok(chunk)
    }
}

fn decoded(body: &[u8]) -> Option<ResponseMessage> {
    let mut stream = Cursor::new(body);
    let context = ContextOwned::default();
    let id = NodeId::decode(&mut stream, &context.context()).ok()?;
    let id = id.as_object_id().ok()?;
    ResponseMessage::decode_by_object_id(&mut stream, id, &context.context()).ok()
}

/// What an answer says of the request as a whole.
pub fn status(answer: &ResponseMessage) -> StatusCode {
    answer.response_header().service_result
}
