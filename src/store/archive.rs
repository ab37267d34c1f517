//! A directory of segments: what was retired, in files of their own, with a manifest of their hashes.
//!
//! A segment is written under another name, synced, read back as a whole, and only then given its name and put
//! into the manifest; whoever prunes waits for that. Nothing here is ever changed, and nothing removed.

use super::small_file;
use crate::ledger::erasure::erased::Erased;
use crate::ledger::key_wrap::sealing_key;
use crate::ledger::keys::{height_key, sealed_key};
use crate::ledger::retention::readback::{ReadBack, SegmentFiles};
use crate::ledger::retention::segment::{
    Part, SegmentError, SegmentHead, SegmentRef, SegmentWriter, read_segment,
};
use crate::ledger::store::{Space, Store, StoreError};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weighbridge_verifier::{Block, Hash, Record, Suite, decode};

/// Name of the manifest.
const MANIFEST: &str = "archive.json";
const VERSION: u32 = 1;
/// Largest manifest that is read.
const MAX_MANIFEST: usize = 64 << 20;
/// A segment ends with the block with which it reaches this size.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The directory, or a file in it.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// The manifest.
    #[error("{0} is no manifest of an archive: {1}")]
    Manifest(PathBuf, String),
    /// It is another ledger's.
    #[error(
        "{0} is the archive of another ledger, of the chain `{1}`; each needs a directory of its own"
    )]
    Other(PathBuf, String),
    /// A segment is not what was written.
    #[error("{0}: {1}")]
    Segment(PathBuf, SegmentError),
    /// A segment is another than the one that is named.
    #[error("{0} is not the file that is on record")]
    Differs(PathBuf),
    /// The ledger.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something of the ledger that should be archived is not there.
    #[error("block {0} cannot be archived: {1}; run `weighbridge verify`")]
    Block(u64, String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    version: u32,
    chain: String,
    suite: Suite,
    /// Hash of the ledger's first block.
    genesis: Hash,
    segments: Vec<SegmentRef>,
}

/// An archive.
#[derive(Clone, Debug)]
pub struct ArchiveDir {
    dir: PathBuf,
    manifest: Manifest,
}

impl ArchiveDir {
    /// The archive in `dir`.
    pub fn open(dir: &Path) -> Result<Self, ArchiveError> {
        let path = dir.join(MANIFEST);
        let failed = |e| ArchiveError::Io(path.clone(), e);
        let wrong = |why: String| ArchiveError::Manifest(path.clone(), why);
        let mut bytes = Vec::new();
        // Reserves what is there, not what may be.
        let limit = fs::metadata(&path).map_err(failed)?.len();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if limit > MAX_MANIFEST
            || !small_file::read_bounded(&path, limit, &mut bytes).map_err(failed)?
        {
            return Err(wrong("it is too long".to_owned()));
        }
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        match manifest.version {
            VERSION => Ok(Self {
                dir: dir.to_owned(),
                manifest,
            }),
            other => Err(wrong(format!(
                "the format version {other} is not known here"
            ))),
        }
    }

