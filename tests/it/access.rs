//! Who may what: every change is a record before it is in force, and a restart forgets none.

use crate::machines::{EPOCH, MS, Scripted, tag};
use crate::site::{self, Site};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use weighbridge::access::{AccessConfig, Caller, Change, Mode, Role, Side};
use weighbridge::actors::access::By;
use weighbridge::hub::{Faces, Hub};
use weighbridge::model::ValueKind;
use weighbridge::protocols::opcua::OpcUaServerConfig;
use weighbridge::protocols::ports::{AccessError, AccessPort, ControlError};
use weighbridge_verifier::{Action, Response, Suite};

const PRESS: &str = "press-1";

fn press() -> Scripted {
    Scripted::new(PRESS, [tag("pressure", ValueKind::F64)])
}

fn change(hub: &Hub, by: &Caller, change: Change) -> Result<(), AccessError> {
    let changing = hub.access().change(By::User(by), vec![change]);
    site::wait(hub, "a change of access", changing)
}

/// What becomes of a call on the press: it has no methods, so who may call is told that.
fn call(hub: &Hub, who: &Caller) -> ControlError {
    let call = weighbridge::protocols::control::MethodCall {
        object: "press".into(),
        method: "home".into(),
        arguments: Vec::new(),
    };
    let control = hub.control();
    site::wait(hub, "an answer", control.call(who, PRESS, call)).unwrap_err()
}

fn denied(error: &ControlError) -> bool {
    matches!(error, ControlError::Denied(_))
}

#[test]
fn a_change_is_on_record_in_force_at_once_and_after_a_restart() {
    let (site, press) = (Site::new(90), press());
    let start = || site.hub().device(press.setup(1)).start().unwrap();
    let hub = start();
    let anna = site::enter(&hub, "anna", &[Role::Engineer]);
    let zoe = site::enter(&hub, "zoe", &[Role::SecurityAdmin]);
    assert!(!denied(&call(&hub, &anna)));

    let black = |on| Change::Black(Side::Extranet, "user:anna".into(), on);
    change(&hub, &zoe, black(true)).unwrap();
    let error = call(&hub, &anna);
    assert_eq!(
        error.to_string(),
        "`anna` may not call methods of `press-1`"
    );
    let refusal = site.recorded().acts.pop().unwrap();
    assert_eq!(
        (refusal.action, refusal.response),
        (Action::Refuse, Response::Refused)
    );
    assert_eq!(refusal.details["request"]["rule"], "blacklist");
    let before = hub.gate().state();
    hub.shutdown().unwrap();

    let hub = start();
    assert_eq!(hub.gate().state(), before);
    assert!(denied(&call(&hub, &anna)));
    change(&hub, &zoe, black(false)).unwrap();
    assert!(!denied(&call(&hub, &anna)));
    change(&hub, &zoe, Change::Revoke("user:anna".into())).unwrap();
    assert!(denied(&call(&hub, &anna)));
    let admitted = site::wait(&hub, "an answer", hub.access().admit("anna", "test"));
    assert!(
        matches!(admitted, Err(AccessError::Denied(_))),
        "{admitted:?}"
    );
    let before = hub.gate().state();
    hub.shutdown().unwrap();
    let hub = start();
    assert_eq!(hub.gate().state(), before);
    hub.shutdown().unwrap();

    let access = site.recorded().access;
    let by = |subject: &str| access.iter().filter(|a| a.subject == subject).count();
    // Two for the lists, one for a permit and one for the subject; the hub did the rest.
    assert_eq!((by("user:zoe"), by("user:anna")), (5, 1));
    site.verify_is_clean();
}

#[test]
fn who_may_grant_is_itself_ruled_and_a_refusal_says_no_rule_to_the_one_refused() {
    let (site, press) = (Site::new(91), press());
    let hub = site.hub().device(press.setup(1)).start().unwrap();
    let anna = site::enter(&hub, "anna", &[Role::Supervisor]);
    let zoe = site::enter(&hub, "zoe", &[Role::SecurityAdmin]);
    let assign = |role: Role| {
        let roles = BTreeSet::from([role.name().to_owned()]);
        Change::Assign("user:anna".into(), roles)
    };
    let before = hub.gate().state();
    let refused = change(&hub, &anna, assign(Role::ConfigureAdmin)).unwrap_err();
    assert_eq!(refused.to_string(), "`anna` may not assign this");
    assert_eq!(hub.gate().state(), before);
    let refusal = site.recorded().access.pop().unwrap();
    assert_eq!(
        (refusal.action, refusal.response),
        (Action::Refuse, Response::Refused)
    );
    assert_eq!(refusal.details["rule"], "role");

    change(&hub, &zoe, assign(Role::Auditor)).unwrap();
    assert_eq!(hub.gate().roles("anna"), ["auditor"]);
    let nobody = change(&hub, &zoe, Change::Revoke("user:nobody".into())).unwrap_err();
    assert!(matches!(nobody, AccessError::Impossible(_)), "{nobody}");
    hub.shutdown().unwrap();
    site.verify_is_clean();
}

