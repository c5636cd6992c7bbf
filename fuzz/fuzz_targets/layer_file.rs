//! Layer files: any bytes end in an error or in layers that come back from a file.
#![no_main]

use dsconv::{LayerFile, Weights};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = LayerFile::from_bytes(&dsconv_fuzz::with_header_length(bytes)) else { return };
    for (_, weights) in &file.layers {
        if let Weights::DsConv(weights) = weights {
            let _ = weights.dequantize();
        }
    }
    // Refused is a file that names a layer twice.
    if let Ok(bytes) = file.to_bytes() {
        assert_eq!(LayerFile::from_bytes(&bytes).expect("its own file").layers, file.layers);
    }
});
