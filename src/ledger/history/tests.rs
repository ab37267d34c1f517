use super::evidence::{Wanted, evidence, evidence_of};
use super::index::{Span, overlapping};
use super::reader::{Archive, Cursor, Direction, PastSample};
use super::rebuild::{is_complete, rebuild};
use super::{PastError, SUITE};
use crate::crypto::{EpochKey, SealingKey, Signer};
use crate::ledger::Draft;
use crate::ledger::assemble::{Tip, assemble};
use crate::ledger::key_wrap::KeyWrap;
use crate::ledger::keys::height_key;
use crate::ledger::opening::Opener;
use crate::ledger::query::Explorer;
use crate::ledger::seal::{BatchSealer, Judged};
use crate::ledger::state::State;
use crate::ledger::store::{Put, Space, Store};
use crate::ledger::testing::{Memory, TestSigner};
use crate::model::{BatchBuilder, Nanos, Quality, TagSpec, Value, ValueKind, VerdictClass};
use crate::validation::Verdict;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use weighbridge_verifier::evidence::{Evidence, Trust};
use weighbridge_verifier::{IdentityContent, IdentityKind, encode};

/// A ledger of sealed batches, and every sample that should be found again.
struct Plant {
    store: Arc<Memory>,
    signer: TestSigner,
    sealing: Arc<SealingKey>,
    state: State,
    tip: Tip,
    sealer: Option<BatchSealer>,
    key_epoch: u64,
    sequence: u64,
    told: Vec<PastSample>,
}

const TAG: &str = "force";

fn tags() -> Arc<[TagSpec]> {
    let tag = |name: &str| TagSpec {
        name: name.into(),
        kind: ValueKind::I64,
        unit: String::new(),
        description: String::new(),
        range: None,
        writable: false,
    };
    [tag("other"), tag(TAG)].into()
}

impl Plant {
    fn new() -> Self {
        let signer = TestSigner::new(SUITE, "hub-1", 1);
        let hub = IdentityContent {
            id: "hub-1".to_owned(),
            kind: IdentityKind::Hub,
            key: Some(signer.public_key()),
        };
        let enrol = Draft::enrol(1, "hub:hub-1", hub);
        let mut plant = Self {
            store: Arc::default(),
            signer,
            sealing: Arc::new(SealingKey::generate_of(SUITE)),
            state: State::new(SUITE, "plant"),
            tip: Tip::NONE,
            sealer: None,
            key_epoch: 0,
            sequence: 0,
            told: Vec::new(),
        };
        plant.block(&[enrol], Vec::new());
        plant
    }

    fn block(&mut self, drafts: &[Draft], mut puts: Vec<Put>) {
        let now = self.tip.time + 10;
        let made = assemble(drafts, &self.state, &self.tip, &self.signer, now);
        let (block, state) = made.unwrap();
        self.state = state;
        self.tip = Tip::of(&block.header);
        puts.push(Put {
            space: Space::Blocks,
            key: height_key(self.tip.height),
            value: encode(&block),
        });
        self.store.commit(&puts).unwrap();
    }

    /// A key of its own for what follows, as after a restart.
    fn restart(&mut self) {
        self.key_epoch += 1;
        let key = EpochKey::generate(SUITE, "press-1", self.key_epoch).unwrap();
        let wrapped = self.sealing.public().wrap(&key).unwrap();
        let wrapped = (wrapped.enc, wrapped.ciphertext);
        let (epoch, signer) = (self.key_epoch, &self.signer);
        let wrap = KeyWrap::sign("plant", "press-1", epoch, "hub-1", wrapped, signer);
        let wrap = Put {
            space: Space::Keys,
            key: wrap.key(),
            value: wrap.to_bytes(),
        };
        let sealer = BatchSealer::new("press-1", 0, key, vec![wrap], Arc::default());
        self.sealer = Some(sealer);
    }

    /// Records the settings that judge what follows; their commitment.
    fn configure(&mut self, settings: &[u8]) -> weighbridge_verifier::Hash {
        self.restart();
        let time = self.tip.time + 5;
        let sealer = self.sealer.as_mut().unwrap();
        let (draft, puts) = sealer.seal_document("validation", settings, time);
        let weighbridge_verifier::Content::Document(document) = &draft.content else {
            unreachable!("it is a document");
        };
        let commitment = document.commitment;
        self.block(&[draft], puts);
        commitment
    }