#[test]
fn what_cannot_be_recorded_is_not_in_force_then_or_later() {
    let (site, press) = (Site::new(92), press());
    let start = || site.hub().device(press.setup(1)).start().unwrap();
    let hub = start();
    let anna = site::enter(&hub, "anna", &[Role::Engineer]);
    let zoe = site::enter(&hub, "zoe", &[Role::SecurityAdmin]);
    let before = hub.gate().state();
    site.disk.set_full(true);
    let black = Change::Black(Side::Extranet, "user:anna".into(), true);
    for _ in 0..2 {
        let failed = change(&hub, &zoe, black.clone()).unwrap_err();
        assert!(matches!(failed, AccessError::NotRecorded(_)), "{failed}");
        assert_eq!(hub.gate().state(), before);
    }
    site.disk.set_full(false);
    site::ledger(&hub, "is up again", |s| {
        s.health == weighbridge::actors::ledger::LedgerHealth::Up
    });
    // The first change was under way when the disk ran full, and became durable: the record goes on to say
    // that it is not in force.
    site::ledger(&hub, "it is taken back", |_| {
        let access = site.recorded().access;
        access
            .last()
            .is_some_and(|a| a.details["by"]["why"].is_string())
    });
    assert!(!denied(&call(&hub, &anna)));
    hub.shutdown().unwrap();
    let hub = start();
    assert_eq!(hub.gate().state(), before);
    hub.shutdown().unwrap();
    site.verify_is_clean();
}

#[test]
fn permits_end_and_admission_gives_them_anew() {
    let (site, press) = (Site::new(93), press());
    let hub = site.hub().device(press.setup(1)).start().unwrap();
    let anna = site::enter(&hub, "anna", &[Role::Engineer]);
    let zoe = site::enter(&hub, "zoe", &[Role::SecurityAdmin]);
    let ended = Change::Permit("user:anna".into(), Mode::Control, None);
    change(&hub, &zoe, ended).unwrap();
    assert!(denied(&call(&hub, &anna)));
    let refusal = site.recorded().acts.pop().unwrap();
    assert_eq!(refusal.details["request"]["rule"], "permit");
    site::wait(&hub, "admission", hub.access().admit("anna", "test")).unwrap();
    assert!(!denied(&call(&hub, &anna)));
    // Within the life of a permit it is given once.
    let permits = || {
        let access = site.recorded().access.into_iter();
        access
            .filter(|a| a.object == "access:permit/control/user:anna")
            .count()
    };
    assert_eq!(permits(), 3);
    site::wait(&hub, "admission", hub.access().admit("anna", "test")).unwrap();
    assert_eq!(permits(), 3);
    hub.shutdown().unwrap();
    site.verify_is_clean();
}

#[test]
fn a_device_stores_within_a_permit_that_its_good_data_renew() {
    let (site, press) = (Site::new(94), press());
    let hub = site.hub().device(press.setup(1)).start().unwrap();
    let zoe = site::enter(&hub, "zoe", &[Role::SecurityAdmin]);
    press.scan(EPOCH, [1.0]);
    site::batches(&hub, 1);
    let ended = Change::Permit("device:press-1".into(), Mode::Store, None);
    change(&hub, &zoe, ended).unwrap();
    // What is bad renews nothing, and is refused as it would be anyway.
    press.scan(EPOCH + MS, [f64::NAN]);
    site::batches(&hub, 2);
    press.scan(EPOCH + 2 * MS, [2.0]);
    site::batches(&hub, 3);
    let permit = *hub
        .gate()
        .state()
        .permit("device:press-1", Mode::Store)
        .unwrap();
    hub.shutdown().unwrap();

    let recorded = site.recorded();
    let permits: Vec<_> = recorded.batches.iter().map(|b| b.permit).collect();
    assert!(
        permits[0].is_some() && permits[0] != permits[2],
        "{permits:?}"
    );
    assert_eq!(permits[1], None);
    assert_eq!(
        permits[2],
        Some(permit.hash(Suite::Nist, "device:press-1", Mode::Store))
    );
    let of_press = |a: &&site::RecordedAct| a.object == "access:permit/store/device:press-1";
    let given: Vec<_> = recorded.access.iter().filter(of_press).collect();
    assert_eq!(given.len(), 3);
    for (grant, batch) in [(given[0], 0), (given[2], 2)] {
        assert!(grant.height <= recorded.batches[batch].height);
        assert_eq!(grant.subject, "hub:hub-1");
    }
    recorded.is_gapless();
    site.verify_is_clean();
}

