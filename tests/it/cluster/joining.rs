//! A hub that is let in later knows what was recorded before: who was put out is out there from the first moment, old
//! batches open, users log in by what they set elsewhere.

use super::{Cluster, Place, check};
use crate::site::{self, Door};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use weighbridge::access::{Change, Right, Role, Side};
use weighbridge::actors::access::By;
use weighbridge::actors::log_in::LogInDesk;
use weighbridge::actors::users::UserDesk;
use weighbridge::api::ClusterPort;
use weighbridge::crypto::SealingKey;
use weighbridge::hub::{Faces, Hub, LogInFiles, OpenFaces};
use weighbridge::ledger::key_wrap::read_wrap_key;
use weighbridge::ledger::opening::{Opener, OpeningError};
use weighbridge::ledger::store::Space;
use weighbridge::model::now;
use weighbridge::protocols::users::{NewUser, UsersPort};
use weighbridge::store::CredentialFiles;
use weighbridge_verifier::Content;
use zeroize::Zeroizing;

/// Lets a user in at a hub, and puts them on the blacklist.
fn put_out(hub: &Hub, user: &str) {
    site::enter(hub, user, &[Role::Supervisor]);
    let black = Change::Black(Side::Extranet, format!("user:{user}"), true);
    let changed = hub.access().change(By::Hub("a test"), vec![black]);
    site::wait(hub, "somebody is put out", changed).unwrap();
}

/// By which rule somebody is not let in.
fn refused(hub: &Hub, user: &str) -> Option<&'static str> {
    let state = hub.gate().state();
    let denied = state.admits(&format!("user:{user}"), now()).err();
    denied.map(|denied| denied.rule())
}

fn sees(hub: &Hub, user: &str) -> bool {
    let seen = format!("device:press-{}/count", hub.id());
    hub.gate().passage(user, Right::Live, &seen, now()).is_ok()
}

impl Place {
    fn opener(&self) -> Opener {
        let sealing = SealingKey::load(&self.dir.path().join("sealing.key")).unwrap();
        Opener::new(Arc::new(self.disk.store()), Arc::new(sealing), self.id)
    }

    /// Opens everything that is sealed in the blocks up to this height; how many batches and acts that are, and what
    /// does not open.
    fn opens(&self, height: u64) -> (usize, usize, Vec<OpeningError>) {
        let opener = self.opener();
        let (mut batches, mut acts, mut failed) = (0, 0, Vec::new());
        let blocks = self.blocks().into_iter().take(height as usize);
        for record in blocks.flat_map(|block| block.records) {
            let opened = match &record.body.content {
                Content::Batch(batch) => {
                    batches += 1;
                    let sealed = batch.sealed.as_ref().unwrap();
                    opener.open_batch(&batch.device, sealed).map(drop)
                }
                Content::Message(message) => {
                    acts += 1;
                    opener.open_act(&record.body.hub, message).map(drop)
                }
                _ => Ok(()),
            };
            failed.extend(opened.err());
        }
        (batches, acts, failed)
    }
}

impl Cluster {
    /// Waits until a hub opens everything up to this height.
    fn opens(&self, number: usize, height: u64) -> (usize, usize) {
        let mut opened = self.hubs[&number].cluster().unwrap().book().opened();
        self.wait(number, "what was recorded before opens", async {
            loop {
                opened.borrow_and_update();
                let (batches, acts, failed) = self.places[number].opens(height);
                if failed.is_empty() {
                    return (batches, acts);
                }
                opened.changed().await.unwrap();
            }
        })
    }

    /// A hub hears of changes of access until this is so.
    fn until_access(&self, number: usize, what: &str, is_so: impl Fn(&Hub) -> bool) {
        let hub = &self.hubs[&number];
        let mut changes = hub.access().changes();
        self.wait(number, what, async {
            while !is_so(hub) {
                changes.changed().await.unwrap();
            }
        });
    }
}

