//! The outermost layer of OPC UA over TCP: the headers of message chunks (OPC 10000-6 §6.7, §7.1).
//! Only what the guard must know to keep strangers from filling memory.

/// Bytes of a chunk's header: type, chunk type, size.
pub(super) const HEADER: usize = 8;
/// The largest chunk that is ever accepted.
pub(super) const MAX_CHUNK: usize = 65_535;
/// The largest Hello: its URL may have 4,096 bytes.
const MAX_HELLO: usize = 32 + 4_096;
/// The largest OpenSecureChannel: policy, certificate chain, thumbprint, and one encrypted block.
const MAX_OPEN: usize = 16_384;
/// Bytes from a symmetric chunk's start to the type of its message.
const MESSAGE_TYPE_AT: usize = 24;

/// Kinds of chunks that a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkKind {
    Hello,
    Open,
    Message,
    Close,
}

/// A chunk's header that was found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkHeader {
    pub(super) kind: ChunkKind,
    /// Whether the message ends (or is aborted) with this chunk.
    pub(super) last: bool,
    /// Bytes of the whole chunk.
    pub(super) size: usize,
}

/// What is wrong with bytes that a client sent; its numbers are status codes (OPC 10000-6 Annex A).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChunkError {
    #[error("not a message of OPC UA")]
    Kind,
    #[error("a chunk is larger than was agreed")]
    TooLarge,
    #[error("a chunk is smaller than its header")]
    TooSmall,
    #[error("a message is larger than is allowed")]
    MessageTooLarge,
    #[error("a message came out of order")]
    Order,
    #[error("this security policy is not offered")]
    Policy,
    #[error("only discovery is possible without security")]
    Discovery,
}

impl ChunkError {
    /// For the sums of what was no message.
    pub(super) fn in_short(self) -> &'static str {
        match self {
            Self::Kind => "no message of OPC UA",
            Self::TooLarge | Self::MessageTooLarge => "too large",
            Self::TooSmall => "chunk smaller than its header",
            Self::Order => "message out of order",
            Self::Policy => "unknown security policy",
            Self::Discovery => "request without security",
        }
    }

    pub(super) fn status(self) -> u32 {
        match self {
            Self::Kind | Self::Order => 0x807E_0000,
            Self::TooLarge | Self::MessageTooLarge => 0x8080_0000,
            Self::TooSmall => 0x8007_0000,
            Self::Policy => 0x8055_0000,
            Self::Discovery => 0x8013_0000,
        }
    }
}

impl ChunkHeader {
    /// Reads a client's header; a message chunk may have `agreed` bytes at most.
    pub(super) fn read(bytes: &[u8; HEADER], agreed: usize) -> Result<Self, ChunkError> {
        let [a, b, c, ending, size @ ..] = *bytes;
        let (kind, most) = match &[a, b, c] {
            b"HEL" => (ChunkKind::Hello, MAX_HELLO),
            b"OPN" => (ChunkKind::Open, MAX_OPEN.min(agreed)),
            b"MSG" => (ChunkKind::Message, agreed),
            b"CLO" => (ChunkKind::Close, agreed),
            _ => return Err(ChunkError::Kind),
        };
        let last = match ending {
            b'F' => true,
            b'A' | b'C' if kind == ChunkKind::Message => ending == b'A',
            _ => return Err(ChunkError::Kind),
        };
        let size = u32::from_le_bytes(size) as usize;
        if size > most.min(MAX_CHUNK) {
            return Err(ChunkError::TooLarge);
        }
        if size <= HEADER {
            return Err(ChunkError::TooSmall);
        }
        Ok(Self { kind, last, size })
    }
}

/// The security policy that an OpenSecureChannel chunk names.
pub(super) fn policy_of_open(chunk: &[u8]) -> Option<&str> {
    let length = u32::from_le_bytes(chunk.get(12..16)?.try_into().ok()?) as usize;
    let uri = chunk.get(16..)?.get(..length)?;
    std::str::from_utf8(uri).ok()
}

/// The numeric id, in namespace 0, of the message in an unencrypted chunk.
pub(super) fn message_type(chunk: &[u8]) -> Option<u16> {
    match chunk.get(MESSAGE_TYPE_AT..MESSAGE_TYPE_AT + 4)? {
        // Four-byte encoding of a node id (OPC 10000-6 §5.2.2.9).
        [1, 0, low, high] => Some(u16::from_le_bytes([*low, *high])),
        _ => None,
    }
}

/// Whether a message of this type only asks what servers and endpoints there are.
pub(super) fn is_discovery(message_type: u16) -> bool {
    const FIND_SERVERS: u16 = 422;
    const GET_ENDPOINTS: u16 = 428;
    const FIND_SERVERS_ON_NETWORK: u16 = 12_208;
    matches!(
        message_type,
        FIND_SERVERS | GET_ENDPOINTS | FIND_SERVERS_ON_NETWORK
    )
}

/// The receive buffer that a server's Acknowledge grants: the largest chunk its client may send.
pub(super) fn granted_by_acknowledge(chunk: &[u8]) -> Option<usize> {
    if !chunk.starts_with(b"ACKF") {
        return None;
    }
    let bytes = chunk.get(12..16)?.try_into().ok()?;
    Some(u32::from_le_bytes(bytes) as usize)
}

/// The secure channel that an OpenSecureChannel response is of; `None` for any other chunk.
pub(super) fn opened_channel(chunk: &[u8]) -> Option<u32> {
    if !chunk.starts_with(b"OPNF") {
        return None;
    }
    let bytes = chunk.get(HEADER..HEADER + 4)?.try_into().ok()?;
    Some(u32::from_le_bytes(bytes))
}

