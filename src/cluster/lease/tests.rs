use super::*;
use proptest::prelude::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// `b` of four hubs at second 100, which has heard all others just now and is level with them.
fn four() -> Horizon {
    let heard = ["a", "c", "d"].map(|hub| (hub.to_owned(), (ms(100_000), 50)));
    Horizon {
        own: "b".to_owned(),
        members: names(&["a", "b", "c", "d"]),
        threshold: 3,
        heard: heard.into(),
        height: 50,
        begun: ms(0),
    }
}

#[test]
fn who_reads_who_rests_and_who_takes_over() {
    type Change = fn(&mut Horizon);
    let silent: Change = |h| h.heard.extend([("a".to_owned(), (ms(97_000), 50))]);
    let same: Change = |_| {};
    let alone: Change = |h| h.heard.clear();
    let order = ["a", "b", "c"];
    type Lease = Option<(&'static str, u64)>;
    type Row<'a> = (&'a str, Change, &'a [&'a str], Lease, u64, Step);
    let table: [Row; 14] = [
        (
            "its own lease",
            same,
            &order,
            Some(("b", 4)),
            4,
            Step::Read(4),
        ),
        (
            "its own, and alone",
            alone,
            &order,
            Some(("b", 4)),
            4,
            Step::Read(4),
        ),
        (
            "the holder is heard",
            same,
            &order,
            Some(("a", 4)),
            4,
            Step::Look(ms(102_000)),
        ),
        (
            "the holder is silent",
            silent,
            &order,
            Some(("a", 4)),
            4,
            Step::Take(5),
        ),
        (
            "batches have newer epochs",
            silent,
            &order,
            Some(("a", 4)),
            9,
            Step::Take(10),
        ),
        (
            "all are silent",
            alone,
            &order,
            Some(("a", 4)),
            4,
            Step::Look(ms(100_500)),
        ),
        (
            "too few for a block",
            |h| {
                h.heard.remove("a");
                h.heard.remove("c");
            },
            &order,
            Some(("a", 4)),
            4,
            Step::Look(ms(100_500)),
        ),
        (
            "silent, and another one comes before",
            |h| h.heard.extend([("a".to_owned(), (ms(97_900), 50))]),
            &["c", "b", "a"],
            Some(("a", 4)),
            4,
            Step::Look(ms(100_600)),
        ),
        (
            "dismissed",
            |h| drop(h.members.remove(0)),
            &order,
            Some(("a", 4)),
            4,
            Step::Take(5),
        ),
        (
            "dismissed, and another one comes before",
            |h| drop(h.members.remove(0)),
            &["c", "b", "a"],
            Some(("a", 4)),
            4,
            Step::Look(ms(100_700)),
        ),
        (
            "nobody has had it, and the first is there",
            same,
            &order,
            None,
            1,
            Step::Look(ms(100_700)),
        ),
        (
            "nobody has had it, and the first is not",
            silent,
            &order,
            None,
            1,
            Step::Take(2),
        ),
        (
            "another hub's device",
            silent,
            &["a", "c"],
            Some(("a", 4)),
            4,
            Step::Rest,
        ),
        (
            "it was dismissed itself",
            |h| drop(h.members.remove(1)),
            &order,
            Some(("b", 4)),
            4,
            Step::Rest,
        ),
    ];
    for (what, change, order, lease, newest, wanted) in table {
        let mut horizon = four();
        change(&mut horizon);
        let order = names(order);
        let sight = Sight {
            order: &order,
            lease,
            newest,
        };
        let step = Watch::default().decide(&horizon, sight, ms(100_000));
        assert_eq!(step, wanted, "{what}");
    }
}

#[test]
fn a_hub_that_comes_back_makes_sure_first_that_the_lease_is_still_its_own() {
    let order = names(&["b", "a"]);
    let sight = Sight {
        order: &order,
        lease: Some(("b", 4)),
        newest: 4,
    };
    let mut horizon = four();
    (horizon.begun, horizon.height) = (ms(99_000), 10);
    let heard = std::mem::take(&mut horizon.heard);
    let mut watch = Watch::default();
    assert_eq!(
        watch.decide(&horizon, sight, ms(99_100)),
        Step::Look(ms(99_600))
    );
    horizon.heard = heard;
    assert_eq!(
        watch.decide(&horizon, sight, ms(100_000)),
        Step::Look(ms(100_500))
    );
    // One may lie about its height.
    horizon
        .heard
        .insert("d".to_owned(), (ms(100_000), u64::MAX));
    horizon.height = 48;
    assert_eq!(watch.decide(&horizon, sight, ms(100_100)), Step::Read(4));
    // It was sure once: what it does not hear later does not keep it from reading.
    horizon.heard.clear();
    assert_eq!(watch.decide(&horizon, sight, ms(110_000)), Step::Read(4));
    // Cut off from the beginning on.
    let mut watch = Watch::default();
    assert_eq!(
        watch.decide(&horizon, sight, ms(102_900)),
        Step::Look(ms(103_000))
    );
    assert_eq!(watch.decide(&horizon, sight, ms(103_000)), Step::Read(4));
}

