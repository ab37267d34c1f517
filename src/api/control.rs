//! `POST /api/v1/devices/{id}/write` and `…/call`: acting upon machines.
//!
//! There is no log-in on loopback: whoever asks is the user `local` with the roles that `[http]` gives,
//! and by default those do not write. What stands before these handlers is in [`super::guard`].

use super::body::{self, Body};
use super::caller::caller;
use super::problem::Problem;
use super::query::{Params, shortened};
use super::server::Api;
use super::views::value;
use crate::access::Caller;
use crate::model::{TagSpec, Value, ValueKind};
use crate::protocols::control::{MethodCall, WriteFault};
use crate::protocols::ports::{ControlError, ControlPort};
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::fmt;
use std::sync::Arc;

/// Longest body, in bytes.
const MAX_BODY: usize = 1 << 20;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .app_data(web::PayloadConfig::new(MAX_BODY))
        .route("/api/v1/devices/{id}/write", web::to(write))
        .route("/api/v1/devices/{id}/call", web::to(call));
}

/// Whether `path` is one of these: everything else can only be read.
pub(super) fn acts(path: &str) -> bool {
    if path.starts_with("/api/v1/alarms/") {
        return true;
    }
    let of_device = path.strip_prefix("/api/v1/devices/");
    let action = of_device.and_then(|rest| rest.split_once('/'));
    action.is_some_and(|(_, action)| matches!(action, "write" | "call" | "erase" | "release"))
}

/// Writes tags and reads them back: `{"tag": value, …}`.
async fn write(
    request: HttpRequest,
    path: web::Path<String>,
    api: web::Data<Api>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let (port, caller) = who(&request, &api).await?;
    let Asked(asked) = read(body, "{\"setpoint\": 4.5}")?;
    let names: Vec<String> = asked.iter().map(|(name, _)| name.clone()).collect();
    let live = api.context.device(&path);
    let fits = live.and_then(|live| Ok((writes_of(&live.tags, &live.id, asked)?, live)));
    let (writes, live) = match fits {
        Ok(fits) => fits,
        Err(why) => return Err(refused(&*port, &caller, (&path, &names), why).await),
    };
    let written = port.write(&caller, &live.id, writes).await;
    let written = written.map_err(problem)?;
    let all = written.iter().all(Result::is_ok);
    let results = names
        .iter()
        .zip(&written)
        .map(|(tag, result)| match result {
            Ok(back) => ResultView {
                tag,
                value: Some(value(back)),
                fault: None,
                detail: None,
            },
            Err(fault) => ResultView {
                tag,
                value: None,
                fault: Some(fault_name(fault)),
                detail: Some(fault.to_string()),
            },
        });
    let results: Vec<_> = results.collect();
    if all {
        let answer = json!({"device": &*live.id, "results": results});
        return Ok(HttpResponse::Ok().json(answer));
    }
    let faults = results.iter().filter_map(|result| {
        let detail = result.detail.as_ref()?;
        (result.fault != Some("withheld")).then(|| format!("`{}`: {detail}", result.tag))
    });
    let detail = faults.collect::<Vec<_>>().join("; ");
    Err(Problem::not_done(detail).with("results", json!(results)))
}

/// What is asked of a device's tags.
fn writes_of(
    tags: &[TagSpec],
    id: &str,
    asked: Vec<(String, Json)>,
) -> Result<Vec<(String, Value)>, Problem> {
    let mut writes = Vec::with_capacity(asked.len());
    for (name, given) in asked {
        let Some(tag) = tags.iter().find(|tag| *tag.name == *name) else {
            let name = shortened(&name);
            return Err(Problem::not_found(format!(
                "device `{id}` has no tag `{name}`: /api/v1/tags?device={id} lists those it has"
            )));
        };
        let value = of_kind(tag, &given)?;
        writes.push((name, value));
    }
    Ok(writes)
}

/// Has a request refused that fits no machine, and returns the answer: `why`, unless whoever asks may
/// not write there anyway.
async fn refused(
    port: &dyn ControlPort,
    caller: &Caller,
    (device, tags): (&str, &[String]),
    why: Problem,
) -> Problem {
    let error = ControlError::Unknown(why.to_string());
    match port.refuse(caller, device, tags, error).await {
        ControlError::Unknown(_) => why,
        other => problem(other),
    }
}

