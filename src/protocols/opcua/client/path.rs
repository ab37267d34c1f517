//! Browse paths: the way to a variable from the objects folder, for servers that make node ids as they
//! like. A companion specification (OPC 40010-1 for robots, say) fixes names, and leaves the ids to the
//! server.
//!
//! ```text
//! /nsu=http://opcfoundation.org/UA/DI/;DeviceSet/*/2:Axes/*[3]/*:ActualPosition
//! ```
//!
//! Steps begin with `/`. A step is a browse name (OPC 10000-3, 8.3), with its namespace by URI
//! (`nsu=URI;NAME`), by index (`2:NAME`), of whatever namespace (`*:NAME`) or the standard's own (`NAME`);
//! or it is any object below (`*`), or the third one by name (`*[3]`): A2 comes before A10. Servers promise
//! no order of their own (OPC 10000-4, 5.9.2). In a name `/` and `&`
//! are written `&/` and `&&` (OPC 10000-4, A.2), and so are `:` and `*` where they would be taken for more.

use super::node::Namespace;

/// Most steps of a path.
const MAX_STEPS: usize = 32;

/// One step down.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// To the node of this browse name.
    Name(Namespace, String),
    /// To a node of this name, whatever its namespace.
    Named(String),
    /// To an object, whatever its name: any, or the one of this number by name, from 1.
    Object(Option<usize>),
}

impl Step {
    /// Whether a server can be asked for it by TranslateBrowsePathsToNodeIds (OPC 10000-4, 5.9.4).
    pub(super) fn is_exact(&self) -> bool {
        matches!(self, Self::Name(..))
    }
}

/// Reads the steps of a path; the error says what is wrong with it.
pub(super) fn steps(text: &str) -> Result<Vec<Step>, &'static str> {
    let mut steps = Vec::new();
    let mut rest = text;
    while let Some(after) = rest.strip_prefix('/') {
        let (step, remaining) = step(after)?;
        steps.push(step);
        rest = remaining;
        if steps.len() > MAX_STEPS {
            return Err("a path has at most 32 steps");
        }
    }
    match steps.last() {
        None => Err("a path begins with /"),
        Some(Step::Object(_)) => Err("a path ends with a name: its last step is a variable"),
        Some(_) => Ok(steps),
    }
}

fn step(text: &str) -> Result<(Step, &str), &'static str> {
    if let Some(after) = text.strip_prefix("nsu=") {
        // Slashes belong to the URI, which ends at the semicolon.
        let (uri, rest) = after
            .split_once(';')
            .filter(|(uri, _)| !uri.is_empty())
            .ok_or("a namespace is written nsu=URI; before a name")?;
        let uri = uri.replace("%3B", ";").replace("%25", "%");
        let (name, rest) = name(rest)?;
        return Ok((Step::Name(Namespace::Uri(uri), name), rest));
    }
    if let Some(after) = text.strip_prefix("*:") {
        let (name, rest) = name(after)?;
        return Ok((Step::Named(name), rest));
    }
    if let Some(after) = text.strip_prefix('*') {
        return any(after);
    }
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (index, after) = text.split_at(digits);
    if let (false, Some(after)) = (index.is_empty(), after.strip_prefix(':')) {
        let index = index
            .parse()
            .map_err(|_| "the namespace index is not a number below 65536")?;
        let (name, rest) = name(after)?;
        return Ok((Step::Name(Namespace::Index(index), name), rest));
    }
    let (name, rest) = name(text)?;
    Ok((Step::Name(Namespace::Index(0), name), rest))
}

fn any(after: &str) -> Result<(Step, &str), &'static str> {
    const WRONG: &str = "any object is written * or, the third one, *[3]";
    let (number, rest) = match after.strip_prefix('[') {
        None => (None, after),
        Some(number) => {
            let (number, rest) = number.split_once(']').ok_or(WRONG)?;
            let number: usize = number.parse().map_err(|_| WRONG)?;
            (Some(number), rest)
        }
    };
    let ends = rest.is_empty() || rest.starts_with('/');
    match number {
        Some(0) => Err(WRONG),
        _ if !ends => Err(WRONG),
        number => Ok((Step::Object(number), rest)),
    }
}

/// A name up to the next step.
fn name(text: &str) -> Result<(String, &str), &'static str> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut rest = "";
    while let Some((at, c)) = chars.next() {
        match c {
            '/' => {
                rest = text.get(at..).unwrap_or_default();
                break;
            }
            '&' => match chars.next() {
                Some((_, escaped)) => name.push(escaped),
                None => return Err("`&` escapes the character after it, and there is none"),
            },
            c => name.push(c),
        }
    }
    match name.is_empty() {
        true => Err("a step has no name"),
        false => Ok((name, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn steps_are_read_with_their_namespaces() {
        let uri = "http://opcfoundation.org/UA/DI/";
        let text = format!("/nsu={uri};DeviceSet/*/2:Axes/*[3]/*:a&/b/0:Value");
        let name = |namespace, name: &str| Step::Name(namespace, name.to_owned());
        let expected = [
            name(Namespace::Uri(uri.into()), "DeviceSet"),
            Step::Object(None),
            name(Namespace::Index(2), "Axes"),
            Step::Object(Some(3)),
            Step::Named("a/b".into()),
            name(Namespace::Index(0), "Value"),
        ];
        assert_eq!(steps(&text).unwrap(), expected);
        let plain = steps("/Server/3D&:x").unwrap();
        assert_eq!(plain[1], name(Namespace::Index(0), "3D:x"));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, reason) in [
            ("/", "no name"),
            ("/a//b", "no name"),
            ("/a/*", "ends with a name"),
            ("/*[0]/a", "the third one"),
            ("/*x/a", "the third one"),
            ("/nsu=urn:x", "nsu=URI;"),
            ("/70000:a", "below 65536"),
            ("/a&", "escapes"),
            (&"/a".repeat(40), "at most 32"),
        ] {
            let error = steps(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[/a*:&;=\\[\\]0-9nsu]{0,40}") {
            let _ = steps(&text);
        }
    }
}
