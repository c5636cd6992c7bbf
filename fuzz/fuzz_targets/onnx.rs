//! ONNX: any bytes end in an error or in a network that can be used.
#![no_main]

use dsconv_net::{Model, onnx};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(graph) = onnx::from_bytes(bytes, None) else { return };
    dsconv_fuzz::use_graph(&graph);
    let bytes = Model::from(graph).to_bytes().expect("a graph that was read");
    Model::from_bytes(&bytes).expect("its own file");
});