#[test]
fn it_stops_acting_before_anybody_takes_over() {
    let mut horizon = four();
    horizon.heard.insert("d".to_owned(), (ms(90_000), 50));
    horizon.heard.insert("c".to_owned(), (ms(99_000), 50));
    assert_eq!(horizon.trusted_until(ms(100_000)), Some(ms(100_500)));
    assert!(horizon.has_quorum(ms(100_999)));
    assert!(!horizon.has_quorum(ms(101_000)));
    horizon.members.truncate(1);
    assert_eq!(horizon.trusted_until(ms(100_000)), None, "not one of them");
    horizon.own = "a".to_owned();
    horizon.threshold = 1;
    assert_eq!(horizon.trusted_until(ms(100_000)), Some(ms(101_500)));
    assert!(TRUST < SILENCE);
}

/// What happens to hubs.
#[derive(Clone, Debug)]
enum Event {
    /// It stops, or is there again.
    Power(usize),
    /// Nobody hears it and it hears nobody, until this happens again.
    Cable(usize),
}

/// A hub in the simulation.
struct Node {
    on: bool,
    cut: bool,
    horizon: Horizon,
    watch: Watch,
    /// How many leases of the chain it has.
    knows: usize,
    /// Until when it waits for what became of its lease.
    asked: Option<u64>,
    reads: Option<u64>,
}

/// Hubs with one device, in steps of [`STEP`] ms.
struct World {
    nodes: Vec<Node>,
    order: Vec<String>,
    /// Leases that the chain has: who, epoch, when.
    chain: Vec<(usize, u64, u64)>,
    /// On the way: when it arrives, to whom, of whom, height.
    words: Vec<(u64, usize, usize, u64)>,
    /// Leases on the way into a block: when, by whom, epoch.
    asked: Vec<(u64, usize, u64)>,
    random: u64,
    now: u64,
}

const STEP: u64 = 50;
const BEAT: u64 = 500;

impl World {
    fn new(hubs: usize, threshold: usize, seed: u64) -> Self {
        let members: Vec<String> = (0..hubs).map(|n| format!("hub-{n}")).collect();
        let node = |n: usize| Node {
            on: true,
            cut: false,
            horizon: Horizon {
                own: format!("hub-{n}"),
                members: members.clone(),
                threshold,
                ..Horizon::default()
            },
            watch: Watch::default(),
            knows: 0,
            asked: None,
            reads: None,
        };
        Self {
            nodes: (0..hubs).map(node).collect(),
            order: members.clone(),
            chain: Vec::new(),
            words: Vec::new(),
            asked: Vec::new(),
            random: seed | 1,
            now: 0,
        }
    }

    /// Xorshift, for delays.
    fn up_to(&mut self, most: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % (most + 1)
    }

    fn there(&self) -> usize {
        self.nodes.iter().filter(|n| n.on && !n.cut).count()
    }

    fn threshold(&self) -> usize {
        self.nodes[0].horizon.threshold
    }

