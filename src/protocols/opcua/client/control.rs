//! Writes to variables, and calls of methods.

use super::config::OpcUaConfig;
use super::convert::{convert, natural, variant, widest};
use super::line::{Line, Pace, incomplete};
use super::node::NodeAddress;
use super::refusal::explain;
use super::wanted::Wanted;
use crate::model::Value;
use crate::protocols::control::{Control, MethodCall, TagWrite, WriteFault, Written};
use crate::protocols::source::SourceError;
use async_trait::async_trait;
use opcua::types::{
    Argument, AttributeId, BrowsePath, CallMethodRequest, DataValue, Error, ExtensionObject,
    Identifier, NodeId, QualifiedName, ReferenceTypeId, RelativePath, RelativePathElement,
    StatusCode, Variant, VariantScalarTypeId, WriteValue,
};
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Duration;

/// The open session, if there is one.
pub(super) type Current = Arc<RwLock<Option<Arc<Line>>>>;

/// A controller may show a written value only after its next cycle.
const READ_BACK: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(400),
];

/// Acts upon the server of one device.
pub(super) struct OpcUaControl {
    config: Arc<OpcUaConfig>,
    wanted: Arc<Wanted>,
    current: Current,
}

/// A write on its way.
struct Pending {
    /// Its place in the request.
    at: usize,
    tag: usize,
    node: NodeId,
    value: Variant,
}

impl OpcUaControl {
    pub(super) fn new(config: Arc<OpcUaConfig>, wanted: Arc<Wanted>, current: Current) -> Self {
        Self {
            config,
            wanted,
            current,
        }
    }

    fn line(&self) -> Result<Arc<Line>, SourceError> {
        let line = self.current.read().clone();
        line.ok_or_else(|| SourceError::Unreachable {
            address: self.config.url.clone(),
            reason: "it is not connected".into(),
        })
    }

    fn failed(&self, error: &Error) -> SourceError {
        explain(&self.config, None, error)
    }

    /// Where a tag is, if it may be written.
    fn target(&self, line: &Line, tag: usize) -> Result<NodeId, WriteFault> {
        let spec = self.wanted.tags.get(tag);
        let spec = spec.ok_or_else(|| WriteFault::Refused("there is no such tag".into()))?;
        if !spec.writable {
            let reason = "the configuration does not say `writable = true`";
            return Err(WriteFault::ReadOnly(reason.into()));
        }
        line.node(tag).ok_or_else(|| {
            let unknown = StatusCode::BadNodeIdUnknown;
            WriteFault::Refused(format!(
                "the server has no such node or namespace ({unknown})"
            ))
        })
    }

    /// The types that these variables have at the server.
    async fn types(
        &self,
        line: &Line,
        nodes: &[NodeId],
    ) -> Result<Vec<Result<VariantScalarTypeId, WriteFault>>, Error> {
        let data_types = line.read(nodes, AttributeId::DataType).await?;
        let values = line.read(nodes, AttributeId::Value).await?;
        let types = data_types.iter().zip(&values);
        Ok(types
            .map(|(data_type, value)| type_of(data_type, value))
            .collect())
    }

    async fn send(&self, line: &Line, writes: &[Pending]) -> Result<Vec<StatusCode>, Error> {
        let values: Vec<_> = writes
            .iter()
            .map(|write| WriteValue {
                node_id: write.node.clone(),
                attribute_id: AttributeId::Value as u32,
                index_range: Default::default(),
                // Many servers refuse a value with a status or a time.
                value: DataValue::value_only(write.value.clone()),
            })
            .collect();
        let mut statuses = Vec::with_capacity(values.len());
        let mut pace = Pace(line.limits.write);
        while let Some(chunk) = pace.next(&values, statuses.len()) {
            match line.session.write(chunk).await {
                Ok(answer) if answer.len() == chunk.len() => statuses.extend(answer),
                Ok(_) => return Err(incomplete()),
                Err(error) => pace.slower(error, chunk.len())?,
            }
        }
        Ok(statuses)
    }