    /// Records samples of the tag with these times, in a block of their own.
    fn record(&mut self, times: &[Nanos], class: VerdictClass) {
        if self.sealer.is_none() {
            self.restart();
        }
        self.sequence += 1;
        let mut builder = BatchBuilder::subscribing("press-1".into(), tags());
        let first = times.first().copied().unwrap_or(5);
        builder.push(0, first, Some(Value::I64(0)), Quality::GOOD);
        for time in times {
            let value = Value::I64(self.told.len() as i64);
            builder.push(1, *time, Some(value.clone()), Quality::GOOD);
            let quality = match class {
                VerdictClass::Accepted => Quality::GOOD,
                _ => Quality::UNCERTAIN,
            };
            if class != VerdictClass::Invalid {
                let time = *time;
                self.told.push(PastSample {
                    time,
                    value,
                    quality,
                });
            }
        }
        let batch = builder.take(1, self.sequence).unwrap();
        let verdict = Verdict {
            class,
            // Else it would be taken for one that only misses samples.
            unlisted: u32::from(class != VerdictClass::Accepted),
            ..Verdict::accepted()
        };
        let judged = Judged {
            batch: &batch,
            verdict: &verdict,
            state_before: &[],
            attested: None,
        };
        let time = self.tip.time + 7;
        let sealer = self.sealer.as_mut().unwrap();
        let (draft, puts) = sealer.seal_batch(&judged, time).unwrap();
        self.block(&[draft], puts);
    }

    fn archive(&self) -> Archive {
        let opener = Opener::new(self.store.clone(), self.sealing.clone(), "hub-1");
        Archive::new(self.store.clone(), opener)
    }

    fn explorer(&self) -> Explorer {
        Explorer::new(self.store.clone())
    }

    /// What should be found: stable in the order of recording for equal times.
    fn expected(&self, (low, high): (Nanos, Nanos), direction: Direction) -> Vec<PastSample> {
        let within = |s: &&PastSample| (low..high).contains(&s.time);
        let mut samples: Vec<_> = self.told.iter().filter(within).cloned().collect();
        samples.sort_by_key(|s| s.time);
        if direction == Direction::Backward {
            samples.reverse();
        }
        samples
    }

    /// The whole range in pages of `limit`, each asked anew.
    fn paged(&self, range: (Nanos, Nanos), direction: Direction, limit: usize) -> Vec<PastSample> {
        let mut samples = Vec::new();
        let archive = self.archive();
        let mut after: Option<Cursor> = None;
        loop {
            let tag = archive.tag("press-1", TAG);
            let page = tag.page(range, direction, after, limit).unwrap();
            assert!(page.samples.len() <= limit);
            samples.extend(page.samples);
            let Some(next) = page.next else {
                return samples;
            };
            assert_ne!(after, Some(next), "a page must move on");
            after = Some(next);
        }
    }
}

/// Times that crowd, lie far apart, and come at the ends of what there is.
fn time() -> impl Strategy<Value = Nanos> {
    prop_oneof![
        4 => 0i64..40,
        3 => 0i64..5_000_000_000,
        1 => -3_000_000_000_000_000_000i64..3_000_000_000_000_000_000,
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX - 1)],
    ]
}

fn class() -> impl Strategy<Value = VerdictClass> {
    prop_oneof![
        4 => Just(VerdictClass::Accepted),
        1 => Just(VerdictClass::OutOfControl),
        1 => Just(VerdictClass::Invalid),
    ]
}

type Recorded = (Vec<Nanos>, VerdictClass, bool);

