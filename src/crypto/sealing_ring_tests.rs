use super::*;

fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

struct Site {
    dir: tempfile::TempDir,
    first: PublicKey,
}

impl Site {
    fn new(suite: Suite) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = SealingKey::generate_of(suite);
        key.save(&dir.path().join("sealing.key")).unwrap();
        let first = key.public().compressed();
        Self { dir, first }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("sealing.key")
    }

    fn open(&self) -> SealingRing {
        SealingRing::in_file(SealingKey::load(&self.file()).unwrap(), &self.file()).unwrap()
    }

    fn former(&self, key: &PublicKey) -> String {
        let path = former_file(&self.file(), key);
        path.file_name().unwrap().to_str().unwrap().to_owned()
    }
}

fn wrapped(to: &SealingPublicKey) -> WrappedKey {
    to.wrap(&EpochKey::generate(to.suite(), "press-1", 3).unwrap())
        .unwrap()
}

#[test]
fn it_opens_by_each_of_its_keys_and_wraps_to_the_newest() {
    for suite in Suite::ALL {
        let site = Site::new(suite);
        let ring = site.open();
        let mut wraps = vec![wrapped(&ring.public())];
        for n in 1..=MAX_FORMER {
            let next = ring.prepare().unwrap();
            assert_eq!(
                ring.prepare().unwrap(),
                next,
                "asked again it is the same one"
            );
            assert_eq!(ring.successor(), Some(next));
            assert!(ring.succeed(&next));
            ring.settle().unwrap();
            assert_eq!((ring.former().len(), ring.successor()), (n, None));
            assert_eq!(ring.public().compressed(), next);
            wraps.push(wrapped(&ring.public()));
        }
        assert!(matches!(ring.prepare(), Err(NextSealingKeyError::Full)));
        let stranger = wrapped(SealingKey::generate_of(suite).public());
        for ring in [
            &ring,
            &site.open(),
            &SealingRing::load(&site.file()).unwrap(),
        ] {
            for wrap in &wraps {
                assert!(ring.unwrap("press-1", 3, wrap).is_ok());
                assert!(ring.unwrap("press-1", 4, wrap).is_err());
            }
            assert!(ring.unwrap("press-1", 3, &stranger).is_err());
            assert!(ring.find(&site.first).is_some());
        }
        // What is forgotten opens nothing any more, here and after the next start.
        ring.forget(&site.first).unwrap();
        for ring in [&ring, &site.open()] {
            let opens: Vec<_> = wraps
                .iter()
                .map(|w| ring.unwrap("press-1", 3, w).is_ok())
                .collect();
            assert_eq!(opens, [false, true, true, true, true]);
        }
        assert!(!files(site.dir.path()).contains(&site.former(&site.first)));
        ring.forget(&ring.public().compressed()).unwrap();
        assert!(site.file().exists(), "the key in use is never forgotten");
    }
}

#[test]
fn at_every_step_the_files_hold_every_key_that_is_needed() {
    for suite in Suite::ALL {
        let site = Site::new(suite);
        let old = site.former(&site.first);
        let wrap = wrapped(&site.open().public());
        let next = site.open().prepare().unwrap();
        // Ended before it was on record: both are there, and the record decides.
        assert_eq!(files(site.dir.path()), ["sealing.key", "sealing.key.next"]);
        let ring = site.open();
        assert_eq!(ring.successor(), Some(next));
        assert!(!ring.succeed(&SealingKey::generate_of(suite).public().compressed()));
        assert!(ring.succeed(&site.first), "what is in use already stays");
        // Ended after it was on record, and after the old one has its second name.
        std::fs::hard_link(site.file(), site.dir.path().join(&old)).unwrap();
        let looked = SealingRing::load(&site.file()).unwrap();
        assert!(looked.unwrap("press-1", 3, &wrap).is_ok());
        assert_eq!(
            files(site.dir.path()),
            ["sealing.key", &*old, "sealing.key.next"]
        );
        let ring = site.open();
        assert_eq!((ring.former(), ring.successor()), (vec![], Some(next)));
        assert_eq!(files(site.dir.path()), ["sealing.key", "sealing.key.next"]);
        assert!(ring.succeed(&next));
        ring.settle().unwrap();
        assert_eq!(files(site.dir.path()), ["sealing.key", &*old]);
        let ring = site.open();
        assert_eq!(
            (ring.public().compressed(), ring.former()),
            (next, vec![site.first])
        );
        assert!(ring.unwrap("press-1", 3, &wrap).is_ok());
        ring.settle().unwrap();
        ring.forget(&site.first).unwrap();
        assert_eq!(files(site.dir.path()), ["sealing.key"]);
        // One that comes to nothing, and one that was torn while it was written.
        ring.prepare().unwrap();
        ring.abandon().unwrap();
        assert_eq!(files(site.dir.path()), ["sealing.key"]);
        key_file::write(&key_file::next(&site.file()), "-----BEGIN PRIV").unwrap();
        SealingRing::load(&site.file()).unwrap();
        assert_eq!(files(site.dir.path()), ["sealing.key", "sealing.key.next"]);
        assert_eq!(site.open().successor(), None);
        assert_eq!(files(site.dir.path()), ["sealing.key"]);
    }
}

#[test]
fn a_key_in_no_file_is_not_replaced() {
    let ring = SealingRing::from(SealingKey::generate());
    assert!(matches!(ring.prepare(), Err(NextSealingKeyError::NoFile)));
    assert!(ring.abandon().is_ok() && ring.settle().is_ok());
}
