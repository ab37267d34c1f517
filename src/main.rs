//! The `weighbridge` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    few_arenas();
    weighbridge::cli::main()
}

/// Two allocation arenas are enough for a hub's few busy threads; glibc's default of eight a core
/// keeps a fifth more memory resident, and is not faster here. (mimalloc keeps half more again.)
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
fn few_arenas() {
    // SAFETY: sets a parameter of the allocator, before any other thread is started.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn few_arenas() {}