fn batches() -> impl Strategy<Value = Vec<Recorded>> {
    let times = proptest::collection::vec(time(), 1..8);
    proptest::collection::vec((times, class(), proptest::bool::weighted(0.2)), 0..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However batches lie in time, over however many keys: a range read in pages of any size is what
    /// was recorded in it, in order, each sample once.
    #[test]
    fn pages_are_the_range(
        batches in batches(),
        ends in (time(), time()),
        limit in 1usize..12,
        forward: bool,
    ) {
        let mut plant = Plant::new();
        for (times, class, restart) in &batches {
            if *restart {
                plant.restart();
            }
            plant.record(times, *class);
        }
        let range = (ends.0.min(ends.1), ends.0.max(ends.1));
        let direction = match forward {
            true => Direction::Forward,
            false => Direction::Backward,
        };
        prop_assert_eq!(
            plant.paged(range, direction, limit),
            plant.expected(range, direction)
        );
    }

    /// An index made up from the blocks is the one that was written with them.
    #[test]
    fn a_rebuilt_index_finds_the_same(batches in batches()) {
        let mut plant = Plant::new();
        for (times, class, _) in &batches {
            plant.record(times, *class);
        }
        let index = |plant: &Plant| {
            let spans = overlapping(&*plant.store, "press-1", (Nanos::MIN, Nanos::MAX), 1_000);
            let mut spans = spans.unwrap().unwrap();
            // The record's time may be later than the draft's.
            spans.iter_mut().for_each(|s| s.recorded = 0);
            spans
        };
        let written = index(&plant);
        plant.store.values.lock().retain(|(space, _), _| *space != Space::History);
        let (explorer, opener) = (plant.explorer(), plant.archive().opener().clone());
        let tip = plant.tip.height;
        let made = rebuild(&*plant.store, &explorer, &opener, tip, |_| true).unwrap();
        prop_assert_eq!(made, written.len() as u64);
        prop_assert_eq!(index(&plant), written);
    }
}

#[test]
fn the_far_past_costs_no_more_than_yesterday() {
    let mut plant = Plant::new();
    let second = 1_000_000_000;
    for i in 0..500 {
        plant.record(
            &[i * second, i * second + second / 2],
            VerdictClass::Accepted,
        );
    }
    let cost = |from: Nanos| {
        let tag = plant.archive().tag("press-1", TAG);
        let before = plant.store.reads.load(Ordering::Relaxed);
        let range = (from * second, (from + 10) * second);
        let page = tag.page(range, Direction::Forward, None, 100).unwrap();
        assert_eq!(page.samples.len(), 20);
        plant.store.reads.load(Ordering::Relaxed) - before
    };
    let (far, near) = (cost(3), cost(480));
    assert!(far <= 120 && near <= 120, "{far} reads, and {near}");
    // A range in which there is nothing.
    let tag = plant.archive().tag("press-1", TAG);
    let before = plant.store.reads.load(Ordering::Relaxed);
    let nothing = (3_000 * second, 2_000_000_000 * second);
    let page = tag.page(nothing, Direction::Backward, None, 100).unwrap();
    assert_eq!(page.samples, []);
    let reads = plant.store.reads.load(Ordering::Relaxed) - before;
    assert!(reads <= 60, "{reads} reads");
}

#[test]
fn one_old_sample_in_a_batch_hides_nothing() {
    let mut plant = Plant::new();
    let day = 86_400_000_000_000;
    plant.record(&[10 * day, 10 * day + 1], VerdictClass::Accepted);
    // A subscription begins with the value that a tag has had for days.
    plant.record(&[2 * day, 11 * day], VerdictClass::Accepted);
    plant.record(&[12 * day], VerdictClass::Accepted);
    let times = |range, direction| -> Vec<Nanos> {
        let samples = plant.paged(range, direction, 10);
        samples.iter().map(|s| s.time / day).collect()
    };
    assert_eq!(times((day, 3 * day), Direction::Forward), [2]);
    assert_eq!(
        times((0, 20 * day), Direction::Backward),
        [12, 11, 10, 10, 2]
    );
    let tag = plant.archive().tag("press-1", TAG);
    assert_eq!(tag.newest_before(9 * day).unwrap().unwrap().time, 2 * day);
    assert_eq!(tag.newest_before(2 * day).unwrap(), None);
}

#[test]
fn evidence_of_a_sample_holds_for_who_trusts_the_hub() {
    let mut plant = Plant::new();
    for i in 0..30 {
        plant.record(&[i * 100, i * 100 + 50], VerdictClass::Accepted);
        if i % 10 == 0 {
            plant.restart();
        }
    }
    let (archive, explorer) = (plant.archive(), plant.explorer());
    for (at, time, value) in [(1_000, 1_000, 20), (1_049, 1_000, 20), (9_999, 2_950, 59)] {
        let found = evidence(&archive, &explorer, ("press-1", TAG), at);
        let bytes = found.unwrap().unwrap().to_bytes();
        let read = Evidence::from_bytes(&bytes).unwrap();
        let key = plant.signer.public_key();
        assert_eq!(read.verify(&[key]).unwrap(), Trust::Key);
        let (_, _, sample) = read.samples().next().unwrap();
        assert_eq!((sample.time, &*sample.tag), (time, TAG));
        assert_eq!(sample.value, Value::I64(value));
    }
    let none = evidence(&archive, &explorer, ("press-1", TAG), -1);
    assert!(none.unwrap().is_none());
    let none = evidence(&archive, &explorer, ("press-1", "nothing"), 1_000);
    assert!(none.unwrap().is_none());
}

#[test]
fn evidence_of_a_time_has_all_its_samples_and_the_settings_that_judged() {
    let mut plant = Plant::new();
    let settings = plant.configure(b"settings and limits");
    for i in 0..30 {
        plant.record(&[i * 100, i * 100 + 50], VerdictClass::Accepted);
    }
    let (archive, explorer) = (plant.archive(), plant.explorer());
    let tags = [TAG.to_owned()];
    let mut wanted = Wanted {
        device: "press-1",
        tags: &tags,
        range: (1_050, 2_000),
        limit: 100,
        settings: true,
    };
    let found = evidence_of(&archive, &explorer, &wanted, |_, _| ()).unwrap();
    assert_eq!(Evidence::from_bytes(&found.to_bytes()).unwrap(), found);
    let key = plant.signer.public_key();
    assert_eq!(found.verify(&[key]).unwrap(), Trust::Key);
    assert!(found.from_genesis());
    let times: Vec<Nanos> = found.samples().map(|(.., s)| s.time).collect();
    let expected: Vec<Nanos> = (21..40).map(|half| half * 50).collect();
    assert_eq!(times, expected);
    let judged = found
        .samples()
        .map(|(_, r, _)| r.record.body.batch().unwrap().judged_by);
    assert!(judged.into_iter().all(|by| by == settings));
    let records = found.blocks.iter().flat_map(|b| &b.records);
    let opened: Vec<_> = records.filter_map(|r| r.opened.as_ref()).collect();
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0].content, b"settings and limits");
    wanted.settings = false;
    let less = evidence_of(&archive, &explorer, &wanted, |_, _| ()).unwrap();
    let judge = less.judges()[&settings];
    assert_eq!(judge.shown.opened, None);
    assert!(judge.block.header.height < less.blocks[2].header.height);
    wanted.limit = 18;
    let refused = |wanted: &Wanted<'_>| evidence_of(&archive, &explorer, wanted, |_, _| ());
    assert!(matches!(refused(&wanted), Err(PastError::TooMuch(_))));
    wanted.range = (5_000, 6_000);
    assert!(matches!(refused(&wanted), Err(PastError::NoSamples(_))));
    wanted.range = (0, 6_000);
    let tags = ["nothing".to_owned()];
    wanted.tags = &tags;
    assert!(matches!(refused(&wanted), Err(PastError::NoTag { .. })));
}

