//! Two whole hubs of one site. What would be their shared chain is here a list of what both recorded, in one order,
//! from which each of them takes in what is new.

use crate::machines::{EPOCH, MS, Scripted, tag};
use crate::site::{self, Door};
use serde_json::Value as Json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weighbridge::access::{Caller, Change, Credentials, Mode, Parcel, Permit, Right, Role, Side};
use weighbridge::actors::access::{By, told};
use weighbridge::actors::alarms::told_alarm;
use weighbridge::actors::ledger::BlockLimits;
use weighbridge::actors::log_in::LogInDesk;
use weighbridge::actors::users::UserDesk;
use weighbridge::alarms::{Alarm, AlarmAction, AlarmError};
use weighbridge::crypto::{Identity, PasswordHash, SealingKey, SealingRing};
use weighbridge::hub::{DeviceSetup, Fellows, Hub, HubBuilder, HubKeys};
use weighbridge::ledger::act::name;
use weighbridge::ledger::key_wrap::read_wrap_key;
use weighbridge::ledger::opening::Opener;
use weighbridge::ledger::query::Explorer;
use weighbridge::ledger::store::{Space, Store};
use weighbridge::model::{ValueKind, now};
use weighbridge::protocols::log_in::NotIn;
use weighbridge::protocols::ports::AlarmPort;
use weighbridge::protocols::users::{Amendment, NewUser, UsersPort};
use weighbridge::store::{CredentialFiles, FaultyDisk};
use weighbridge_verifier::{Content, Response};
use zeroize::Zeroizing;

const SCANS: usize = 10;

/// One hub of the site.
struct House {
    id: &'static str,
    disk: FaultyDisk,
    keys: tempfile::TempDir,
    fellows: Fellows,
    hub: Option<Hub>,
    /// Up to where its own chain was read.
    read: u64,
    /// How much of the order it has taken in.
    taken: usize,
}

impl House {
    fn new(id: &'static str, seed: u64) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let new = HubKeys::generate(id);
        new.signing
            .save(&keys.path().join(HubKeys::SIGNING))
            .unwrap();
        new.sealing
            .save(&keys.path().join(HubKeys::SEALING))
            .unwrap();
        Self {
            id,
            disk: FaultyDisk::new(seed),
            keys,
            fellows: Fellows::shared(),
            hub: None,
            read: 0,
            taken: 0,
        }
    }

    fn sealing(&self) -> SealingKey {
        SealingKey::load(&self.keys.path().join(HubKeys::SEALING)).unwrap()
    }

    fn builder(&self) -> HubBuilder {
        let signing = Identity::load(&self.keys.path().join(HubKeys::SIGNING), self.id).unwrap();
        let keys = HubKeys {
            signing,
            sealing: self.sealing(),
        };
        let (store, head) = (Arc::new(self.disk.store()), Box::new(self.disk.head()));
        HubBuilder::on_storage(keys, store, head)
            .fellows(self.fellows.clone())
            .blocks(BlockLimits {
                records: 16,
                age: Duration::from_millis(5),
                ..BlockLimits::default()
            })
    }

    fn start(&mut self, devices: impl IntoIterator<Item = DeviceSetup>) {
        let builder = devices.into_iter().fold(self.builder(), HubBuilder::device);
        self.hub = Some(builder.start().unwrap());
    }

    fn hub(&self) -> &Hub {
        self.hub.as_ref().unwrap()
    }

    fn opener(&self) -> Opener {
        Opener::new(Arc::new(self.disk.store()), self.sealing(), self.id)
    }

    /// What its chain has new of access and alarms: subject, object, what it says.
    fn news(&mut self) -> Vec<(String, String, Json)> {
        let explorer = Explorer::new(Arc::new(self.disk.store()));
        let opener = self.opener();
        let tip = explorer.tip().unwrap().unwrap().height;
        let mut news = Vec::new();
        for height in self.read + 1..=tip {
            for record in explorer.block(height).unwrap().unwrap().records {
                let body = record.body;
                let Content::Message(message) = &body.content else {
                    continue;
                };
                let wanted = ["access:", "alarm:"]
                    .iter()
                    .any(|p| body.object.starts_with(p));
                if wanted && body.response == Response::Accepted {
                    let details = opener.open_act(self.id, message).unwrap();
                    news.push((body.subject, body.object, details));
                }
            }
        }
        self.read = tip;
        news
    }
}

/// The site: its hubs, and the order of what they recorded.
struct OneSite {
    houses: [House; 2],
    order: Vec<(usize, String, String, Json)>,
}

