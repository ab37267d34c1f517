//! What the operating system says of this process.

use std::fs;

/// Kernel ticks a second in `/proc/self/stat`: fixed to 100 on every Linux ABI (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Resident memory in bytes; `None` where the system does not tell (other than Linux).
pub fn resident_bytes() -> Option<u64> {
    resident(&fs::read_to_string("/proc/self/status").ok()?)
}

/// Resident memory of another process, in bytes.
pub fn resident_bytes_of(process: u32) -> Option<u64> {
    resident(&fs::read_to_string(format!("/proc/{process}/status")).ok()?)
}

/// CPU time used since the start, user and system, in seconds; `None` where the system does not
/// tell (other than Linux).
pub fn cpu_seconds() -> Option<f64> {
    cpu(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// As [`cpu_seconds`], of another process.
pub fn cpu_seconds_of(process: u32) -> Option<f64> {
    cpu(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

fn cpu(stat: &str) -> Option<f64> {
    // The second field is the program's name in parentheses, and may hold anything, also `)`.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_whatever_the_program_is_called() {
        let stat = "77 (a) b (c) S 1 77 77 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 88 1 2";
        assert_eq!(cpu(stat), Some(3.0));
        let status = "Name:\tx\nVmPeak:\t  9 kB\nVmRSS:\t    2048 kB\nThreads:\t9\n";
        assert_eq!(resident(status), Some(2048 * 1024));
        assert_eq!(cpu("rubbish"), None);
        assert_eq!(resident("rubbish"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_memory() {
        assert!(resident_bytes().unwrap() > 1 << 20);
        assert!(cpu_seconds().is_some());
    }
}