#[test]
fn a_changed_entry_is_noticed_and_made_up_anew() {
    let mut plant = Plant::new();
    plant.record(&[1], VerdictClass::Accepted);
    {
        let mut values = plant.store.values.lock();
        let entry = values.iter_mut().find(|((s, _), _)| *s == Space::History);
        entry.unwrap().1[3] ^= 1;
    }
    let page = |plant: &Plant| {
        let tag = plant.archive().tag("press-1", TAG);
        tag.page((0, 9), Direction::Forward, None, 5)
    };
    let error = page(&plant).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    // An entry under a key that never was written, as where a key was damaged.
    let stray = b"stray".to_vec();
    plant
        .store
        .values
        .lock()
        .insert((Space::History, stray), vec![1, 2, 3]);
    assert!(!is_complete(&*plant.store, 1).unwrap());
    let (explorer, opener) = (plant.explorer(), plant.archive().opener().clone());
    rebuild(&*plant.store, &explorer, &opener, plant.tip.height, |_| {
        true
    })
    .unwrap();
    assert!(is_complete(&*plant.store, 1).unwrap());
    assert_eq!(page(&plant).unwrap().samples.len(), 1);
}

#[test]
fn entries_are_read_back() {
    let span = Span {
        first: -5,
        last: i64::MAX,
        part: 1,
        parts: 2,
        epoch: 3,
        sequence: 9,
        recorded: 77,
        sealed: weighbridge_verifier::SealedRef {
            hash: weighbridge_verifier::Hash([7; 32]),
            length: 12,
            key_epoch: 2,
        },
    };
    let put = span.put("press-1");
    let (device, class, read) = super::index::read(&put.key, &put.value).unwrap();
    assert_eq!((&*device, class, read), ("press-1", 64, span));
    for bit in 0..put.value.len() * 8 {
        let mut changed = put.value.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(
            super::index::read(&put.key, &changed).is_none(),
            "bit {bit}"
        );
    }
}
