//! What is asked for: paths and queries, escaped (RFC 3986, clause 2.1).

/// An absolute path of these segments, whatever is in them.
pub(in crate::cli) fn path(segments: &[&str]) -> String {
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        escape(segment, &mut path);
    }
    path
}

fn escape(text: &str, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                into.push(char::from(byte));
            }
            _ => into.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// A path with a query.
pub(super) fn target(path: &str, query: &[(&str, String)]) -> String {
    let mut target = path.to_owned();
    for (i, (name, value)) in query.iter().enumerate() {
        target.push(if i == 0 { '?' } else { '&' });
        target.push_str(name);
        target.push('=');
        escape(value, &mut target);
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        let query = [("device", "a b&c=ä".to_owned()), ("limit", "5".to_owned())];
        assert_eq!(target("/x", &query), "/x?device=a%20b%26c%3D%C3%A4&limit=5");
    }
}
