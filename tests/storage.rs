//! Layer files: exact round trips, and hostile bytes.

use dsconv::{
    BlockFormat, Cds, ConvDescriptor, DsConvWeights, Error, FloatTensor, FloatWeights, LayerFile,
    Partition, Quantizer, Weights,
};
use proptest::prelude::*;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;

/// Every optional part, every width, both partitions, and a float layer.
fn sample(seed: u64) -> LayerFile {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut floats = |count: usize| -> Vec<f32> { (0..count).map(|_| rng.f32() - 0.5).collect() };
    let mut file = LayerFile::default();
    file.metadata.insert("notice".into(), "made by a test".into());
    for (name, shape) in [("anchors", vec![3, 2]), ("a scalar", vec![]), ("nothing", vec![0, 4])] {
        let values = floats(shape.iter().product());
        file.tensors.insert(name.into(), FloatTensor { shape, values });
    }
    for bits in 2..=8u8 {
        let descriptor = ConvDescriptor::new(22, 6, [3, 2])
            .with_groups(2)
            .with_stride([2, 1])
            .with_dilation([1, 3])
            .with_padding([0, 1, 2, 3]);
        let partition = if bits % 2 == 0 { Partition::Even } else { Partition::Fixed };
        let quantizer = Quantizer::new(bits, 4).unwrap().partition(partition).kds_bias(bits > 5);
        let values = floats(descriptor.weight_count());
        let mut weights = quantizer.weights(&descriptor, &values).unwrap();
        if bits != 3 {
            weights = weights.with_bias(floats(6)).unwrap();
        }
        let (scale, shift) = (floats(6), floats(6));
        weights = match bits {
            4 | 6 => weights.with_cds(Cds::Output { scale, shift }).unwrap(),
            5 | 7 => weights.with_cds(Cds::Kernel { scale, shift }).unwrap(),
            _ => weights,
        };
        // Names in no alphabetical order: the file keeps the layers' own.
        file.layers.push((format!("layer {}", 9 - bits), weights.into()));
    }
    let depthwise = ConvDescriptor::new(5, 5, [3, 3]).with_groups(5);
    let weights = FloatWeights::new(depthwise, floats(45)).unwrap();
    file.layers.push(("depthwise".into(), weights.with_bias(floats(5)).unwrap().into()));
    file
}

#[test]
fn files_come_back_exactly() {
    let file = sample(fastrand::u64(..));
    let path = std::env::temp_dir().join(format!("dsconv-{}.safetensors", std::process::id()));
    file.save(&path).unwrap();
    let back = LayerFile::load(&path).unwrap();
    assert_eq!(back, file);
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(LayerFile::load(&path), Err(Error::Io { .. })));
    assert!(file.save("/nonexistent/folder/file").is_err());
}

/// The types of a file's tensors by their names.
fn types(bytes: &[u8]) -> BTreeMap<String, Dtype> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    file.tensors().into_iter().map(|(name, tensor)| (name, tensor.dtype())).collect()
}

#[test]
fn integers_take_their_bits_and_no_more() {
    let descriptor = ConvDescriptor::new(64, 64, [3, 3]);
    // Scales of powers of two are halves, those of thirds are not.
    for (value, scale) in [(0.25f32, 2), (1.0 / 3.0, 4)] {
        let floats = vec![value; descriptor.weight_count()];
        for bits in 2..=8u8 {
            let weights = Quantizer::new(bits, 32).unwrap().weights(&descriptor, &floats).unwrap();
            let expected =
                descriptor.weight_count() * usize::from(bits) / 8 + scale * weights.alpha().len();
            let weights = Weights::from(weights);
            assert_eq!(dsconv::stored_bytes(&weights), expected as u64);
            let layers = vec![("a".to_string(), weights)];
            let bytes = LayerFile { layers, ..LayerFile::default() }.to_bytes().unwrap();
            assert!((expected..expected + 1024).contains(&bytes.len()), "{bits}: {}", bytes.len());
        }
    }
}

#[test]
fn what_a_smaller_type_holds_is_kept_in_it_and_comes_back_exactly() {
    let mut rng = fastrand::Rng::new();
    let descriptor = ConvDescriptor::new(40, 40, [3, 3]).with_groups(40);
    let mut floats = |count: usize| -> Vec<f32> { (0..count).map(|_| rng.f32() - 0.5).collect() };
    let depthwise = FloatWeights::new(descriptor, floats(360)).unwrap();
    let halves = floats(40).into_iter().map(|v| half::f16::from_f32(v).to_f32()).collect();
    let rounded = depthwise.clone().to_int8_channels().with_bias(halves).unwrap();
    let bytes = |weights: &FloatWeights| {
        let weights = Weights::from(weights.clone());
        let layers = vec![("a".to_string(), weights.clone())];
        let file = LayerFile { layers, ..LayerFile::default() };
        let bytes = file.to_bytes().unwrap();
        assert_eq!(LayerFile::from_bytes(&bytes).unwrap(), file);
        (bytes, dsconv::stored_bytes(&weights))
    };
    let (plain, size) = bytes(&depthwise);
    assert_eq!(size, 4 * 360);
    assert_eq!(types(&plain), BTreeMap::from([("a.weight".into(), Dtype::F32)]));
    let (small, size) = bytes(&rounded);
    assert_eq!(size, 360 + 2 * 40);
    let expected =
        [("a.weight", Dtype::I8), ("a.weight_scale", Dtype::F16), ("a.bias", Dtype::F16)];
    assert_eq!(types(&small), expected.map(|(name, dtype)| (name.into(), dtype)).into());
    let version = |bytes: &[u8]| {
        let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
        header.metadata().as_ref().unwrap()["version"].clone()
    };
    assert_eq!([version(&plain), version(&small)], ["1", "2"]);
}