#[test]
fn a_device_that_is_refused_again_and_again_is_cut_off_until_somebody_lets_it_in() {
    let (site, press) = (Site::new(95), press());
    let config = AccessConfig {
        cut_off_after: 3,
        ..AccessConfig::default()
    };
    let start = || {
        let hub = site.hub().access(config.clone()).device(press.setup(1));
        hub.start().unwrap()
    };
    let hub = start();
    let zoe = site::enter(&hub, "zoe", &[Role::SecurityAdmin]);
    let values = [1.0, f64::NAN, f64::NAN, 2.0, f64::NAN, f64::NAN, f64::NAN];
    for (at, value) in (0..).zip(values) {
        press.scan(EPOCH + at * MS, [value]);
    }
    let why = site::down(&hub, PRESS);
    let said =
        "the hub takes nothing of it: on the blacklist of the intranet (`weighbridge access`";
    assert!(why.starts_with(said), "{why}");
    let black = |a: &site::RecordedAct| a.details["says"]["black"] == true;
    let told = site.recorded().access.into_iter().find(black).unwrap();
    assert_eq!(told.details["by"]["why"], "3 batches in a row were refused");
    assert_eq!(told.object, "access:list/intranet/device:press-1");
    hub.shutdown().unwrap();

    // It is cut off after a restart, too.
    let hub = start();
    site::down(&hub, PRESS);
    let stored = site.recorded().batches.len();
    press.scan(EPOCH + 20 * MS, [3.0]);
    let back = Change::Black(Side::Intranet, "device:press-1".into(), false);
    change(&hub, &zoe, back).unwrap();
    site::up(&hub, PRESS);
    site::ledger(&hub, "it stores again", |_| {
        site.recorded().batches.len() > stored
    });
    hub.shutdown().unwrap();
    site.recorded().is_gapless();
    site.verify_is_clean();
}

#[test]
fn who_is_put_out_is_out_at_once_and_sessions_are_on_record() {
    let (site, other, press) = (Site::new(96), Site::new(97), press());
    let hub = site.hub().device(press.setup(1)).start().unwrap();
    let pki = tempfile::tempdir().unwrap();
    let faces = Faces {
        opcua: Some(OpcUaServerConfig {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            pki_dir: pki.path().into(),
            ..OpcUaServerConfig::default()
        }),
        ..Faces::default()
    };
    let faces = hub.open_faces(&faces).unwrap();
    let zoe = site::enter(&hub, "zoe", &[Role::SecurityAdmin]);
    let url = faces.opcua_url().unwrap();
    let reader = other
        .hub()
        .device(crate::faces::scada(&url, &press.setup(1)));
    let reader = reader.start().unwrap();
    press.scan(EPOCH, [1.5]);
    site::up(&reader, "scada");
    let black = |on| Change::Black(Side::Extranet, "user:anonymous".into(), on);
    change(&hub, &zoe, black(true)).unwrap();
    site::down(&reader, "scada");
    let refused = |a: &site::RecordedAct| {
        a.kind == "access-refused" && a.object == "access:subject/user:anonymous"
    };
    assert!(site.recorded().access.iter().any(refused));
    change(&hub, &zoe, black(false)).unwrap();
    press.scan(EPOCH + MS, [2.5]);
    site::up(&reader, "scada");
    reader.shutdown().unwrap();
    faces.close(&hub.runtime());
    hub.shutdown().unwrap();
    let acts = site.recorded().acts;
    let told = |kind: &str| {
        let of_anonymous = acts.iter().filter(|a| a.subject == "user:anonymous");
        of_anonymous.filter(|a| a.kind == kind).count()
    };
    assert!(told("session-begin") >= 1, "{acts:?}");
    assert_eq!(told("session-begin"), told("session-end"));
    site.verify_is_clean();
}
