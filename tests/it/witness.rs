//! A witness of c2sp.org/tlog-witness on a loopback socket, as strict as its specification: it
//! remembers size and root of one log, and cosigns only what extends them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use weighbridge::crypto::{CheckpointKey, ed25519_holds};
use weighbridge_verifier::checkpoint::{Checkpoint, CheckpointError, Submission};
use weighbridge_verifier::note::{KeyKind, NoteError, NoteKey, NoteSignature, cosigned};
use weighbridge_verifier::tree::is_consistent;
use weighbridge_verifier::{Hash, sha256};

/// What a witness knows.
struct Memory {
    log: NoteKey,
    key: CheckpointKey,
    size: u64,
    root: Hash,
    /// The status of every answer.
    answers: Vec<u16>,
}

/// A running witness.
pub struct Witness {
    address: SocketAddr,
    memory: Arc<Mutex<Memory>>,
    thread: Option<JoinHandle<()>>,
}

const NAME: &str = "witness.example/w1";

impl Witness {
    /// One that takes the log of this key, `NAME+ID+BASE64`.
    pub fn start(log: &str) -> Self {
        let memory = Memory {
            log: log.parse().unwrap(),
            key: CheckpointKey::generate(),
            size: 0,
            root: sha256(&[]),
            answers: Vec::new(),
        };
        let memory = Arc::new(Mutex::new(memory));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let of_thread = memory.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if !serve(stream.unwrap(), &of_thread) {
                    break;
                }
            }
        });
        Self {
            address,
            memory,
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/w1", self.address)
    }

    pub fn key(&self) -> String {
        own_key(&self.memory.lock().unwrap().key).to_string()
    }

    /// The status of every answer since this was last asked.
    pub fn answers(&self) -> Vec<u16> {
        std::mem::take(&mut self.memory.lock().unwrap().answers)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // A connection that says nothing ends it.
        drop(TcpStream::connect(self.address));
        let _ = self.thread.take().unwrap().join();
    }
}

fn own_key(key: &CheckpointKey) -> NoteKey {
    let KeyKind::Ed25519(public) = key.note_key(NAME).key else {
        unreachable!("it is an Ed25519 key");
    };
    NoteKey {
        name: NAME.to_owned(),
        key: KeyKind::Cosignature(public),
    }
}

/// Answers one request; false when there was none.
fn serve(stream: TcpStream, memory: &Mutex<Memory>) -> bool {
    let mut reader = BufReader::new(stream);
    let (mut length, mut request) = (0, String::new());
    if reader.read_line(&mut request).unwrap_or(0) == 0 {
        return false;
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    assert_eq!(request, "POST /w1/add-checkpoint HTTP/1.1\r\n");
    let mut memory = memory.lock().unwrap();
    let (status, kind, answer) = match memory.add_checkpoint(&body) {
        Ok(line) => (200, "text/plain", line.to_string()),
        Err((409, size)) => (409, "text/x.tlog.size", format!("{size}\n")),
        Err((status, _)) => (status, "text/plain", String::new()),
    };
    memory.answers.push(status);
    let length = answer.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{answer}"
    );
    reader.get_mut().write_all(head.as_bytes()).unwrap();
    true
}

impl Memory {
    /// The checks of the specification, in its order; what is wrong as a status, with the size seen.
    fn add_checkpoint(&mut self, body: &[u8]) -> Result<NoteSignature, (u16, u64)> {
        let fail = |status| (status, self.size);
        let sent = Submission::parse(body).map_err(|error: CheckpointError| {
            eprintln!("the witness was sent what it cannot read: {error}");
            fail(400)
        })?;
        let checkpoint = Checkpoint::parse(&sent.note.text).map_err(|_| fail(400))?;
        if checkpoint.origin != self.log.name {
            return Err(fail(404));
        }
        let signed: Result<_, NoteError> = sent.note.verify(&self.log, ed25519_holds);
        signed.map_err(|_| fail(403))?;
        if sent.old > checkpoint.size {
            return Err(fail(400));
        }
        if sent.old != self.size {
            return Err(fail(409));
        }
        let (was, is) = ((self.size, &self.root), (checkpoint.size, &checkpoint.root));
        if !is_consistent(was, is, &sent.proof) {
            return Err(fail(422));
        }
        (self.size, self.root) = (checkpoint.size, checkpoint.root);
        let time = weighbridge::model::now() as u64 / 1_000_000_000;
        let signature = self.key.sign(NAME, &cosigned(time, &sent.note.text));
        let stamped = [&time.to_be_bytes()[..], &signature.signature].concat();
        Ok(own_key(&self.key).line(&stamped))
    }
}