#[test]
fn who_was_put_out_before_a_hub_joined_is_out_there_and_what_was_recorded_opens() {
    let mut cluster = Cluster::of(&["hub-a", "hub-b", "hub-c", "hub-d"]);
    let alone = cluster.places[0].builder().start().unwrap();
    site::batches(&alone, 3);
    put_out(&alone, "eve");
    site::enter(&alone, "ann", &[Role::Observer]);
    alone.shutdown().unwrap();
    cluster.start(0);
    let mut out = vec!["eve"];
    for (number, next) in (1..4).zip(["mallory", "trudy", "oscar"]) {
        let before = cluster.height(0);
        cluster.admit(number);
        // From the first moment, without waiting for anything.
        let hub = &cluster.hubs[&number];
        for user in &out {
            assert_eq!(
                refused(hub, user),
                Some("blacklist"),
                "{user} at {}",
                hub.id()
            );
        }
        assert_eq!(refused(hub, "ann"), None);
        assert_eq!(hub.cluster().unwrap().status().unread, 0);
        let (batches, acts) = cluster.opens(number, before);
        assert!(batches > 2 && acts > 4, "{batches} {acts}");
        put_out(&cluster.hubs[&number], next);
        out.push(next);
        for other in 0..number {
            cluster.until_access(other, "who is put out at one hub is out at all", |hub| {
                refused(hub, next) == Some("blacklist")
            });
        }
    }
    let (genesis, height) = (cluster.genesis, cluster.height(0));
    let places = cluster.end();
    check(&places, genesis);
    for place in &places {
        let (.., failed) = place.opens(height);
        assert!(failed.is_empty(), "{}: {failed:?}", place.id);
    }
}

/// Takes half of what a joining hub has got away again: the wraps, of what was recorded before, that came to it last.
fn half_way(place: &Place, of: &BTreeSet<(String, u64)>) -> usize {
    let all = place.disk.contents(Space::Keys);
    let mut gone = 0;
    for (at, _) in all {
        let (object, epoch, to) = read_wrap_key(&at).unwrap();
        if to == place.id && of.contains(&(object, epoch)) {
            place.disk.tamper(Space::Keys, &at, None);
            gone += 1;
        }
    }
    gone
}

#[test]
fn a_hub_that_ended_before_it_could_read_everything_lets_nobody_in_by_mistake_and_goes_on() {
    let mut cluster = Cluster::of(&["hub-a", "hub-b"]);
    let alone = cluster.places[0].builder().start().unwrap();
    site::batches(&alone, 3);
    put_out(&alone, "eve");
    site::enter(&alone, "ann", &[Role::Observer]);
    alone.shutdown().unwrap();
    let keys = cluster.places[0].disk.contents(Space::Keys);
    let before: BTreeSet<(String, u64)> = keys
        .iter()
        .filter_map(|(at, _)| read_wrap_key(at))
        .map(|(object, epoch, _)| (object, epoch))
        .collect();
    cluster.start(0);
    cluster.admit(1);
    let height = cluster.height(0);
    cluster.opens(1, height);
    cluster.all_is_agreed();
    cluster.stop(1);
    cluster.stop(0);
    assert!(half_way(&cluster.places[1], &before) >= 2);
    // Nobody is there of whom it could have the rest.
    let place = &cluster.places[1];
    let mut setup = place.setup(cluster.genesis, cluster.others(1));
    setup.reading = Duration::from_millis(100);
    let hub = place.builder().cluster(setup).start().unwrap();
    cluster.is_there(1, hub);
    let hub = &cluster.hubs[&1];
    assert!(hub.cluster().unwrap().status().unread > 2);
    for user in ["eve", "ann"] {
        assert_eq!(refused(hub, user), Some("unread"), "{user}");
        // And nothing is made anew over what cannot be seen.
        let id = format!("user:{user}");
        let change = Change::White(Side::Extranet, id, true);
        let changed = hub.access().change(By::Hub("a test"), vec![change]);
        let why = site::wait(hub, "a change is refused", changed).unwrap_err();
        assert!(why.to_string().contains("cannot be read here yet"), "{why}");
    }
    let open = hub.gate().state().subjects().contains_key("user:eve");
    assert!(!open);
    // The other one is back, and has all of it still.
    cluster.start(0);
    cluster.until_access(1, "what was recorded before is in force", |hub| {
        hub.gate().state().unread().is_empty()
    });
    let hub = &cluster.hubs[&1];
    assert_eq!(refused(hub, "eve"), Some("blacklist"));
    assert_eq!(refused(hub, "ann"), None);
    assert!(!sees(hub, "eve"));
    cluster.opens(1, height);
    cluster.grow(2);
    let genesis = cluster.genesis;
    let places = cluster.end();
    check(&places, genesis);
}

