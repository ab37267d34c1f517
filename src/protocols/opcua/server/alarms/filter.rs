//! Event filters as the standard wants them (OPC 10000-4, 7.7 and 7.22.3), where the stack falls short.
//!
//! The stack cannot compare texts, node ids and times, so a filter such as asyncua's "EventType is one
//! of these" never passes; it looks for fields in the named type only, and drops a clause it does not
//! find from the answer, which moves all that follow. The filter that it parses cannot be replaced, but
//! it can be changed before: when an `EventFilter` is decoded, its clauses get the base type, by which
//! the stack looks for nothing, and its where clause becomes a single question that only our events
//! understand. In it is the whole clause, which is evaluated here.

use super::where_clause::Where;
use opcua::types::{
    AttributeId, BinaryDecodable, BinaryEncodable, ByteString, ContentFilter, ContentFilterElement,
    Context, ContextOwned, DataTypeId, DecodingOptions, DynEncodable, EncodingResult, EventFilter,
    FilterOperator, NamespaceMap, NodeId, ObjectId, ObjectTypeId, Operand, QualifiedName,
    SimpleAttributeOperand, TypeLoader, TypeLoaderCollection, TypeLoaderPriority,
};
use std::io::Read;
use std::sync::Arc;

/// First name of the path that asks the question; the second is the clause.
const QUESTION: &str = "urn:weighbridge:where";

/// Decodes event filters.
pub(in crate::protocols::opcua::server) struct EventFilters;

/// The loaders of a server, with this one before all others.
pub(in crate::protocols::opcua::server) fn before(
    others: &TypeLoaderCollection,
) -> TypeLoaderCollection {
    let mut loaders = TypeLoaderCollection::new_empty();
    loaders.add(Arc::new(EventFilters));
    for other in others {
        loaders.add(other.clone());
    }
    loaders
}

impl TypeLoader for EventFilters {
    fn load_from_binary(
        &self,
        node_id: &NodeId,
        mut stream: &mut dyn Read,
        ctx: &Context<'_>,
        _: Option<usize>,
    ) -> Option<EncodingResult<Box<dyn DynEncodable>>> {
        let ours = *node_id == ObjectId::EventFilter_Encoding_DefaultBinary
            || *node_id == DataTypeId::EventFilter;
        if !ours {
            return None;
        }
        let decoded = EventFilter::decode(&mut stream, ctx);
        Some(decoded.map(|filter| Box::new(changed(filter)) as Box<dyn DynEncodable>))
    }

    fn priority(&self) -> TypeLoaderPriority {
        TypeLoaderPriority::Core
    }
}

/// The filter with clauses that the stack takes as they are.
fn changed(mut filter: EventFilter) -> EventFilter {
    for clause in filter.select_clauses.iter_mut().flatten() {
        let path = clause.browse_path.take().unwrap_or_default();
        clause.type_definition_id = ObjectTypeId::BaseEventType.into();
        let known = [AttributeId::NodeId as u32, AttributeId::Value as u32];
        if !known.contains(&clause.attribute_id) {
            // No event has it: its field is empty.
            clause.attribute_id = AttributeId::Value as u32;
            clause.browse_path = Some(Vec::new());
            continue;
        }
        clause.browse_path = Some(path);
    }
    let clause = std::mem::take(&mut filter.where_clause);
    filter.where_clause = match asked(&clause) {
        Some(question) => question,
        // Empty, or not valid: the stack says so.
        None => clause,
    };
    filter
}

/// The question whether an event passes `clause`.
fn asked(clause: &ContentFilter) -> Option<ContentFilter> {
    if clause.elements.as_ref().is_none_or(Vec::is_empty) {
        return None;
    }
    Where::parse(clause)?;
    let context = context();
    let bytes = ByteString::from(clause.encode_to_vec(&context.context()));
    let path = [QUESTION.to_owned(), bytes.as_base64()];
    let question = SimpleAttributeOperand {
        type_definition_id: ObjectTypeId::BaseEventType.into(),
        browse_path: Some(path.map(|name| QualifiedName::new(0, name)).to_vec()),
        attribute_id: AttributeId::Value as u32,
        index_range: Default::default(),
    };
    let operands = vec![
        Operand::SimpleAttributeOperand(question),
        Operand::literal(true),
    ];
    let element = ContentFilterElement::from((FilterOperator::Equals, operands));
    Some(ContentFilter {
        elements: Some(vec![element]),
    })
}

/// The clause that a path asks about; `None` when it is an ordinary path.
pub(super) fn question(path: &[QualifiedName]) -> Option<Where> {
    let [marker, clause] = path else { return None };
    if marker.name.as_ref() != QUESTION {
        return None;
    }
    let bytes = ByteString::from_base64(clause.name.as_ref())?;
    let context = context();
    let clause = ContentFilter::decode(&mut bytes.as_ref(), &context.context()).ok()?;
    Where::parse(&clause)
}

fn context() -> ContextOwned {
    ContextOwned::new_default(NamespaceMap::new(), DecodingOptions::default())
}