/// An ActivateSessionResponse on an unencrypted channel with the nonce that the stack leaves out; `None`
/// for any other chunk.
///
/// The standard asks for 32 bytes or more whatever the policy (OPC 10000-4 §5.6.3.2), and clients of
/// open62541 refuse a response without. Nothing is ever signed or encrypted with it on such a
/// channel: it accepts anonymous users only.
pub(super) fn add_missing_nonce(
    chunk: &[u8],
    nonce: impl FnOnce() -> Option<[u8; 32]>,
) -> Option<Vec<u8>> {
    const ACTIVATE_SESSION_RESPONSE: u16 = 470;
    // Null nonce, no results, no diagnostics: how the stack ends the message.
    const ENDING: [u8; 12] = [0xff; 12];
    let ends = chunk.starts_with(b"MSGF")
        && message_type(chunk) == Some(ACTIVATE_SESSION_RESPONSE)
        && chunk.ends_with(&ENDING);
    if !ends {
        return None;
    }
    let nonce = nonce()?;
    let mut patched = chunk.strip_suffix(&ENDING)?.to_vec();
    patched.extend_from_slice(&(nonce.len() as u32).to_le_bytes());
    patched.extend_from_slice(&nonce);
    patched.extend_from_slice(&ENDING[..8]);
    let size = (patched.len() as u32).to_le_bytes();
    patched.get_mut(4..8)?.copy_from_slice(&size);
    Some(patched)
}

/// Whether a chunk of a server ends the answer to a request.
pub(super) fn ends_answer(chunk: &[u8]) -> bool {
    chunk.starts_with(b"MSGF") || chunk.starts_with(b"MSGA")
}

/// Whether a client's message is given up with this chunk.
pub(super) fn is_aborted(chunk: &[u8]) -> bool {
    chunk.starts_with(b"MSGA")
}

/// Whether a chunk of the stack says that it has not the keys of a message any more: they are of a
/// token from before the channel was renewed, and it forgets them too early.
pub(super) fn lost_its_keys(chunk: &[u8]) -> bool {
    const BAD_SECURE_CHANNEL_CLOSED: u32 = 0x8086_0000;
    let status = chunk.get(HEADER..).and_then(|rest| rest.first_chunk());
    chunk.starts_with(b"ERRF") && status == Some(&BAD_SECURE_CHANNEL_CLOSED.to_le_bytes())
}

/// An Error message, after which the connection is closed.
pub(super) fn error_message(status: u32, reason: &str) -> Vec<u8> {
    let mut message = b"ERRF".to_vec();
    let size = (HEADER + 8 + reason.len()) as u32;
    message.extend_from_slice(&size.to_le_bytes());
    message.extend_from_slice(&status.to_le_bytes());
    message.extend_from_slice(&(reason.len() as u32).to_le_bytes());
    message.extend_from_slice(reason.as_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(kind: &[u8; 4], size: u32) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(kind);
        bytes[4..].copy_from_slice(&size.to_le_bytes());
        bytes
    }

    #[test]
    fn headers_are_held_to_their_bounds() {
        let read = |kind, size| ChunkHeader::read(&header(kind, size), 8_192);
        assert_eq!(read(b"MSGC", 8_192).map(|h| h.last), Ok(false));
        assert_eq!(read(b"MSGA", 100).map(|h| h.last), Ok(true));
        assert_eq!(read(b"MSGF", 8_193), Err(ChunkError::TooLarge));
        assert_eq!(read(b"HELF", 5_000), Err(ChunkError::TooLarge));
        assert_eq!(read(b"HELF", 8), Err(ChunkError::TooSmall));
        assert_eq!(read(b"OPNC", 100), Err(ChunkError::Kind));
        assert_eq!(read(b"RHEF", 100), Err(ChunkError::Kind));
        assert_eq!(read(b"ACKF", 100), Err(ChunkError::Kind));
        let wide = ChunkHeader::read(&header(b"MSGF", 70_000), usize::MAX);
        assert_eq!(wide, Err(ChunkError::TooLarge));
    }

    #[test]
    fn a_missing_nonce_is_added_and_nothing_else_changes() {
        let mut chunk = header(b"MSGF", 0).to_vec();
        chunk.extend([7; 16]);
        chunk.extend([1, 0, 0xd6, 1]);
        chunk.extend([9; 24]);
        let body = chunk.clone();
        chunk.extend([0xff; 12]);
        let chunk = add_missing_nonce(&chunk, || Some([5; 32])).unwrap();
        assert_eq!(chunk[8..body.len()], body[8..]);
        assert_eq!(chunk[body.len()..][..4], 32u32.to_le_bytes());
        assert_eq!(chunk[body.len() + 4..][..32], [5; 32]);
        assert_eq!(chunk[body.len() + 36..], [0xff; 8]);
        assert_eq!(chunk[4..8], (chunk.len() as u32).to_le_bytes());

        assert_eq!(add_missing_nonce(&chunk, || Some([6; 32])), None);
    }

    #[test]
    fn lost_keys_are_told_from_other_errors() {
        assert!(lost_its_keys(&error_message(
            0x8086_0000,
            "Transport error"
        )));
        assert!(!lost_its_keys(&error_message(
            0x8087_0000,
            "Transport error"
        )));
        assert!(!lost_its_keys(b"ERRF"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = policy_of_open(&bytes);
            let _ = message_type(&bytes);
            let _ = granted_by_acknowledge(&bytes);
            let _ = add_missing_nonce(&bytes, || Some([0; 32]));
            let _ = ends_answer(&bytes);
            let _ = lost_its_keys(&bytes);
            let read = bytes.first_chunk().map(|head| ChunkHeader::read(head, 65_535));
            if let Some(Ok(header)) = read {
                prop_assert!(header.size > HEADER && header.size <= MAX_CHUNK);
            }
        }
    }
}
