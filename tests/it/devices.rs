//! Devices that misbehave on the wire, next to one that does not.

use crate::plc::{Manner, Plc};
use crate::site::{self, Site};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use weighbridge::hub::Hub;
use weighbridge::live_view::Link;
use weighbridge::model::{Quality, Values, VerdictClass};

const BAD: &str = "plc-bad";
const GOOD: &str = "plc-good";

fn start(site: &Site, bad: &Plc, good: &Plc) -> Hub {
    let hub = site
        .hub()
        .device(bad.setup(BAD, true))
        .device(good.setup(GOOD, false))
        .start()
        .unwrap();
    site::up(&hub, BAD);
    site::up(&hub, GOOD);
    hub
}

/// Waits until the good device has gone on.
fn goes_on(hub: &Hub, id: &str) {
    let live = hub.live().device(id).unwrap();
    let before = live.points.load(Ordering::Relaxed);
    site::device(hub, id, "goes on", |live| {
        (live.points.load(Ordering::Relaxed) > before + 40).then_some(())
    });
}

#[test]
fn a_plc_that_breaks_the_protocol_is_down_with_a_reason_and_comes_back_within_five_seconds() {
    let site = Site::new(21);
    let (bad, good) = (Plc::start(), Plc::start());
    let hub = start(&site, &bad, &good);
    let manners = [
        (
            Manner::Garbage,
            "malformed frame: the protocol id is 42405, not 0",
        ),
        (Manner::Length, "broke the protocol"),
        (
            Manner::Transaction,
            "the answer belongs to another request or unit",
        ),
        (
            Manner::Short,
            "3 values came for 4 holding registers from address 0",
        ),
        (
            Manner::Long,
            "5 values came for 4 holding registers from address 0",
        ),
        (
            Manner::Function,
            "it answered function 4 when asked for function 3",
        ),
        (Manner::Torn, "the device closed the connection"),
        (
            Manner::Exception(0x0A),
            "the gateway gets no answer from unit 1 (exception 10)",
        ),
        (
            Manner::Exception(0x0B),
            "the gateway gets no answer from unit 1 (exception 11)",
        ),
        (Manner::Silent, "did not answer within 200 ms"),
        (Manner::Flood, "broke the protocol"),
        (Manner::HangUp, "the device closed the connection"),
    ];
    for (manner, said) in manners {
        bad.behaves(manner);
        let reason = site::down(&hub, BAD);
        assert!(reason.contains(said), "{manner:?}: {reason}");
        assert!(reason.contains("127.0.0.1:"), "{manner:?}: {reason}");
        let samples = hub.live().device(BAD).unwrap().samples();
        for sample in samples.into_iter().flatten() {
            assert_eq!(sample.quality, Quality::BAD_NO_COMMUNICATION);
        }
        for _ in 0..3 {
            goes_on(&hub, GOOD);
            // Connections that are taken and never answered are no sign of life.
            let link = hub.live().device(BAD).unwrap().link();
            assert!(matches!(link, Link::Down { .. }), "{manner:?}: {link:?}");
        }
        bad.behaves(Manner::Good);
        let back = Instant::now();
        site::up(&hub, BAD);
        assert!(back.elapsed() < Duration::from_secs(5), "{manner:?}");
        goes_on(&hub, BAD);
    }
    let live = hub.live().clone();
    hub.shutdown().unwrap();

    site.verify_is_clean();
    let recorded = site.recorded();
    recorded.is_gapless();
    let good = live.device(GOOD).unwrap();
    assert_eq!(good.reconnects.load(Ordering::Relaxed), 0);
    let mut next = 0;
    for batch in recorded.of(GOOD) {
        assert_eq!(batch.content.verdict.class, VerdictClass::Accepted);
        // It counts its requests: every scan is there, once.
        let Values::U64(counts) = &batch.batch().columns[0].values else {
            panic!("register 0 is a number");
        };
        for count in counts {
            assert_eq!(*count, next);
            next = (next + 1) % (1 << 16);
        }
    }
    for id in [GOOD, BAD] {
        let live = live.device(id).unwrap();
        assert_eq!(live.dropped.load(Ordering::Relaxed), 0, "{id}");
    }
}

#[test]
fn what_a_device_refuses_to_tell_is_bad_and_the_rest_goes_on() {
    let site = Site::new(22);
    let (bad, good) = (Plc::start(), Plc::start());
    let hub = start(&site, &bad, &good);
    // A register map that is shorter than the configuration believes.
    let qualities = |want: [bool; 5]| {
        site::device(&hub, BAD, "has these qualities", move |live| {
            let samples = live.samples().into_iter();
            let bad: Vec<bool> = samples
                .map(|s| s.is_some_and(|s| s.quality.is_bad()))
                .collect();
            (bad == want).then_some(())
        })
    };
    qualities([false, false, false, false, true]);
    let missing = site::device(&hub, BAD, "is judged", |live| live.verdict());
    assert_eq!(missing.0, VerdictClass::OutOfControl);
    assert!(missing.2.contains("of r100"), "{}", missing.2);
    // Illegal function, address and value, failure, acknowledge, busy, parity, and one that is unknown.
    for code in [1, 2, 3, 4, 5, 6, 8, 99] {
        bad.behaves(Manner::Exception(code));
        qualities([true; 5]);
        assert_eq!(hub.live().device(BAD).unwrap().link(), Link::Up, "{code}");
        goes_on(&hub, GOOD);
    }
    let live = hub.live().clone();
    hub.shutdown().unwrap();
    site.verify_is_clean();
    site.recorded().is_gapless();
    for id in [GOOD, BAD] {
        let live = live.device(id).unwrap();
        assert_eq!(live.reconnects.load(Ordering::Relaxed), 0, "{id}");
    }
}
