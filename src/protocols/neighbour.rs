//! The MAC address behind an IP address, from the table of neighbours that the system keeps of the links
//! it is on. On Linux, and for IPv4, where that table is a file; elsewhere nothing is known.

use crate::model::{Mac, Peer};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use weighbridge_verifier::Hash;

/// The table (proc(5), `/proc/net/arp`).
const TABLE: &str = "/proc/net/arp";
/// The neighbour has answered (linux/if_arp.h, `ATF_COM`).
const COMPLETE: u32 = 0x02;

/// Who answers at the other end of a connection that was just made: whoever has it is a neighbour then, or
/// behind one. `key` is the one it proved to have.
pub fn who_answers(dialled: String, address: SocketAddr, key: Option<Hash>) -> Peer {
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    let mac = match address.ip() {
        IpAddr::V4(ip) if !ip.is_loopback() => {
            let table = std::fs::read_to_string(TABLE).unwrap_or_default();
            mac_of(ip, &table)
        }
        _ => None,
    };
    Peer {
        dialled,
        address,
        mac,
        key,
    }
}

/// The MAC address of `ip` in a table. Of two links that both have such a neighbour nobody knows which one
/// is meant.
fn mac_of(ip: Ipv4Addr, table: &str) -> Option<Mac> {
    let mut found = table.lines().skip(1).filter_map(|line| {
        let mut cells = line.split_whitespace();
        let address: Ipv4Addr = cells.next()?.parse().ok()?;
        let flags = cells.nth(1)?.strip_prefix("0x")?;
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let mac: Mac = cells.next()?.parse().ok()?;
        let known = flags & COMPLETE != 0 && mac != Mac([0; 6]);
        (address == ip && known).then_some(mac)
    });
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
IP address       HW type     Flags       HW address            Mask     Device
192.0.2.7        0x1         0x2         00:1b:1b:0a:4c:07     *        eth0
192.0.2.70       0x1         0x6         00:1b:1b:0a:4c:70     *        eth0
192.0.2.8        0x1         0x0         00:00:00:00:00:00     *        eth0
192.0.2.9        0x1         0x2         00:1b:1b:0a:4c:09     *        eth0
192.0.2.9        0x1         0x2         00:1b:1b:0a:4c:19     *        eth1
192.0.2.10       0x1         0x2
";

    #[test]
    fn a_neighbour_is_known_when_there_is_one() {
        let table = [
            (7, Some("00:1b:1b:0a:4c:07")),
            (70, Some("00:1b:1b:0a:4c:70")),
            (8, None),
            (9, None),
            (10, None),
            (11, None),
        ];
        for (last, wanted) in table {
            let mac = mac_of(Ipv4Addr::new(192, 0, 2, last), SAID);
            assert_eq!(mac.map(|m| m.to_string()).as_deref(), wanted, "{last}");
        }
        assert_eq!(mac_of(Ipv4Addr::new(192, 0, 2, 7), ""), None);
    }

    #[test]
    fn an_address_has_one_form() {
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:502".parse().unwrap();
        let peer = who_answers("plc:502".into(), mapped, None);
        assert_eq!(peer.address, "127.0.0.1:502".parse().unwrap());
        assert_eq!(peer.mac, None);
    }
}