    fn happens(&mut self, event: &Event) {
        let hubs = self.nodes.len();
        let now = ms(self.now);
        match event {
            Event::Power(n) => {
                let node = &mut self.nodes[n % hubs];
                node.on = !node.on;
                node.watch = Watch::default();
                node.horizon.heard.clear();
                node.horizon.begun = now;
                (node.asked, node.reads) = (None, None);
            }
            Event::Cable(n) => {
                let node = &mut self.nodes[n % hubs];
                node.cut = !node.cut;
            }
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        let (now, hubs) = (self.now, self.nodes.len());
        for from in 0..hubs {
            let talks = |n: &Node| n.on && !n.cut;
            let beat = (now / STEP + from as u64).is_multiple_of(BEAT / STEP);
            if !talks(&self.nodes[from]) || !beat {
                continue;
            }
            for to in (0..hubs).filter(|to| *to != from) {
                let at = now + self.up_to(300);
                let height = self.nodes[from].knows as u64;
                self.words.push((at, to, from, height));
            }
        }
        for (_, to, from, height) in self.words.extract_if(.., |(at, ..)| *at <= now) {
            let node = &mut self.nodes[to];
            if node.on && !node.cut {
                let heard = (ms(now), height);
                node.horizon.heard.insert(format!("hub-{from}"), heard);
            }
        }
        // Whoever is there is told of blocks, some a little later.
        let due: Vec<_> = self.asked.extract_if(.., |(at, ..)| *at <= now).collect();
        for (at, by, epoch) in due {
            let newest = self.chain.last().map_or(0, |(_, epoch, _)| *epoch);
            let node = &self.nodes[by];
            if !node.on || node.cut || self.there() < self.threshold() {
                // It stays in that hub's own chain, and comes when there are enough.
                self.asked.push((at + BEAT, by, epoch));
            } else if epoch > newest {
                self.chain.push((by, epoch, now));
            }
        }
        for n in 0..hubs {
            let late = self.up_to(200);
            let node = &mut self.nodes[n];
            if !node.on {
                continue;
            }
            if !node.cut {
                let new = |lease: &&(usize, u64, u64)| lease.2 + late <= now;
                let known = self.chain.iter().take_while(new).count();
                node.knows = node.knows.max(known);
            }
            node.horizon.height = node.knows as u64;
            let lease = node.knows.checked_sub(1).map(|at| self.chain[at]);
            let holder = lease.map(|(hub, epoch, _)| (format!("hub-{hub}"), epoch));
            let sight = Sight {
                order: &self.order,
                lease: holder.as_ref().map(|(hub, epoch)| (hub.as_str(), *epoch)),
                newest: holder.as_ref().map_or(0, |(_, epoch)| *epoch),
            };
            let step = node.watch.decide(&node.horizon, sight, ms(now));
            node.reads = match step {
                Step::Read(epoch) => Some(epoch),
                _ => None,
            };
            node.asked = node.asked.filter(|until| now < *until);
            if let (Step::Take(epoch), None) = (step, node.asked) {
                assert!(node.horizon.has_quorum(ms(now)));
                node.asked = Some(now + 1_500);
                let at = now + 100 + self.up_to(700);
                self.asked.push((at, n, epoch));
            }
        }
    }

    /// Nobody reads under the epoch of another one, and epochs only rise.
    fn is_sound(&self) {
        assert!(self.chain.windows(2).all(|two| two[0].1 < two[1].1));
        let mut held: BTreeMap<u64, usize> = BTreeMap::new();
        for (n, node) in self.nodes.iter().enumerate() {
            let Some(epoch) = node.reads else { continue };
            assert_eq!(held.insert(epoch, n), None, "two hold epoch {epoch}");
            let given = self.chain.iter().find(|lease| lease.1 == epoch);
            assert_eq!(
                given.map(|lease| lease.0),
                Some(n),
                "epoch {epoch} is another's"
            );
        }
    }

    /// Somebody reads whom the others hear.
    fn is_read(&self) -> bool {
        let newest = self.chain.last().map(|(_, epoch, _)| *epoch);
        let read = |n: &&Node| n.on && !n.cut && n.reads.is_some() && n.reads == newest;
        self.nodes.iter().any(|n| read(&n))
    }
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let event = prop_oneof![
        2 => (0..7usize).prop_map(Event::Power),
        1 => (0..7usize).prop_map(Event::Cable),
    ];
    proptest::collection::vec((0..120u64, event), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Hubs fail and come back at any time, and are cut off: an epoch has one holder, epochs rise, and as long as there
    /// are enough for a block a device is read again within five seconds of whatever happened.
    #[test]
    fn somebody_reads_within_five_seconds_and_nobody_under_the_epoch_of_another(
        size in prop_oneof![Just((1, 1)), Just((3, 2)), Just((4, 3)), Just((7, 5))],
        seed in any::<u64>(),
        events in events(),
    ) {
        let mut world = World::new(size.0, size.1, seed);
        let mut quiet = 0;
        for (steps, event) in events {
            for _ in 0..steps {
                world.step();
                world.is_sound();
                quiet = match world.is_read() || world.there() < world.threshold() {
                    true => 0,
                    false => quiet + STEP,
                };
                prop_assert!(quiet <= 5_000, "not read for {quiet} ms at {}", world.now);
            }
            world.happens(&event);
            quiet = 0;
        }
    }
}