impl OneSite {
    fn new(seed: u64) -> Self {
        Self {
            houses: [House::new("hub-a", seed), House::new("hub-b", seed + 1)],
            order: Vec::new(),
        }
    }

    /// Both hubs have started, and share what they recorded from now on.
    fn share(&mut self) {
        self.put_in_order(0);
        self.put_in_order(1);
        for hub in 0..2 {
            let all = self.order.iter();
            let all = all.filter_map(|(by, _, object, says)| told(object, says, *by == hub));
            let house = &mut self.houses[hub];
            house.taken = self.order.len();
            let access = house.hub.as_ref().unwrap().access();
            access.share(all, Vec::new()).unwrap();
        }
    }

    /// What a hub recorded gets its place.
    fn put_in_order(&mut self, hub: usize) {
        let news = self.houses[hub].news();
        let news = news
            .into_iter()
            .map(|(subject, object, says)| (hub, subject, object, says));
        self.order.extend(news);
    }

    /// A hub takes in what is new.
    fn take_in(&mut self, hub: usize) {
        let house = &mut self.houses[hub];
        let new = &self.order[house.taken..];
        let access: Vec<_> = new
            .iter()
            .filter_map(|(by, _, object, says)| told(object, says, *by == hub))
            .collect();
        let alarms: Vec<_> = new
            .iter()
            .filter(|(by, _, object, _)| *by != hub && object.starts_with("alarm:"))
            .map(|(_, subject, _, says)| told_alarm(subject, says).unwrap())
            .collect();
        house.taken = self.order.len();
        let this = house.hub.as_ref().unwrap();
        let took = this.access().take_in(&access);
        site::wait(this, "entries are taken in", took).unwrap();
        this.alarms().take_in(&alarms);
    }

    fn exchange(&mut self) {
        for hub in [0, 1] {
            self.put_in_order(hub);
        }
        for hub in [0, 1] {
            self.take_in(hub);
        }
    }

    /// Exchanges until it is as `wanted`.
    fn until(&mut self, what: &str, wanted: impl Fn(&Hub, &Hub) -> bool) {
        let since = Instant::now();
        while !wanted(self.houses[0].hub(), self.houses[1].hub()) {
            if since.elapsed() >= site::PATIENCE {
                let [a, b] = &self.houses;
                panic!(
                    "waited in vain: {what}; {:?} {:?}",
                    alarm(a.hub()),
                    alarm(b.hub())
                );
            }
            self.exchange();
            std::thread::yield_now();
        }
    }

    fn end(self) {
        for house in self.houses {
            house.hub.unwrap().shutdown().unwrap();
        }
    }
}

fn scripted(id: &'static str) -> Scripted {
    Scripted::new(id, [tag("pressure", ValueKind::F64)])
}

fn setup(machine: &Scripted) -> DeviceSetup {
    let mut setup = machine.setup(SCANS);
    setup.validation = weighbridge::validation::ValidationConfig {
        phase1_samples: 40,
        ..Default::default()
    };
    setup
}

/// So many batches around each level.
fn batches(hub: &Hub, machine: &mut Scripted, scans: &mut i64, levels: &[f64]) {
    for level in levels {
        for _ in 0..SCANS {
            let wobble = ((*scans * 37) % 101) as f64 / 100.0;
            machine.scan(EPOCH + *scans * MS, [level + wobble]);
            *scans += 1;
        }
        site::batches(hub, (*scans as u64) / SCANS as u64);
    }
}

/// Every wrap of the house's store to `id`, and how many of them are opened by its key.
fn opened(house: &House, id: &str, key: SealingKey) -> (usize, usize) {
    let store: Arc<dyn Store> = Arc::new(house.disk.store());
    let opener = Opener::new(store.clone(), key, id);
    let all: std::collections::BTreeSet<_> = store
        .scan(Space::Keys, &[])
        .map(|entry| read_wrap_key(&entry.unwrap().0).unwrap())
        .filter(|(object, ..)| !object.starts_with("fellow:"))
        .map(|(object, epoch, _)| (object, epoch))
        .collect();
    let opens = |(object, epoch): &&(String, u64)| opener.epoch_key(object, *epoch).is_ok();
    (all.len(), all.iter().filter(opens).count())
}