#[test]
fn names_and_keys_that_collide_are_refused() {
    let mut file = sample(1);
    file.layers[1].0 = file.layers[0].0.clone();
    assert!(file.to_bytes().unwrap_err().to_string().contains("layer name"));
    let mut file = sample(1);
    file.metadata.insert("version".into(), "2".into());
    assert!(file.to_bytes().unwrap_err().to_string().contains("version"));
    let mut file = sample(1);
    file.tensors.insert("layer 1.alpha".into(), FloatTensor { shape: vec![1], values: vec![0.0] });
    assert!(matches!(file.to_bytes(), Err(Error::Invalid { .. })));
    file.tensors = [("short".into(), FloatTensor { shape: vec![2], values: vec![0.0] })].into();
    assert!(file.to_bytes().is_err());
}

/// A safetensors file from its header's text and its data.
fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn hostile_files_are_refused_with_a_reason() {
    let conv = |channels: u64| {
        format!(
            r#"{{\"name\":\"a\",\"conv\":{{\"in_channels\":{channels},\"out_channels\":1,\"kernel\":[1,1],\"stride\":[1,1],\"dilation\":[1,1],\"padding\":[0,0,0,0],\"groups\":1}},\"format\":{{\"bits\":4,\"block_size\":8,\"partition\":\"fixed\"}}}}"#
        )
    };
    let file = |version: &str, layers: &str| {
        let header = format!(
            r#"{{"__metadata__":{{"format":"dsconv","version":"{version}","layers":"[{layers}]"}},"a.q":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}},"a.alpha":{{"dtype":"F32","shape":[1,1,1,1],"data_offsets":[1,5]}}}}"#
        );
        raw(&header, &[0x21, 0, 0, 0x80, 0x3f])
    };
    let good = LayerFile::from_bytes(&file("1", &conv(2))).unwrap();
    let Weights::DsConv(weights) = &good.layers[0].1 else { panic!("a DSConv layer") };
    assert_eq!((weights.q(), weights.alpha()), ([1i8, 2].as_slice(), [1.0f32].as_slice()));

    let cases = [
        (vec![], "eader"),
        (vec![0xff; 16], "eader"),
        (raw("{}", &[]), "format"),
        (raw(r#"{"__metadata__":{"format":"pt"}}"#, &[]), "version"),
        (file("3", &conv(2)), "version 1 or 2, got dsconv, version 3"),
        (file("1", "7"), "layers"),
        (file("1", &conv(0)), "in_channels"),
        (file("1", &conv(3)), "packed q (bytes)|2|1"),
        // A terabyte, if it were believed.
        (file("1", &conv(1 << 24)), "packed q (bytes)"),
        (file("1", &conv(1 << 40)), "layers"),
        (file("1", &conv(2).replace("4", "9")), "bits"),
        (file("1", &conv(2).replace("8", "1")), "alpha"),
        (file("1", &conv(2).replace(r#"\"a\""#, r#"\"b\""#)), "b.q"),
        (file("1", &conv(2).replace("fixed", "odd")), "odd"),
    ];
    for (bytes, words) in cases {
        let result = LayerFile::from_bytes(&bytes);
        let error = result.expect_err(words).to_string();
        for word in words.split('|') {
            assert!(error.contains(word), "{error:?} does not name {word:?}");
        }
    }
}

proptest! {
    #[test]
    fn damaged_files_never_panic(seed in 0u64..4, cut in any::<prop::sample::Index>(), flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..4)) {
        let mut bytes = sample(seed).to_bytes().unwrap();
        for (at, bit) in &flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        if flips.is_empty() {
            bytes.truncate(cut.index(bytes.len()));
            prop_assert!(LayerFile::from_bytes(&bytes).is_err());
        } else {
            // A flipped weight bit is another valid weight; anything else must be an error.
            let _ = LayerFile::from_bytes(&bytes);
        }
    }
}

#[test]
fn formats_do_not_accept_other_widths() {
    let descriptor = ConvDescriptor::new(2, 1, [1, 1]);
    let format = BlockFormat::new(2, 2).unwrap();
    assert!(DsConvWeights::from_integers(descriptor, format, &[2, 0], vec![1.0]).is_err());
}
