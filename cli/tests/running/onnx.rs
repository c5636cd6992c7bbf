//! ONNX files as strangers write them: the bytes of protobuf, field by field.

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn part(field: u64, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [varint(field << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

/// A node of ONNX's own operators, without attributes.
pub fn node(name: &str, op: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| part(1, input)).collect();
    part(1, [inputs, part(2, output), part(3, name), part(4, op)].concat())
}

/// A constant of 64-bit integers (kind 7) or floats (kind 1) with these bytes.
pub fn constant(name: &str, kind: u64, dims: &[u64], bytes: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&dim| number(1, dim)).collect();
    part(5, [dims, number(2, kind), part(8, name), part(9, bytes)].concat())
}

/// A constant whose bytes are in another file.
pub fn external(name: &str, dims: &[u64], file: &str) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&dim| number(1, dim)).collect();
    let place = part(13, [part(1, "location"), part(2, file)].concat());
    part(5, [dims, number(2, 1), part(8, name), place, number(14, 1)].concat())
}

fn value(field: u64, name: &str, kind: u64, dims: &[Option<u64>]) -> Vec<u8> {
    let dim = |dim: &Option<u64>| part(1, dim.map_or_else(Vec::new, |dim| number(1, dim)));
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    let tensor = part(1, [number(1, kind), part(2, shape)].concat());
    part(field, [part(1, name), part(2, tensor)].concat())
}

/// An input of floats; a dim that is `None` is open.
pub fn input(name: &str, dims: &[Option<u64>]) -> Vec<u8> {
    value(11, name, 1, dims)
}

/// An input of bytes, uint8.
pub fn bytes(name: &str, dims: &[Option<u64>]) -> Vec<u8> {
    value(11, name, 2, dims)
}

/// An output of floats, without a shape.
pub fn output(name: &str) -> Vec<u8> {
    part(12, part(1, name))
}

/// A file of these parts of a graph, by operator set 17.
pub fn file(parts: &[Vec<u8>]) -> Vec<u8> {
    [number(1, 8), part(7, parts.concat()), part(8, number(2, 17))].concat()
}
