//! Small files that are replaced as a whole, or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// Replaces the content of `path`, which after a power cut is the old or the new. The bits of `mode`
/// are those of the new file from its first byte.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    let new = dir.join(hidden);
    // One that an interrupted replacement left behind, with whatever bits.
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(&new)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&new, path)) {
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    sync_directory(dir)
}

/// Makes what was done to the entries of `dir` durable.
pub(super) fn sync_directory(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

/// Makes `dir`, and what is above it, where it is not there; only its owner enters it when it is `private`.
pub(super) fn make_directory(dir: &Path, private: bool) -> io::Result<()> {
    if let Some(parent) = dir.parent()
        && !parent.as_os_str().is_empty()
    {
        fs::create_dir_all(parent)?;
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    if private {
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    }
    #[cfg(not(unix))]
    let _ = private;
    builder.create(dir)
}

/// Reads a file of at most `limit` bytes into `into`; `false` when it is longer.
pub(super) fn read_bounded(path: &Path, limit: usize, into: &mut Vec<u8>) -> io::Result<bool> {
    let file = File::open(path)?;
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    into.reserve_exact(limit.saturating_add(1));
    file.take(most).read_to_end(into)?;
    Ok(into.len() <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_whole_private_and_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below/ann.json");
        make_directory(path.parent().unwrap(), true).unwrap();
        // What an interrupted replacement left behind does not get into the way.
        fs::write(dir.path().join("below/.ann.json.new"), "half").unwrap();
        for content in ["one", "two", ""] {
            replace(&path, content.as_bytes(), 0o600).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(fs::read_dir(dir.path().join("below")).unwrap().count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        }
    }

    #[test]
    fn no_more_is_read_than_there_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "12345").unwrap();
        for (limit, whole) in [(4, false), (5, true), (6, true)] {
            let mut read = Vec::new();
            assert_eq!(read_bounded(&path, limit, &mut read).unwrap(), whole);
            assert_eq!(read.len(), 5.min(limit + 1));
        }
    }
}
