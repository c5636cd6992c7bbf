//! Errors on their way to JavaScript.

use dsconv_net::Error;
use wasm_bindgen::JsValue;

/// A JavaScript `Error` with a `code`, which the TypeScript side turns into a class of its own.
pub fn to_js(error: impl Into<Error>) -> JsValue {
    let error = error.into();
    // Strangers' names are in it, and Node prints to terminals.
    let lines: Vec<String> = error.to_string().split('\n').map(dsconv::shown).collect();
    let js = js_sys::Error::new(&lines.join("\n"));
    // Setting a property of an object made here can't fail.
    let _ = js_sys::Reflect::set(&js, &"code".into(), &code(&error).into());
    js.into()
}

fn code(error: &Error) -> &'static str {
    match error {
        Error::Layer(error) => code_of_layer(error),
        Error::Node { source, .. } => code(source),
        Error::Invalid { .. } | Error::Format { .. } => "invalid-input",
        Error::Unsupported(_) => "unsupported",
        _ => "internal",
    }
}

fn code_of_layer(error: &dsconv::Error) -> &'static str {
    use dsconv::Error;
    match error {
        Error::Invalid { .. }
        | Error::Length { .. }
        | Error::NonFinite { .. }
        | Error::OutOfRange { .. }
        | Error::Overflow { .. }
        | Error::Format { .. } => "invalid-input",
        Error::Limit { .. } => "limit",
        Error::Unsupported { .. } => "unsupported",
        Error::NoAdapter(_) => "no-webgpu",
        Error::DeviceLost(_) => "device-lost",
        Error::OutOfMemory(_) => "out-of-memory",
        _ => "gpu",
    }
}

/// An error about something that comes from JavaScript.
pub fn invalid(field: &str, expected: impl ToString, got: impl ToString) -> Error {
    Error::Invalid { field: field.into(), expected: expected.to_string(), got: got.to_string() }
}
