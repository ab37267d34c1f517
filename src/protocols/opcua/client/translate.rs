//! Where browse paths lead on a server: asked at every connection, because what is behind a name may
//! have another id after a restart.
//!
//! All paths go down together, so that a request asks for many of them, and what they have in common is
//! asked once.

use super::line::{Limits, Pace, incomplete};
use super::node::Namespace;
use super::path::Step;
use opcua::client::Session;
use opcua::types::{
    BrowseDescription, BrowseDirection, BrowsePath, BrowseResult, BrowseResultMask, Error,
    NodeClass, NodeClassMask, NodeId, ObjectId, QualifiedName, ReferenceDescription,
    ReferenceTypeId, RelativePath, RelativePathElement,
};
use std::collections::HashMap;

/// Most ways that are followed at once: `*` may stand for many.
const MAX_WAYS: usize = 10_000;
/// References in one answer about a node.
const REFERENCES: u32 = 1_000;
/// Most answers about one node.
const MAX_ANSWERS: usize = 10;

/// One of the ways that a path may go.
struct Way {
    path: usize,
    node: NodeId,
    done: usize,
}

/// Asks where paths lead; `None` for one that leads nowhere.
pub(super) async fn translate(
    session: &Session,
    limits: Limits,
    paths: &[&[Step]],
    index_of: impl Fn(&Namespace) -> Option<u16>,
) -> Result<Vec<Option<NodeId>>, Error> {
    let mut found: Vec<Option<NodeId>> = vec![None; paths.len()];
    let start: NodeId = ObjectId::ObjectsFolder.into();
    // In the order of names, so that of several ways it is always the same that counts.
    let all = (0..paths.len()).map(|path| Way {
        path,
        node: start.clone(),
        done: 0,
    });
    let mut ways: Vec<Way> = all.collect();
    while !ways.is_empty() {
        let mut down = Down::new(paths, &ways, &index_of);
        down.ask(session, limits).await?;
        let mut next = Vec::new();
        for way in &ways {
            for (node, done) in down.below(paths, way, &index_of) {
                let path = way.path;
                match paths.get(path).map(|steps| done >= steps.len()) {
                    Some(false) if next.len() < MAX_WAYS => next.push(Way { path, node, done }),
                    Some(true) => {
                        if let Some(slot) = found.get_mut(path) {
                            slot.get_or_insert(node);
                        }
                    }
                    _ => {}
                }
            }
        }
        next.retain(|way: &Way| found.get(way.path).is_some_and(Option::is_none));
        ways = next;
    }
    Ok(found)
}

/// The steps that a server translates in one go.
fn exact(paths: &[&[Step]], way: &Way) -> Vec<Step> {
    let steps = paths.get(way.path).and_then(|steps| steps.get(way.done..));
    let steps = steps.unwrap_or_default().iter();
    steps.take_while(|step| step.is_exact()).cloned().collect()
}

/// What is asked of the server for one level of the ways, each question once.
struct Down {
    translated: HashMap<(NodeId, Vec<QualifiedName>), Option<NodeId>>,
    browsed: HashMap<NodeId, Vec<ReferenceDescription>>,
}

fn names(
    steps: &[Step],
    index_of: &impl Fn(&Namespace) -> Option<u16>,
) -> Option<Vec<QualifiedName>> {
    let name = |step: &Step| match step {
        Step::Name(namespace, name) => {
            Some(QualifiedName::new(index_of(namespace)?, name.as_str()))
        }
        Step::Named(_) | Step::Object(_) => None,
    };
    steps.iter().map(name).collect()
}

impl Down {
    fn new(paths: &[&[Step]], ways: &[Way], index_of: &impl Fn(&Namespace) -> Option<u16>) -> Self {
        let mut down = Self {
            translated: HashMap::new(),
            browsed: HashMap::new(),
        };
        for way in ways {
            let steps = exact(paths, way);
            if steps.is_empty() {
                down.browsed.insert(way.node.clone(), Vec::new());
            } else if let Some(names) = names(&steps, index_of) {
                down.translated.insert((way.node.clone(), names), None);
            }
        }
        down
    }

    async fn ask(&mut self, session: &Session, limits: Limits) -> Result<(), Error> {
        let asked: Vec<_> = self.translated.keys().cloned().collect();
        let mut done = 0;
        let mut pace = Pace(limits.translate);
        while let Some(chunk) = pace.next(&asked, done) {
            let paths: Vec<_> = chunk.iter().map(browse_path).collect();
            match session.translate_browse_paths_to_node_ids(&paths).await {
                Ok(results) if results.len() == chunk.len() => {
                    for (question, result) in chunk.iter().zip(results) {
                        let targets = result.targets.into_iter().flatten();
                        let mut whole = targets.filter(|t| {
                            t.remaining_path_index == u32::MAX && t.target_id.server_index == 0
                        });
                        let node = whole.next().map(|target| target.target_id.node_id);
                        self.translated.insert(question.clone(), node);
                    }
                    done += chunk.len();
                }
                Ok(_) => return Err(incomplete()),
                Err(error) => pace.slower(error, chunk.len())?,
            }
        }
        let asked: Vec<_> = self.browsed.keys().cloned().collect();
        let mut done = 0;
        let mut pace = Pace(limits.browse);
        while let Some(chunk) = pace.next(&asked, done) {
            let nodes: Vec<_> = chunk.iter().map(children).collect();
            match session.browse(&nodes, REFERENCES, None).await {
                Ok(results) if results.len() == chunk.len() => {
                    for (node, result) in chunk.iter().zip(results) {
                        let mut below = whole(session, result).await?;
                        below.sort_by_cached_key(by_name);
                        self.browsed.insert(node.clone(), below);
                    }
                    done += chunk.len();
                }
                Ok(_) => return Err(incomplete()),
                Err(error) => pace.slower(error, chunk.len())?,
            }
        }
        Ok(())
    }