    /// Reads written values until they show, or for a while.
    async fn read_back(
        &self,
        line: &Line,
        written: Vec<Pending>,
        answers: &mut [Option<Result<Value, WriteFault>>],
    ) {
        let mut rest = written;
        for pause in READ_BACK {
            tokio::time::sleep(pause).await;
            let nodes: Vec<_> = rest.iter().map(|w| w.node.clone()).collect();
            let values = match line.read(&nodes, AttributeId::Value).await {
                Ok(values) => values,
                Err(error) => {
                    for write in rest {
                        let fault = WriteFault::NotReadBack(self.failed(&error).to_string());
                        answer(answers, write.at, Err(fault));
                    }
                    return;
                }
            };
            let mut again = Vec::new();
            for (write, value) in rest.into_iter().zip(values) {
                let kind = self.wanted.tags.get(write.tag).map(|t| t.kind);
                let shown = kind.zip(value.value.clone()).map(|(k, v)| convert(v, k));
                let meant = kind.map(|kind| convert(write.value.clone(), kind));
                let status = value.status.unwrap_or_default();
                match (shown, meant) {
                    (Some(Ok(shown)), Some(Ok(meant))) if same(&shown, &meant) => {
                        answer(answers, write.at, Ok(shown));
                        continue;
                    }
                    (Some(Ok(shown)), _) if !status.is_bad() => {
                        answer(answers, write.at, Err(WriteFault::ReadBack(shown)));
                    }
                    _ => {
                        let fault = WriteFault::NotReadBack(format!("it reads as {status}"));
                        answer(answers, write.at, Err(fault));
                    }
                }
                again.push(write);
            }
            if again.is_empty() {
                return;
            }
            rest = again;
        }
    }

    /// What the server says of a method's arguments, where it says it.
    async fn arguments(
        &self,
        line: &Line,
        method: &NodeId,
    ) -> Result<Option<Vec<Argument>>, Error> {
        let path = BrowsePath {
            starting_node: method.clone(),
            relative_path: RelativePath {
                elements: Some(vec![RelativePathElement {
                    reference_type_id: ReferenceTypeId::HasProperty.into(),
                    is_inverse: false,
                    include_subtypes: true,
                    target_name: QualifiedName::new(0, "InputArguments"),
                }]),
            },
        };
        let found = line
            .session
            .translate_browse_paths_to_node_ids(&[path])
            .await?;
        let targets = found.into_iter().next().and_then(|r| r.targets);
        let Some(target) = targets.into_iter().flatten().next() else {
            return Ok(None);
        };
        let node = target.target_id.node_id;
        let values = line.read(&[node], AttributeId::Value).await?;
        let value = values.into_iter().next().and_then(|v| v.value);
        let Some(Variant::Array(array)) = value else {
            return Ok(None);
        };
        let argument = |value: Variant| match value {
            Variant::ExtensionObject(object) => {
                let object: ExtensionObject = object;
                object.into_inner_as::<Argument>().map(|a| *a)
            }
            _ => None,
        };
        Ok(array.values.into_iter().map(argument).collect())
    }
}

/// Puts one answer in its place.
fn answer(
    answers: &mut [Option<Result<Value, WriteFault>>],
    at: usize,
    with: Result<Value, WriteFault>,
) {
    if let Some(place) = answers.get_mut(at) {
        *place = Some(with);
    }
}

#[async_trait]
impl Control for OpcUaControl {
    async fn write(&self, writes: &[TagWrite]) -> Result<Written, SourceError> {
        let line = self.line()?;
        let mut answers = vec![None; writes.len()];
        let mut targets = Vec::new();
        for (at, write) in writes.iter().enumerate() {
            match self.target(&line, write.tag) {
                Ok(node) => targets.push((at, write, node)),
                Err(fault) => answer(&mut answers, at, Err(fault)),
            }
        }
        let nodes: Vec<_> = targets.iter().map(|(_, _, node)| node.clone()).collect();
        let types = self.types(&line, &nodes).await;
        let types = types.map_err(|e| self.failed(&e))?;
        let mut pending = Vec::new();
        for ((at, write, node), data_type) in targets.into_iter().zip(types) {
            let value = data_type.and_then(|t| variant(&write.value, t).map_err(WriteFault::Value));
            match value {
                Ok(value) => pending.push(Pending {
                    at,
                    tag: write.tag,
                    node,
                    value,
                }),
                Err(fault) => answer(&mut answers, at, Err(fault)),
            }
        }
        let statuses = self.send(&line, &pending).await;
        let statuses = statuses.map_err(|e| self.failed(&e))?;
        let mut written = Vec::new();
        for (write, status) in pending.into_iter().zip(statuses) {
            if status.is_bad() {
                answer(&mut answers, write.at, Err(refused(status)));
            } else {
                written.push(write);
            }
        }
        self.read_back(&line, written, &mut answers).await;
        let unknown = || WriteFault::NotReadBack("the server did not answer for it".into());
        let answers = answers.into_iter();
        Ok(answers
            .map(|a| a.unwrap_or_else(|| Err(unknown())))
            .collect())
    }

