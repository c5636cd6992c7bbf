//! Model files: any bytes end in an error or in a network that can be used and comes back from a file.
#![no_main]

use dsconv_net::Model;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = Model::from_bytes(&dsconv_fuzz::with_header_length(bytes)) else { return };
    dsconv_fuzz::use_graph(&model.graph);
    if let Ok(bytes) = model.to_bytes() {
        Model::from_bytes(&bytes).expect("its own file");
    }
});