/// What came of one write.
#[derive(Debug, Serialize)]
struct ResultView<'a> {
    tag: &'a str,
    /// As it was read back.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// What is called.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallBody {
    object: String,
    method: String,
    #[serde(default)]
    arguments: Vec<Json>,
}

/// Calls a method: `{"object": …, "method": …, "arguments": […]}`.
async fn call(
    request: HttpRequest,
    path: web::Path<String>,
    api: web::Data<Api>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let (port, caller) = who(&request, &api).await?;
    let example = "{\"object\": \"ns=2;s=Press\", \"method\": \"ns=2;s=Home\", \"arguments\": []}";
    let body: CallBody = read(body, example)?;
    let arguments = body.arguments.iter().map(argument);
    let arguments = arguments.collect::<Result<_, _>>();
    let live = api.context.device(&path);
    let (live, arguments) = match live.and_then(|live| Ok((live, arguments?))) {
        Ok(fits) => fits,
        Err(why) => return Err(refused(&*port, &caller, (&path, &[]), why).await),
    };
    let call = MethodCall {
        object: body.object,
        method: body.method,
        arguments,
    };
    let called = port.call(&caller, &live.id, call).await;
    match called.map_err(problem)? {
        Ok(results) => {
            let results: Vec<_> = results.iter().map(value).collect();
            let answer = json!({"device": &*live.id, "results": results});
            Ok(HttpResponse::Ok().json(answer))
        }
        Err(fault) => Err(Problem::not_done(fault.to_string())),
    }
}

/// The way to the machines, and in whose name.
async fn who(request: &HttpRequest, api: &Api) -> Result<(Arc<dyn ControlPort>, Caller), Problem> {
    Params::parse(request.query_string(), &[])?;
    if request.method() != Method::POST {
        return Err(Problem::post_only());
    }
    let port = api.context.control.clone();
    let port = port.ok_or_else(|| Problem::forbidden("this hub acts upon no machine"))?;
    Ok((port, caller(request)?))
}

fn read<T: for<'a> Deserialize<'a>>(body: Body, example: &str) -> Result<T, Problem> {
    let body = body.map_err(|error| {
        let most = MAX_BODY >> 10;
        Problem::unread(
            Some(&error),
            format!("the body cannot be read: {error}; it may have {most} KiB"),
        )
    })?;
    body::json(&body, example)
}

/// Tags and values, in the order in which they were given.
struct Asked(Vec<(String, Json)>);

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Asked;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tags and values")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Asked, M::Error> {
                let mut pairs: Vec<(String, Json)> = Vec::new();
                while let Some((tag, value)) = map.next_entry::<String, Json>()? {
                    if pairs.iter().any(|(earlier, _)| *earlier == tag) {
                        let tag = shortened(&tag);
                        return Err(serde::de::Error::custom(format!("`{tag}` is there twice")));
                    }
                    pairs.push((tag, value));
                }
                Ok(Asked(pairs))
            }
        }
        from.deserialize_map(Pairs)
    }
}