/// The users of one hub, with a face at which they log in.
struct People {
    users: UserDesk,
    files: CredentialFiles,
    door: Door,
    faces: OpenFaces,
    _dir: tempfile::TempDir,
}

impl People {
    fn of(hub: &Hub) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let credentials = dir.path().join("users");
        let faces = Faces {
            log_in: Some(LogInFiles {
                credentials: credentials.clone(),
                authority: None,
            }),
            ..Faces::default()
        };
        let faces = hub.open_faces(&faces).unwrap();
        let files = CredentialFiles::new(&credentials);
        let users = UserDesk::new(hub.access().clone(), files.clone());
        let log_in = LogInDesk::new(hub.id(), files.clone(), None).recorded_by(users.clone());
        Self {
            door: Door::of(log_in),
            users,
            files,
            faces,
            _dir: dir,
        }
    }
}

#[test]
fn who_set_a_password_at_one_hub_logs_in_at_each_and_a_code_counts_once() {
    const PASSWORD: &str = "a long enough one";
    let mut cluster = Cluster::of(&["hub-a", "hub-b"]);
    cluster.start(0);
    let at_a = People::of(&cluster.hubs[&0]);
    let hub = &cluster.hubs[&0];
    let zoe = site::enter(hub, "zoe", &[Role::SecurityAdmin]);
    let new = NewUser {
        roles: Some([Role::Observer.name().to_owned()].into()),
        expires: None,
    };
    let invited = at_a.users.add(&zoe, "anna", new, true);
    let invited = site::wait(hub, "an invitation", invited).unwrap();
    let welcome = at_a.users.invited(&invited.invitation);
    let welcome = site::wait(hub, "a welcome", welcome).unwrap();
    let secret = welcome.codes.unwrap();
    let code = |steps: i64| secret.shown(now() + steps * 30_000_000_000).to_string();
    let first = code(0);
    let password = || Zeroizing::new(PASSWORD.to_owned());
    let accepted = at_a
        .users
        .accept(&invited.invitation, password(), Some(&first));
    assert_eq!(site::wait(hub, "it is taken", accepted).unwrap(), "anna");
    // The other hub comes later still.
    cluster.admit(1);
    let at_b = People::of(&cluster.hubs[&1]);
    cluster.wait(1, "credentials come from the other hub", async {
        // Nobody is told of a file.
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while at_b.files.load("anna").unwrap().is_none() {
            looks.tick().await;
        }
    });
    let hub = &cluster.hubs[&1];
    assert!(
        at_b.door
            .log_in(hub, "another password", Some(first.clone()))
            .is_err()
    );
    assert!(
        at_b.door.log_in(hub, PASSWORD, Some(first)).is_err(),
        "it was used"
    );
    let second = code(1);
    assert_eq!(
        at_b.door
            .log_in(hub, PASSWORD, Some(second.clone()))
            .unwrap(),
        "anna"
    );
    let used = hub.gate().state().used_code("user:anna");
    cluster.until_access(0, "a code that was used is used", |hub| {
        hub.gate().state().used_code("user:anna") == used
    });
    let hub = &cluster.hubs[&0];
    assert!(at_a.door.log_in(hub, PASSWORD, Some(second)).is_err());
    let wanted = site::wait(hub, "what is missing", at_a.users.wanted());
    assert_eq!(wanted.unwrap(), [""; 0]);
    for (number, people) in [at_a, at_b].into_iter().enumerate() {
        people.faces.close(&cluster.hubs[&number].runtime());
    }
    let genesis = cluster.genesis;
    let places = cluster.end();
    check(&places, genesis);
}
