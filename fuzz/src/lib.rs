//! What the fuzz targets share.

use dsconv_net::program::Value;
use dsconv_net::{Graph, cpu, onnx};

/// The bytes of a safetensors file whose first eight, the length of its JSON header, are made right again, so that
/// a fuzzer that inserts or removes in the header gets past them.
pub fn with_header_length(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some((length, rest)) = bytes.split_first_chunk_mut::<8>() {
        let mut values = serde_json::Deserializer::from_slice(&*rest).into_iter();
        if let Some(Ok(serde::de::IgnoredAny)) = values.next() {
            let end = values.byte_offset();
            // Writers align what follows by spaces.
            let spaces = rest[end..].iter().take_while(|&&byte| byte == b' ').count();
            *length = ((end + spaces) as u64).to_le_bytes();
        }
    }
    bytes
}

/// Everything that a program does with a graph that it has read: specialise, run if it is small, write.
pub fn use_graph(graph: &Graph) {
    let dims: Vec<Vec<usize>> = graph
        .inputs()
        .iter()
        .map(|input| input.dims.iter().map(|dim| dim.unwrap_or(4).min(16)).collect())
        .collect();
    let dims: Vec<&[usize]> = dims.iter().map(Vec::as_slice).collect();
    if let Ok(program) = graph.specialise(&dims)
        && program.values().iter().map(Value::elements).sum::<usize>() < 10_000
    {
        let inputs: Vec<Vec<f32>> =
            program.inputs().iter().map(|&id| vec![0.5; program.value(id).elements()]).collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let _ = cpu::run(&program, &inputs);
    }
    let _ = onnx::to_bytes(graph);
}
