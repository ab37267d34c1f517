//! Checkpoints (c2sp.org/tlog-checkpoint): the size and root of a chain's tree, as a signed note; and
//! what is sent to a witness with one (c2sp.org/tlog-witness).

use crate::hash::{Hash, sha256};
use crate::note::{MAX_NOTE, Note, NoteError};
use crate::tree::MAX_PROOF;
use base64ct::{Base64, Encoding};
use std::fmt;

/// What `sha256` makes and its base64 with padding.
const HASH_DIGITS: usize = 44;

/// Why something is not a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It is no note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text is no tree head.
    #[error("the note is no checkpoint: {0}")]
    Text(&'static str),
    /// What stands before the checkpoint is no proof.
    #[error("it is no consistency proof: {0}")]
    Proof(&'static str),
}

/// The head of a log's tree: which log, how many leaves, which root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Number of leaves: the height of the newest block.
    pub size: u64,
    /// Root of the tree.
    pub root: Hash,
    /// Further lines, which mean nothing here.
    pub extensions: Vec<String>,
}

/// Name of the log that keeps the chain `chain` with this first block. Who begins a chain anew begins
/// another log, so one name never stands for two histories.
pub fn origin(chain: &str, genesis: &Hash) -> String {
    let genesis = genesis.to_string();
    format!("weighbridge/{chain}/{}", &genesis[..32])
}

impl Checkpoint {
    /// Reads the text of a note.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let wrong = CheckpointError::Text;
        let whole = text.strip_suffix('\n').ok_or(wrong("it does not end"))?;
        let mut lines = whole.split('\n');
        let origin = lines.next().filter(|line| !line.is_empty());
        let origin = origin.ok_or(wrong("it names no log"))?;
        let size = lines.next().and_then(decimal);
        let size = size.ok_or(wrong("its second line is no size"))?;
        let root = lines.next().and_then(hash);
        let root = root.ok_or(wrong("its third line is no root"))?;
        if size == 0 && root != sha256(&[]) {
            return Err(wrong("an empty tree has another root"));
        }
        let extensions: Vec<_> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(wrong("it has an empty line"));
        }
        Ok(Self {
            origin: origin.to_owned(),
            size,
            root,
            extensions,
        })
    }
}

/// The text of the note.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = Base64::encode_string(&self.root.0);
        writeln!(f, "{}\n{}\n{root}", self.origin, self.size)?;
        let mut more = self.extensions.iter();
        more.try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// A checkpoint with the proof that it extends an earlier one: the body of `add-checkpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Size of the earlier tree.
    pub old: u64,
    /// The proof; nothing when `old` is 0 or the size is the same.
    pub proof: Vec<Hash>,
    /// The checkpoint, signed.
    pub note: Note,
}

impl Submission {
    /// Reads one.
    pub fn parse(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let wrong = CheckpointError::Proof;
        if bytes.len() > MAX_NOTE + (MAX_PROOF + 1) * (HASH_DIGITS + 1) {
            return Err(NoteError::Long.into());
        }
        let text = str::from_utf8(bytes).map_err(|_| NoteError::Text)?;
        let (head, note) = text.split_once("\n\n").ok_or(wrong("it has no end"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old "));
        let old = old.and_then(decimal);
        let old = old.ok_or(wrong("it does not begin with `old SIZE`"))?;
        let proof = lines.map(|line| hash(line).ok_or(wrong("a line of it is no hash")));
        let proof: Vec<_> = proof.collect::<Result<_, _>>()?;
        if proof.len() > MAX_PROOF {
            return Err(wrong("it has more than 63 hashes"));
        }
        let note = Note::parse(note.as_bytes())?;
        Ok(Self { old, proof, note })
    }
}

/// The body itself.
impl fmt::Display for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        for hash in &self.proof {
            writeln!(f, "{}", Base64::encode_string(&hash.0))?;
        }
        write!(f, "\n{}", self.note)
    }
}

/// A size: decimal, without leading zeros, below 2⁶³.
pub fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let number = plain.then(|| text.parse().ok()).flatten()?;
    i64::try_from(number).is_ok().then_some(number)
}

fn hash(text: &str) -> Option<Hash> {
    let mut bytes = [0; 32];
    let read = (text.len() == HASH_DIGITS).then(|| Base64::decode(text, &mut bytes));
    let whole = matches!(read, Some(Ok(read)) if read.len() == 32);
    whole.then_some(Hash(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request of c2sp.org/tlog-witness.
    const REQUEST: &str = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\n\
        example.com/behind-the-sofa\n20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        — example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";

    #[test]
    fn the_published_request_is_read_and_written_the_same() {
        let request = Submission::parse(REQUEST.as_bytes()).unwrap();
        assert_eq!((request.old, request.proof.len()), (20_852_014, 4));
        assert_eq!(request.to_string(), REQUEST);
        let checkpoint = Checkpoint::parse(&request.note.text).unwrap();
        assert_eq!(checkpoint.origin, "example.com/behind-the-sofa");
        assert_eq!(checkpoint.size, 20_852_163);
        assert_eq!(checkpoint.to_string(), request.note.text);
        let first = REQUEST.replace("20852014", "0");
        assert!(Submission::parse(first.as_bytes()).is_ok());
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
        let good = format!("a\n7\n{root}\n");
        assert!(Checkpoint::parse(&good).is_ok());
        let more = Checkpoint::parse(&format!("{good}x\n")).unwrap();
        assert_eq!(more.extensions, ["x"]);
        let empty = Checkpoint::parse("a\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n");
        assert_eq!(empty.unwrap().root, sha256(&[]));
        for bad in [
            format!("a\n0\n{root}\n"),
            format!("a\n7\n{root}"),
            format!("\n7\n{root}\n"),
            format!("a\n07\n{root}\n"),
            format!("a\n+7\n{root}\n"),
            format!("a\n\n{root}\n"),
            format!("a\n9223372036854775808\n{root}\n"),
            format!("a\n7\n{root}\n\n"),
            "a\n7\n\n".to_owned(),
            "a\n7\n".to_owned(),
            format!("a\n7\n{}\n", root.replace('=', "")),
            format!("a\n7\n{}\n", root.replace("2I=", "2J=")),
            "a\n7\nAAAA\n".to_owned(),
        ] {
            assert!(Checkpoint::parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_submission_is_refused() {
        let line = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n";
        for bad in [
            REQUEST.replace("old 20852014", "old 020852014"),
            REQUEST.replace("old 20852014", "old  20852014"),
            REQUEST.replace("old 20852014", "20852014"),
            REQUEST.replace("PlRN", "PlR"),
            REQUEST.replace(line, &line.repeat(64)),
            REQUEST.replace("\n\n", "\n"),
            String::new(),
        ] {
            assert!(Submission::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
