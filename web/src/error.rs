use dsconv::Error;
use wasm_bindgen::JsValue;

/// A JavaScript `Error` with a `code`, which the TypeScript side turns into a class of its own.
pub(crate) fn to_js(error: &Error) -> JsValue {
    let code = match error {
        Error::Invalid { .. }
        | Error::Length { .. }
        | Error::NonFinite { .. }
        | Error::OutOfRange { .. }
        | Error::Overflow { .. } => "invalid-input",
        Error::Limit { .. } => "limit",
        Error::Unsupported { .. } => "unsupported",
        Error::NoAdapter(_) => "no-webgpu",
        Error::DeviceLost(_) => "device-lost",
        Error::OutOfMemory(_) => "out-of-memory",
        _ => "gpu",
    };
    let js = js_sys::Error::new(&error.to_string());
    // Setting a property of an object made here can't fail.
    let _ = js_sys::Reflect::set(&js, &"code".into(), &code.into());
    js.into()
}
