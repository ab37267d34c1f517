//! What a process that holds secrets keeps to itself: its memory, and the files that it makes.

/// Turns core dumps off, keeps other programs of the same user out of this one's memory, and has every file that is
/// made from now on readable by its owner alone. For the beginning of the program, before there is a secret.
#[cfg(unix)]
pub(super) fn keep_private() {
    use rustix::fs::Mode;
    use rustix::process::{Resource, Rlimit, setrlimit, umask};
    umask(Mode::from_raw_mode(0o077));
    let nothing = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let mut done = setrlimit(Resource::Core, nothing);
    // A limit of 0 does not keep a program that core_pattern pipes to from getting one; this does (core(5)).
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        done = done.and(set_dumpable_behavior(DumpableBehavior::NotDumpable));
    }
    if let Err(error) = done {
        eprintln!("warning: core dumps cannot be turned off: {error}");
    }
}

#[cfg(not(unix))]
pub(super) fn keep_private() {}