    /// The archive in `dir` of the ledger in `store`, which is made where it is not there.
    pub fn open_or_create(dir: &Path, store: &dyn Store) -> Result<Self, ArchiveError> {
        let first = block(store, 1)?;
        let manifest = Manifest {
            version: VERSION,
            chain: first.header.chain.clone(),
            suite: first.header.suite(),
            genesis: first.header.hash(),
            segments: Vec::new(),
        };
        if dir.join(MANIFEST).exists() {
            let found = Self::open(dir)?;
            return match found.manifest.genesis == manifest.genesis {
                true => Ok(found),
                false => Err(ArchiveError::Other(dir.to_owned(), found.manifest.chain)),
            };
        }
        small_file::make_directory(dir, true).map_err(|e| ArchiveError::Io(dir.to_owned(), e))?;
        let dir = dir.to_owned();
        let created = Self { dir, manifest };
        created.write_manifest()?;
        Ok(created)
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Id of the chain.
    pub fn chain(&self) -> &str {
        &self.manifest.chain
    }

    /// Hash of the ledger's first block.
    pub fn genesis(&self) -> Hash {
        self.manifest.genesis
    }

    /// Its segments, in the order in which they were written.
    pub fn segments(&self) -> &[SegmentRef] {
        &self.manifest.segments
    }

    /// Reads a segment through, checks all of it, and shows its parts to `see`.
    pub fn read(
        &self,
        segment: &SegmentRef,
        see: impl FnMut(Part),
    ) -> Result<SegmentHead, ArchiveError> {
        self.read_file(&self.dir.join(segment.file()), segment, see)
    }

    fn read_file(
        &self,
        path: &Path,
        segment: &SegmentRef,
        see: impl FnMut(Part),
    ) -> Result<SegmentHead, ArchiveError> {
        let file = File::open(path).map_err(|e| ArchiveError::Io(path.to_owned(), e))?;
        let wrong = |e| ArchiveError::Segment(path.to_owned(), e);
        let (head, found) = read_segment(BufReader::new(file), see).map_err(wrong)?;
        let same = found == *segment && head.genesis == self.manifest.genesis;
        match same && head.chain == self.manifest.chain {
            true => Ok(head),
            false => Err(ArchiveError::Differs(path.to_owned())),
        }
    }

    /// Archives the blocks at `heights`, which rise, with what they recorded and `store` still has: values of
    /// records up to height `gone` went earlier.
    pub fn write(
        &mut self,
        store: &dyn Store,
        heights: &[u64],
        gone: u64,
    ) -> Result<Vec<SegmentRef>, ArchiveError> {
        let erased = Erased::load(store);
        let erased = erased.map_err(|e| ArchiveError::Block(0, e.to_string()))?;
        let mut written = Vec::new();
        let mut heights = heights.iter().copied().peekable();
        while let Some(first) = heights.next() {
            let path = self.dir.join(format!(".blocks-{first:012}.new"));
            let failed = |e: io::Error| ArchiveError::Io(path.clone(), e);
            let file = new_file(&path).map_err(failed)?;
            let genesis = self.manifest.genesis;
            let head = SegmentHead::new(self.manifest.suite, &self.manifest.chain, genesis, first);
            let writer = SegmentWriter::begin(BufWriter::new(file), &head);
            let mut writer = writer.map_err(failed)?;
            let mut next = first;
            loop {
                let block = block(store, next)?;
                if let Err(why) = block.verify_body() {
                    return Err(ArchiveError::Block(next, why.to_string()));
                }
                writer.block(&block).map_err(failed)?;
                for record in &block.records {
                    if let Some(value) = value(store, &erased, next, record, gone)? {
                        writer.value(&value).map_err(failed)?;
                    }
                }
                let full = writer.bytes() >= SEGMENT_BYTES;
                let follows = |height: &u64| !full && next.checked_add(1) == Some(*height);
                match heights.next_if(follows) {
                    Some(height) => next = height,
                    None => break,
                }
            }
            let (out, segment) = writer.finish().map_err(failed)?;
            let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
            file.sync_all().map_err(failed)?;
            drop(file);
            self.read_file(&path, &segment, |_| ())?;
            fs::rename(&path, self.dir.join(segment.file())).map_err(failed)?;
            small_file::sync_directory(&self.dir).map_err(failed)?;
            written.push(segment);
        }
        let listed = &mut self.manifest.segments;
        // The same may have been written before, and not have come on record.
        listed.retain(|old| written.iter().all(|new| new.file() != old.file()));
        listed.extend(written.iter().cloned());
        self.write_manifest()?;
        Ok(written)
    }

    fn write_manifest(&self) -> Result<(), ArchiveError> {
        let path = self.dir.join(MANIFEST);
        let wrong = |e: serde_json::Error| ArchiveError::Manifest(path.clone(), e.to_string());
        let mut text = serde_json::to_vec_pretty(&self.manifest).map_err(wrong)?;
        text.push(b'\n');
        small_file::replace(&path, &text, 0o600).map_err(|e| ArchiveError::Io(path.clone(), e))
    }

    /// The ledger in `base` with the segments of this archive, each of which is checked. Of blocks that are
    /// in more than one of them, the one that was written last counts.
    pub fn over(&self, base: Arc<dyn Store>) -> Result<ReadBack, ArchiveError> {
        let mut parts = Vec::new();
        let mut paths = Vec::new();
        for (file, segment) in self.manifest.segments.iter().enumerate() {
            self.read(segment, |part| parts.push((file, part)))?;
            paths.push(self.dir.join(segment.file()));
        }
        Ok(ReadBack::new(base, Box::new(Files(paths)), parts))
    }
}

/// The files of an archive.
struct Files(Vec<PathBuf>);

impl SegmentFiles for Files {
    fn read(&self, file: usize, at: u64, length: u32) -> Result<Vec<u8>, StoreError> {
        let none = || StoreError::Damaged(format!("the archive has no file {file}"));
        let path = self.0.get(file).ok_or_else(none)?;
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(at))?;
            let mut content = Vec::new();
            file.take(length.into()).read_to_end(&mut content)?;
            Ok(content)
        };
        read().map_err(|e| StoreError::Io(format!("{}: {e}", path.display())))
    }
}

fn new_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn block(store: &dyn Store, height: u64) -> Result<Block, ArchiveError> {
    let missing = || ArchiveError::Block(height, "it is missing".to_owned());
    let value = store.get(Space::Blocks, &height_key(height))?;
    let damaged = |e: weighbridge_verifier::DecodeError| ArchiveError::Block(height, e.to_string());
    decode("block", &value.ok_or_else(missing)?).map_err(damaged)
}

/// What a record names, if it is there. What is missing without having been erased is not archived as if it
/// had never been.
fn value(
    store: &dyn Store,
    erased: &Erased,
    height: u64,
    record: &Record,
    gone: u64,
) -> Result<Option<Vec<u8>>, ArchiveError> {
    let Some(sealed) = record.body.sealed() else {
        return Ok(None);
    };
    let found = store.get(Space::Sealed, &sealed_key(&sealed.hash))?;
    if found.is_some() || height <= gone {
        return Ok(found);
    }
    let was_erased = sealing_key(record).is_some_and(|(owner, key_epoch)| {
        let batch = record.body.batch().map(|b| (b.epoch, b.sequence));
        match batch {
            Some(which) => erased.takes_batch(&owner, key_epoch, which),
            None => erased.takes_key(&owner, key_epoch),
        }
    });
    match was_erased {
        true => Ok(None),
        false => {
            let why = format!("the sealed bytes {} are lost", sealed.hash);
            Err(ArchiveError::Block(height, why))
        }
    }
}
