//! The `weighbridge` program.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    return_freed_memory();
    weighbridge::cli::main()
}

/// `mi_option_purge_delay` of mimalloc.h, which the binding does not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Freed pages go back to the operating system at once. Kept for reuse, as is the default, they are
/// two thirds of a small hub's resident memory, and reuse was not measurably faster.
#[allow(unsafe_code)]
fn return_freed_memory() {
    // SAFETY: sets an integer option of the allocator; allowed at any time, from any thread.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) };
}