    async fn call(&self, call: &MethodCall) -> Result<Result<Vec<Value>, WriteFault>, SourceError> {
        let line = self.line()?;
        let node = async |text: &str| {
            let address = match text.parse::<NodeAddress>() {
                Ok(address) => address,
                Err(error) => return Ok(Err(WriteFault::Refused(error.to_string()))),
            };
            let found = line.find(&address).await.map_err(|e| self.failed(&e))?;
            let unknown = || {
                let reason = format!("the server has no namespace or no node of {text}");
                WriteFault::Refused(reason)
            };
            Ok::<_, SourceError>(found.ok_or_else(unknown))
        };
        let (object, method) = match (node(&call.object).await?, node(&call.method).await?) {
            (Ok(object), Ok(method)) => (object, method),
            (Err(fault), _) | (_, Err(fault)) => return Ok(Err(fault)),
        };
        let known = self.arguments(&line, &method).await;
        let known = known.map_err(|e| self.failed(&e))?;
        let arguments = match arguments(&call.arguments, known) {
            Ok(arguments) => arguments,
            Err(fault) => return Ok(Err(fault)),
        };
        let request = CallMethodRequest {
            object_id: object,
            method_id: method,
            input_arguments: Some(arguments),
        };
        let result = line.session.call_one(request).await;
        let result = result.map_err(|e| self.failed(&e))?;
        let status = result.status_code;
        if status.is_bad() {
            let arguments = result.input_argument_results.into_iter().flatten();
            let wrong = arguments.enumerate().find(|(_, s)| s.is_bad());
            return Ok(Err(match wrong {
                Some((at, argument)) => {
                    WriteFault::Value(format!("argument {}: {argument} ({status})", at + 1))
                }
                None => refused(status),
            }));
        }
        let outputs = result.output_arguments.into_iter().flatten();
        let values = outputs.map(|output| {
            let shown = format!("{output:?}");
            natural(output).unwrap_or(Value::Text(shown))
        });
        Ok(Ok(values.collect()))
    }
}

/// The arguments as the method wants them.
fn arguments(given: &[Value], known: Option<Vec<Argument>>) -> Result<Vec<Variant>, WriteFault> {
    let Some(known) = known else {
        return Ok(given.iter().map(widest).collect());
    };
    if known.len() != given.len() {
        let names: Vec<_> = known.iter().map(|a| a.name.as_ref().to_owned()).collect();
        return Err(WriteFault::Value(format!(
            "the method takes {} arguments ({}), not {}",
            known.len(),
            names.join(", "),
            given.len()
        )));
    }
    let pairs = given.iter().zip(&known);
    pairs
        .map(|(value, argument)| match built_in(&argument.data_type) {
            Some(data_type) => variant(value, data_type)
                .map_err(|e| WriteFault::Value(format!("argument {}: {e}", argument.name))),
            None => Ok(widest(value)),
        })
        .collect()
}

/// The type of a variable: of the value it has, or as it is declared.
fn type_of(data_type: &DataValue, value: &DataValue) -> Result<VariantScalarTypeId, WriteFault> {
    let status = data_type.status.unwrap_or_default();
    if status.is_bad() {
        return Err(refused(status));
    }
    let has = value.value.as_ref();
    if let Some(Variant::Array(_)) = has {
        return Err(WriteFault::Value("the variable is an array".into()));
    }
    let declared = match &data_type.value {
        Some(Variant::NodeId(id)) => built_in(id),
        _ => None,
    };
    let known = has.and_then(Variant::scalar_type_id).or(declared);
    known.ok_or_else(|| WriteFault::Value("the variable has a type of its maker's own".into()))
}

/// A built-in type by its node id (OPC 10000-6, 5.1.2).
fn built_in(id: &NodeId) -> Option<VariantScalarTypeId> {
    match (id.namespace, &id.identifier) {
        (0, Identifier::Numeric(number)) => VariantScalarTypeId::try_from(*number).ok(),
        _ => None,
    }
}

/// A refusal in plain words.
fn refused(status: StatusCode) -> WriteFault {
    match status {
        StatusCode::BadNotWritable | StatusCode::BadWriteNotSupported => {
            WriteFault::ReadOnly(format!("the server says so ({status})"))
        }
        StatusCode::BadTypeMismatch | StatusCode::BadOutOfRange => {
            WriteFault::Value(format!("the server does not take it ({status})"))
        }
        StatusCode::BadUserAccessDenied => WriteFault::Refused(format!(
            "our user may not do this at the server; log in as one who may ({status})"
        )),
        StatusCode::BadNodeIdUnknown | StatusCode::BadMethodInvalid => {
            WriteFault::Refused(format!("the server has no such node ({status})"))
        }
        _ => WriteFault::Refused(format!("the server says {status}")),
    }
}

/// Whether a value is what was written; a number that is not one equals itself here.
fn same(shown: &Value, meant: &Value) -> bool {
    match (shown, meant) {
        (Value::F64(a), Value::F64(b)) => a == b || (a.is_nan() && b.is_nan()),
        _ => shown == meant,
    }
}