#[test]
fn a_hub_that_becomes_a_fellow_opens_what_was_recorded_before_and_after() {
    let mut site = OneSite::new(500);
    let (mut press, mut scans) = (scripted("press-1"), 0);
    let stranger = SealingKey::generate();
    let b = site.houses[1].sealing();
    site.houses[0].start([setup(&press)]);
    let a = &site.houses[0];
    batches(a.hub(), &mut press, &mut scans, &[5.0, 5.0]);
    site::enter(a.hub(), "ann", &[Role::Observer]);
    let before = opened(a, "hub-b", site.houses[1].sealing());
    assert!(before.0 >= 2 && before.1 == 0, "{before:?}");
    a.fellows.set("hub-b", b.public().compressed()).unwrap();
    let since = Instant::now();
    // The device and what users do get new keys, and those from before are wrapped.
    loop {
        let (all, open) = opened(a, "hub-b", site.houses[1].sealing());
        if all > before.0 && all == open {
            break;
        }
        assert!(since.elapsed() < site::PATIENCE, "{open} of {all}");
        batches(a.hub(), &mut press, &mut scans, &[5.0]);
    }
    // B reads what A has recorded, with A's store and its own key.
    let opener = Opener::new(Arc::new(a.disk.store()), b, "hub-b");
    let explorer = Explorer::new(Arc::new(a.disk.store()));
    let tip = explorer.tip().unwrap().unwrap().height;
    let (mut acts, mut of_press) = (0, 0);
    for height in 1..=tip {
        for record in explorer.block(height).unwrap().unwrap().records {
            match &record.body.content {
                Content::Message(message) => {
                    opener.open_act("hub-a", message).unwrap();
                    acts += 1;
                }
                Content::Batch(batch) => {
                    let sealed = batch.sealed.as_ref().unwrap();
                    let opened = opener.open_batch("press-1", sealed).unwrap();
                    assert_eq!(opened.content.batch.samples(), SCANS);
                    of_press += 1;
                }
                _ => {}
            }
        }
    }
    assert!(acts > 2 && of_press > 2, "{acts} {of_press}");
    assert_eq!(opened(a, "hub-b", stranger).1, 0);
    site.houses[0].hub.take().unwrap().shutdown().unwrap();
}

fn live(hub: &Hub, user: &str) -> bool {
    let at = hub
        .gate()
        .passage(user, Right::Live, "device:press-1/pressure", now());
    at.is_ok()
}

#[test]
fn who_is_put_out_at_one_hub_is_out_at_the_other_and_both_say_the_same() {
    let mut site = OneSite::new(510);
    let presses = ["press-1", "press-2"].map(scripted);
    for (house, press) in site.houses.iter_mut().zip(&presses) {
        house.start([setup(press)]);
    }
    site.share();
    let [a, b] = [0, 1];
    // A's machines are B's, too, and what B's configuration does not name it leaves alone.
    let state = site.houses[b].hub().gate().state();
    assert!(state.subjects().contains_key("device:press-1"));
    site::enter(site.houses[a].hub(), "ann", &[Role::Observer]);
    assert!(!live(site.houses[b].hub(), "ann"));
    site.exchange();
    assert!(
        live(site.houses[b].hub(), "ann"),
        "with the permit that A gave"
    );
    // At the same moment A puts her out and B gives her a role.
    let ann = || name("user", "ann");
    let change = |site: &OneSite, hub: usize, change: Change| {
        let hub = site.houses[hub].hub();
        let changed = hub.access().change(By::Hub("a test"), vec![change]);
        site::wait(hub, "a change", changed).unwrap();
    };
    change(&site, a, Change::Revoke(ann()));
    let roles = [Role::Operator.name().to_owned()].into();
    change(&site, b, Change::Assign(ann(), roles));
    assert!(live(site.houses[b].hub(), "ann") && !live(site.houses[a].hub(), "ann"));
    let mut changes = site.houses[b].hub().access().changes();
    changes.borrow_and_update();
    site.exchange();
    assert!(changes.has_changed().unwrap(), "whoever follows is told");
    assert!(!live(site.houses[b].hub(), "ann") && !live(site.houses[a].hub(), "ann"));
    let same = |a: &Hub, b: &Hub| a.gate().state() == b.gate().state();
    site.until("both say the same", |a, b| {
        same(a, b) && a.gate().state().subjects()["user:ann"].revoked
    });
    // A permit, a list and a level from either side.
    let permit = Permit { from: 1, until: 9 };
    change(
        &site,
        a,
        Change::Permit("device:press-2".into(), Mode::Read, Some(permit)),
    );
    change(
        &site,
        b,
        Change::Black(Side::Intranet, "device:press-1".into(), true),
    );
    site.until("both say the same again", |a, b| {
        let out = a.gate().state().admits("device:press-1", now()).is_err();
        same(a, b)
            && out
            && b.gate()
                .state()
                .permit("device:press-2", Mode::Read)
                .is_some()
    });
    // What a start reads is what is in force.
    let newest = site
        .order
        .iter()
        .filter_map(|(_, _, object, says)| told(object, says, false));
    let fresh = weighbridge::access::SharedAccess::new(newest, Vec::new()).unwrap();
    let of_a = site.houses[a].hub().gate().state();
    assert_eq!(fresh.in_force(), *of_a);
    site.end();
}

