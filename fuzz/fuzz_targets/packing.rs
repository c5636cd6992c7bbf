//! Packing: integers of every width come back from a file, and are what floats were made of.
#![no_main]

use arbitrary::Arbitrary;
use dsconv::{BlockFormat, ConvDescriptor, DsConvWeights, LayerFile, Partition, Weights};

#[derive(Arbitrary, Debug)]
struct Case {
    bits: u8,
    block: u32,
    even: bool,
    in_channels: u8,
    out_channels: u8,
    kernel: [u8; 2],
    integers: Vec<i8>,
}

libfuzzer_sys::fuzz_target!(|case: Case| {
    let Case { bits, block, even, in_channels, out_channels, kernel, integers } = case;
    let descriptor = ConvDescriptor::new(
        in_channels.into(),
        out_channels.into(),
        kernel.map(|side| (side % 8).into()),
    );
    let Ok(format) = BlockFormat::new(bits, block) else { return };
    let partition = if even { Partition::Even } else { Partition::Fixed };
    let format = format.with_partition(partition);
    if descriptor.validate().is_err() || integers.is_empty() || descriptor.weight_count() > 1 << 16
    {
        return;
    }
    let spread = 8 - u32::from(bits);
    let integers: Vec<i32> = integers
        .iter()
        .cycle()
        .take(descriptor.weight_count())
        .map(|&q| i32::from(q) >> spread)
        .collect();
    let shifts = format.blocks_of(descriptor.channels_per_group()).count
        * descriptor.out_channels
        * descriptor.taps();
    let alpha = vec![0.5; shifts as usize];
    let weights = DsConvWeights::from_integers(descriptor, format, &integers, alpha)
        .expect("integers in range");
    let floats = weights.dequantize().expect("finite");
    let halved = integers.iter().map(|&q| q as f32 / 2.0);
    assert!(floats.values().iter().copied().eq(halved));
    let file = LayerFile { layers: vec![("layer".into(), weights.into())], ..LayerFile::default() };
    let back = LayerFile::from_bytes(&file.to_bytes().expect("one layer")).expect("its own file");
    assert!(back == file);
    let [(_, Weights::DsConv(weights))] = &back.layers[..] else { panic!("another layer") };
    assert!(weights.q().iter().map(|&q| i32::from(q)).eq(integers));
});