    /// Where a way goes on, and how many of its steps are behind it then.
    fn below(
        &self,
        paths: &[&[Step]],
        way: &Way,
        index_of: &impl Fn(&Namespace) -> Option<u16>,
    ) -> Vec<(NodeId, usize)> {
        let steps = exact(paths, way);
        if !steps.is_empty() {
            let names = names(&steps, index_of);
            let found = names.and_then(|n| self.translated.get(&(way.node.clone(), n))?.clone());
            let node = found.map(|node| (node, way.done + steps.len()));
            return node.into_iter().collect();
        }
        let below = self.browsed.get(&way.node).map_or(&[][..], Vec::as_slice);
        let step = paths.get(way.path).and_then(|steps| steps.get(way.done));
        let is_object = |r: &&ReferenceDescription| r.node_class == NodeClass::Object;
        let nodes: Vec<_> = match step {
            Some(Step::Named(name)) => {
                let named = below.iter();
                named
                    .filter(|r| r.browse_name.name.as_ref() == name)
                    .collect()
            }
            Some(Step::Object(None)) => below.iter().filter(is_object).collect(),
            Some(Step::Object(Some(number))) => {
                let mut objects = below.iter().filter(is_object);
                objects.nth(number - 1).into_iter().collect()
            }
            _ => Vec::new(),
        };
        let nodes = nodes.into_iter().filter(|r| r.node_id.server_index == 0);
        nodes
            .map(|r| (r.node_id.node_id.clone(), way.done + 1))
            .collect()
    }
}

/// A run of digits, or of anything else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Run {
    /// By how many digits without leading zeros, and then by these: no number is too long.
    Number(usize, String),
    Text(String),
}

/// What references are ordered by: their names, with numbers by their worth.
fn by_name(reference: &ReferenceDescription) -> (Vec<Run>, u16) {
    let name = &reference.browse_name;
    (runs(name.name.as_ref()), name.namespace_index)
}

fn runs(name: &str) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let number = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != number);
        let (run, after) = rest.split_at(end.unwrap_or(rest.len()));
        runs.push(if number {
            let digits = run.trim_start_matches('0').to_owned();
            Run::Number(digits.len(), digits)
        } else {
            Run::Text(run.to_owned())
        });
        rest = after;
    }
    runs
}

fn browse_path((node, names): &(NodeId, Vec<QualifiedName>)) -> BrowsePath {
    let element = |name: &QualifiedName| RelativePathElement {
        reference_type_id: ReferenceTypeId::HierarchicalReferences.into(),
        is_inverse: false,
        include_subtypes: true,
        target_name: name.clone(),
    };
    BrowsePath {
        starting_node: node.clone(),
        relative_path: RelativePath {
            elements: Some(names.iter().map(element).collect()),
        },
    }
}

fn children(node: &NodeId) -> BrowseDescription {
    BrowseDescription {
        node_id: node.clone(),
        browse_direction: BrowseDirection::Forward,
        reference_type_id: ReferenceTypeId::HierarchicalReferences.into(),
        include_subtypes: true,
        node_class_mask: (NodeClassMask::OBJECT | NodeClassMask::VARIABLE).bits(),
        result_mask: BrowseResultMask::All as u32,
    }
}

/// All pages of an answer, as far as that is bounded.
async fn whole(session: &Session, first: BrowseResult) -> Result<Vec<ReferenceDescription>, Error> {
    let mut below: Vec<_> = first.references.into_iter().flatten().collect();
    let mut more = first.continuation_point;
    for _ in 1..MAX_ANSWERS {
        if more.is_null_or_empty() {
            return Ok(below);
        }
        let results = session.browse_next(false, &[more]).await?;
        let Some(next) = results.into_iter().next() else {
            return Ok(below);
        };
        below.extend(next.references.into_iter().flatten());
        more = next.continuation_point;
    }
    if !more.is_null_or_empty() {
        session.browse_next(true, &[more]).await?;
    }
    Ok(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_as_people_count() {
        let mut names = [
            "E1", "A10", "A2", "A02x", "A1", "", "7", "Axis_3", "Axis_12",
        ];
        names.sort_by_cached_key(|name| runs(name));
        let expected = [
            "", "7", "A1", "A2", "A02x", "A10", "Axis_3", "Axis_12", "E1",
        ];
        assert_eq!(names, expected);
    }
}