fn alarm(hub: &Hub) -> Option<Alarm> {
    let alarms = hub.alarms().alarms();
    alarms
        .into_iter()
        .find(|alarm| alarm.id == "press-1/pressure")
}

fn acts(
    hub: &Hub,
    who: &Caller,
    event: Option<u64>,
    action: AlarmAction,
) -> Result<Alarm, AlarmError> {
    let act = hub
        .alarms()
        .act(who, "press-1/pressure", event, action, "seen");
    site::wait(hub, "an act on an alarm", act)
}

#[test]
fn an_alarm_is_shown_at_all_hubs_and_acknowledged_at_any() {
    let mut site = OneSite::new(520);
    let (mut press, mut scans) = (scripted("press-1"), 0);
    site.houses[0].start([setup(&press)]);
    site.houses[1].start([]);
    site.share();
    let ann = site::enter(site.houses[0].hub(), "ann", &[Role::Supervisor]);
    batches(site.houses[0].hub(), &mut press, &mut scans, &[20.0; 6]);
    batches(site.houses[0].hub(), &mut press, &mut scans, &[50.0]);
    let both = |a: &Hub, b: &Hub, wanted: &dyn Fn(&Alarm) -> bool| {
        let (a, b) = (alarm(a), alarm(b));
        a.as_ref().is_some_and(wanted) && a == b
    };
    site.until("the alarm is shown at both", |a, b| {
        both(a, b, &|a| a.active)
    });
    // What was seen at B counts at A, which reads the device.
    let seen = alarm(site.houses[1].hub()).unwrap().event;
    let done = acts(
        site.houses[1].hub(),
        &ann,
        Some(seen),
        AlarmAction::Acknowledge,
    )
    .unwrap();
    assert!(done.acknowledged);
    site.until("both have it acknowledged", |a, b| {
        both(a, b, &|alarm| {
            alarm.acknowledged && alarm.comment == Some(("ann".into(), "seen".into()))
        })
    });
    // Nobody confirms what is acknowledged, and it becomes good.
    batches(site.houses[0].hub(), &mut press, &mut scans, &[20.0; 12]);
    site.until("both have it inactive", |a, b| {
        both(a, b, &|alarm| !alarm.active)
    });
    // While B has not heard of it the alarm is raised again: what B's user saw is over.
    let seen = alarm(site.houses[1].hub()).unwrap().event;
    batches(site.houses[0].hub(), &mut press, &mut scans, &[50.0]);
    acts(site.houses[1].hub(), &ann, Some(seen), AlarmAction::Confirm).unwrap();
    site.until("what is new is not confirmed", |a, b| {
        both(a, b, &|alarm| {
            alarm.active && !alarm.acknowledged && !alarm.confirmed
        })
    });
    site.end();
}

/// The users of one hub: their files, and the desks that know them.
struct People {
    users: UserDesk,
    files: CredentialFiles,
    door: Door,
    _dir: tempfile::TempDir,
}

impl People {
    fn of(hub: &Hub) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = CredentialFiles::new(&dir.path().join("users"));
        let users = UserDesk::new(hub.access().clone(), files.clone());
        let log_in = LogInDesk::new("hub", files.clone(), None).recorded_by(users.clone());
        Self {
            users,
            files,
            door: Door::of(log_in),
            _dir: dir,
        }
    }
}

