//! What was learned before a restart judges after it.

use crate::machines::{EPOCH, MS, Scripted, Step, tag};
use crate::site::{self, Recorded, Site};
use weighbridge::hub::DeviceSetup;
use weighbridge::model::{ValueKind, VerdictClass};
use weighbridge::validation::SubgroupSize;
use weighbridge_verifier::Hash;

const PRESS: &str = "press-1";
const PHASE1: u32 = 40;
const SCANS: usize = 10;

fn setup(press: &Scripted) -> DeviceSetup {
    let mut setup = press.setup(SCANS);
    setup.validation = weighbridge::validation::ValidationConfig {
        phase1_samples: PHASE1,
        ..Default::default()
    };
    setup
}

/// A machine's time and a value that is never twice the same, around `level`.
struct Process {
    press: Scripted,
    scans: i64,
}

impl Process {
    fn batch(&mut self, level: f64) {
        for _ in 0..SCANS {
            let wobble = ((self.scans * 37) % 101) as f64 / 100.0;
            self.press.scan(EPOCH + self.scans * MS, [level + wobble]);
            self.scans += 1;
        }
    }
}

fn commitments(recorded: &Recorded) -> Vec<(u64, Hash)> {
    let documents = recorded.documents.iter();
    let own = documents.filter(|(object, d)| object == "device:press-1" && d.kind == "validation");
    own.map(|(_, d)| (d.version, d.commitment)).collect()
}

#[test]
fn learned_limits_are_recorded_and_judge_after_a_restart() {
    let site = Site::new(11);
    let press = Scripted::new(PRESS, [tag("pressure", ValueKind::F64)]);
    let mut process = Process { press, scans: 0 };

    // Phase I is four batches; two more are judged by what it taught.
    let hub = site.hub().device(setup(&process.press)).start().unwrap();
    for _ in 0..6 {
        process.batch(20.0);
    }
    site::batches(&hub, 6);
    hub.shutdown().unwrap();
    let first = site.recorded();
    let documents = commitments(&first);
    let [(1, settings), (2, learned)] = documents[..] else {
        panic!("settings, then limits: {documents:?}");
    };
    let judged_by: Vec<Hash> = first.of(PRESS).map(|b| b.content.judged_by).collect();
    assert_eq!(judged_by[..4], [settings; 4]);
    assert_eq!(judged_by[4..], [learned; 2]);

    // The level has moved while the hub was away: with Phase I repeated that would be the new normal.
    let hub = site.hub().device(setup(&process.press)).start().unwrap();
    process.batch(50.0);
    process.batch(20.0);
    site::batches(&hub, 2);
    hub.shutdown().unwrap();
    let second = site.recorded();
    assert_eq!(commitments(&second), documents, "nothing new was learned");
    let after: Vec<_> = second.of(PRESS).skip(6).collect();
    assert_eq!(after.len(), 2);
    assert!(after.iter().all(|b| b.content.judged_by == learned));
    let moved = &after[0].content.verdict;
    assert_eq!(moved.class, VerdictClass::OutOfControl);
    assert_eq!(moved.rule, "beyond_limit");

    // Settings that were changed are recorded before anything is judged by them.
    let mut changed = setup(&process.press);
    changed.validation.subgroup = SubgroupSize::try_from(7).unwrap();
    let hub = site.hub().device(changed).start().unwrap();
    process.batch(20.0);
    site::batches(&hub, 1);
    hub.shutdown().unwrap();
    let third = site.recorded();
    let documents = commitments(&third);
    let (3, newest) = documents[2] else {
        panic!("{documents:?}");
    };
    assert_eq!(third.of(PRESS).last().unwrap().content.judged_by, newest);
    third.is_gapless();
    site.verify_is_clean();
}

#[test]
fn a_restart_in_the_middle_of_phase_one_learns_from_the_beginning() {
    let site = Site::new(12);
    let press = Scripted::new(PRESS, [tag("pressure", ValueKind::F64)]);
    let mut process = Process { press, scans: 0 };
    for batches in [2, 4, 1] {
        let hub = site.hub().device(setup(&process.press)).start().unwrap();
        for _ in 0..batches {
            process.batch(20.0);
        }
        site::batches(&hub, batches);
        hub.shutdown().unwrap();
    }
    site.verify_is_clean();
    let recorded = site.recorded();
    recorded.is_gapless();
    let documents = commitments(&recorded);
    let [(1, settings), (2, learned)] = documents[..] else {
        panic!("{documents:?}");
    };
    let judged_by: Vec<Hash> = recorded.of(PRESS).map(|b| b.content.judged_by).collect();
    assert_eq!(judged_by[..6], [settings; 6]);
    assert_eq!(judged_by[6], learned);
}

#[test]
fn a_pipeline_that_is_built_anew_judges_by_what_is_recorded() {
    let site = Site::new(13);
    let press = Scripted::new(PRESS, [tag("pressure", ValueKind::F64)]);
    let mut process = Process { press, scans: 0 };
    let hub = site.hub().device(setup(&process.press)).start().unwrap();
    for _ in 0..5 {
        process.batch(20.0);
    }
    site::batches(&hub, 5);
    process.press.does(Step::Panic);
    site::down(&hub, PRESS);
    process.batch(50.0);
    site::batches(&hub, 6);
    hub.shutdown().unwrap();
    let recorded = site.recorded();
    recorded.is_gapless();
    let documents = commitments(&recorded);
    assert_eq!(documents.len(), 2, "nothing is recorded twice");
    let last = &recorded.of(PRESS).last().unwrap().content;
    assert_eq!(last.judged_by, documents[1].1);
    assert_eq!(last.verdict.class, VerdictClass::OutOfControl);
    site.verify_is_clean();
}

#[test]
fn values_at_the_ends_of_what_a_number_holds_teach_nothing_that_stops_a_restart() {
    let (low, high, least) = (f64::MIN, f64::MAX, 5e-324);
    let hostile = [
        &[low, high][..],
        &[high],
        &[least, -least],
        &[1e300, 1e-300],
        &[1.0, 1.0 + f64::EPSILON],
    ];
    for (seed, levels) in (100..).zip(hostile) {
        let site = Site::new(seed);
        let press = Scripted::new(PRESS, [tag("pressure", ValueKind::F64)]);
        let mut time = EPOCH;
        let mut batch = || {
            for scan in 0..SCANS {
                press.scan(time, [levels[scan % levels.len()]]);
                time += MS;
            }
        };
        for _ in 0..2 {
            let hub = site.hub().device(setup(&press)).start().unwrap();
            // All of Phase I, and one more.
            for _ in 0..5 {
                batch();
            }
            site::batches(&hub, 5);
            // Also while it runs a validator is made from what was learned.
            press.does(Step::Panic);
            site::down(&hub, PRESS);
            batch();
            site::batches(&hub, 6);
            hub.shutdown().unwrap();
        }
        site.verify_is_clean();
        site.recorded().is_gapless();
    }
}