/// A JSON value as one of the tag's kind. Numbers beyond what JSON readers keep may be texts, as they
/// are in answers.
fn of_kind(tag: &TagSpec, given: &Json) -> Result<Value, Problem> {
    let text = given.as_str();
    let (value, expected) = match tag.kind {
        ValueKind::Bool => (given.as_bool().map(Value::Bool), "true or false"),
        ValueKind::I64 => {
            let number = given.as_i64().or_else(|| text?.parse().ok());
            (number.map(Value::I64), "a whole number")
        }
        ValueKind::U64 => {
            let number = given.as_u64().or_else(|| text?.parse().ok());
            (number.map(Value::U64), "a whole number from 0 on")
        }
        ValueKind::F64 => (given.as_f64().map(Value::F64), "a number"),
        ValueKind::Text => (text.map(|t| Value::Text(t.to_owned())), "a text"),
        ValueKind::Bytes => (
            text.and_then(from_hex).map(Value::Bytes),
            "hexadecimal digits",
        ),
    };
    value.ok_or_else(|| {
        let given = shortened(&given.to_string());
        Problem::body(format!(
            "`{}` takes {expected}, and {given} is none",
            tag.name
        ))
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| u8::try_from(c.to_digit(16)?).ok())
        .collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    let bytes = digits.chunks_exact(2);
    bytes
        .map(|pair| {
            pair.iter()
                .try_fold(0, |byte, digit| Some(byte * 16 + digit))
        })
        .collect()
}

/// An argument of a method; the device's protocol fits it to the type the method wants.
fn argument(given: &Json) -> Result<Value, Problem> {
    let number = |n: &serde_json::Number| {
        let whole = n
            .as_i64()
            .map(Value::I64)
            .or_else(|| n.as_u64().map(Value::U64));
        whole.or_else(|| n.as_f64().map(Value::F64))
    };
    let value = match given {
        Json::Bool(b) => Some(Value::Bool(*b)),
        Json::String(text) => Some(Value::Text(text.clone())),
        Json::Number(n) => number(n),
        _ => None,
    };
    let wrong = || Problem::body("an argument is a number, a text, or true or false");
    value.ok_or_else(wrong)
}

fn fault_name(fault: &WriteFault) -> &'static str {
    match fault {
        WriteFault::ReadOnly(_) => "read_only",
        WriteFault::Value(_) => "value",
        WriteFault::Refused(_) => "refused",
        WriteFault::ReadBack(_) => "read_back",
        WriteFault::Withheld => "withheld",
        WriteFault::NotReadBack(_) => "not_read_back",
    }
}

fn problem(error: ControlError) -> Problem {
    let detail = error.to_string();
    match error {
        ControlError::Denied(_) => Problem::forbidden(format!(
            "{detail}; what users may do over HTTP is `roles` in [http] of the hub's configuration"
        )),
        ControlError::Unknown(_) => Problem::not_found(detail),
        ControlError::Unreachable(_) | ControlError::NotRecorded(_) | ControlError::Busy => {
            Problem::busy(detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fakes::tag;

    #[test]
    fn values_fit_their_tags_or_say_what_would() {
        let read = |kind, given: Json| of_kind(&tag("x", kind, ""), &given);
        assert_eq!(read(ValueKind::Bool, json!(true)), Ok(Value::Bool(true)));
        assert_eq!(read(ValueKind::F64, json!(4)), Ok(Value::F64(4.0)));
        assert_eq!(read(ValueKind::I64, json!(-4)), Ok(Value::I64(-4)));
        let large = json!(u64::MAX.to_string());
        assert_eq!(read(ValueKind::U64, large), Ok(Value::U64(u64::MAX)));
        let bytes = Value::Bytes(vec![0, 255]);
        assert_eq!(read(ValueKind::Bytes, json!("00fF")), Ok(bytes));
        for (kind, given) in [
            (ValueKind::Bool, json!(1)),
            (ValueKind::F64, json!("NaN")),
            (ValueKind::I64, json!(1.5)),
            (ValueKind::U64, json!(-1)),
            (ValueKind::Text, json!(5)),
            (ValueKind::Bytes, json!("0")),
            (ValueKind::Bytes, json!("zz")),
        ] {
            let said = read(kind, given).unwrap_err().to_string();
            assert!(said.starts_with("`x` takes "), "{said}");
        }
    }

    #[test]
    fn tags_keep_their_order_and_come_once() {
        let asked: Asked = serde_json::from_str(r#"{"b": 1, "a": 2}"#).unwrap();
        let tags: Vec<_> = asked.0.iter().map(|(tag, _)| tag.as_str()).collect();
        assert_eq!(tags, ["b", "a"]);
        assert!(serde_json::from_str::<Asked>(r#"{"b": 1, "b": 2}"#).is_err());
    }

    #[test]
    fn only_these_paths_act() {
        for path in ["/api/v1/devices/press-1/write", "/api/v1/devices/a/call"] {
            assert!(acts(path), "{path}");
        }
        for path in [
            "/api/v1/devices",
            "/api/v1/devices/write",
            "/api/v1/devices/press-1",
            "/api/v1/devices/press-1/write/more",
            "/api/v1/devices/press-1/tags/write",
            "/",
        ] {
            assert!(!acts(path), "{path}");
        }
    }
}