#[test]
fn who_was_invited_at_one_hub_logs_in_at_all_and_a_code_counts_once_in_the_site() {
    const PASSWORD: &str = "a long enough one";
    let mut one = OneSite::new(530);
    one.houses.iter_mut().for_each(|house| house.start([]));
    one.share();
    let people = [0, 1].map(|hub| People::of(one.houses[hub].hub()));
    let [a, b] = [0, 1];
    let zoe = site::enter(one.houses[a].hub(), "zoe", &[Role::SecurityAdmin]);
    one.exchange();
    let new = NewUser {
        roles: Some([Role::Observer.name().to_owned()].into()),
        expires: None,
    };
    // Invited at A, she chooses a password and codes at B.
    let invited = people[a].users.add(&zoe, "anna", new, true);
    let invited = site::wait(one.houses[a].hub(), "an invitation", invited).unwrap();
    one.exchange();
    let hub = one.houses[b].hub();
    let welcome = people[b].users.invited(&invited.invitation);
    let secret = site::wait(hub, "a welcome", welcome)
        .unwrap()
        .codes
        .unwrap();
    let code = |steps: i64| secret.shown(now() + steps * 30_000_000_000).to_string();
    let first = code(0);
    let password = || Zeroizing::new(PASSWORD.to_owned());
    let accepted = people[b]
        .users
        .accept(&invited.invitation, password(), Some(&first));
    assert_eq!(site::wait(hub, "it is taken", accepted).unwrap(), "anna");
    one.exchange();
    // A knows that she has other credentials, and neither lets her in without them nor takes her own for changed.
    let hub = one.houses[a].hub();
    let before = hub.gate().state();
    site::wait(hub, "files are looked at", people[a].users.settle_all()).unwrap();
    assert_eq!(hub.gate().state(), before);
    let wanted = || site::wait(hub, "what is missing", people[a].users.wanted()).unwrap();
    assert_eq!(wanted(), ["anna"]);
    assert_eq!(
        people[a].door.log_in(hub, PASSWORD, Some(code(0))),
        Err(NotIn::Refused)
    );
    let amended = people[a].users.amend(&zoe, "anna", Amendment::RemoveCodes);
    let amended = site::wait(hub, "what is not here", amended).unwrap_err();
    assert!(amended.to_string().contains("another hub"), "{amended}");
    // They come sealed to A's key, and are those on record.
    let key = one.houses[a].sealing();
    let parcel = |from: usize| {
        let hub = one.houses[from].hub();
        let parcel = people[from].users.parcel("anna", key.public());
        site::wait(hub, "a parcel", parcel).unwrap()
    };
    assert_eq!(parcel(a), None, "A has nothing to send");
    let sealed = parcel(b).unwrap();
    let ring = || SealingRing::from(one.houses[a].sealing());
    let mut forged = Credentials::new("anna").unwrap();
    forged.password = Some(PasswordHash::with_salt(b"another password", &[7; 16]).unwrap());
    let forged = Parcel {
        credentials: forged,
        certificates: Vec::new(),
    };
    let forged = forged.seal(key.public(), [7; 16]).unwrap();
    let take = |sealed: &[u8]| site::wait(hub, "a parcel", people[a].users.take(&ring(), sealed));
    assert!(take(&forged).unwrap_err().to_string().contains("on record"));
    assert_eq!(take(&sealed).unwrap(), "anna");
    assert_eq!(wanted(), [""; 0]);
    let kept = |hub: usize| people[hub].files.load("anna").unwrap().unwrap();
    assert_eq!(kept(a), kept(b));
    // A code counts once, whichever hub it is shown to first.
    assert!(people[a].door.log_in(hub, PASSWORD, Some(first)).is_err());
    let second = code(1);
    assert_eq!(
        people[a]
            .door
            .log_in(hub, PASSWORD, Some(second.clone()))
            .unwrap(),
        "anna"
    );
    one.exchange();
    let hub = one.houses[b].hub();
    // Her file at B knows nothing of that, but the record does.
    let of_file = kept(b).totp.unwrap().last_step;
    assert!(of_file < hub.gate().state().used_code("user:anna"));
    assert_eq!(
        people[b].door.log_in(hub, PASSWORD, Some(second)),
        Err(NotIn::Refused)
    );
    // Withdrawn at A, she is nobody at B, and her file goes there, too.
    let hub = one.houses[a].hub();
    site::wait(
        hub,
        "she is withdrawn",
        people[a].users.revoke(&zoe, "anna"),
    )
    .unwrap();
    one.exchange();
    let hub = one.houses[b].hub();
    let before = hub.gate().state();
    assert!(before.admits("user:anna", now()).is_err());
    site::wait(hub, "files are looked at", people[b].users.settle_all()).unwrap();
    assert_eq!(hub.gate().state(), before, "her file is no new one");
    let wanted = site::wait(hub, "what is missing", people[b].users.wanted());
    assert_eq!(wanted.unwrap(), [""; 0]);
    assert_eq!(people[b].files.load("anna").unwrap(), None);
    drop(people);
    one.end();
}
