//! Shader files as they are embedded: as they are, but in WebAssembly, which is downloaded, without comments.

/// The text of a shader's file, whose path is given as for `include_str!`. In WebAssembly it has no comments, except for
/// `// #…`, and no indentation; line numbers stay those of the file.
#[cfg(not(target_arch = "wasm32"))]
#[macro_export]
macro_rules! shader_text {
    ($path:expr) => {
        include_str!($path)
    };
}

/// The text of a shader's file, whose path is given as for `include_str!`. In WebAssembly it has no comments, except for
/// `// #…`, and no indentation; line numbers stay those of the file.
#[cfg(target_arch = "wasm32")]
#[macro_export]
macro_rules! shader_text {
    ($path:expr) => {{
        const TEXT: &str = include_str!($path);
        const LENGTH: usize = $crate::gpu::stripped::<0>(TEXT).1;
        const BYTES: [u8; LENGTH] = $crate::gpu::stripped(TEXT).0;
        match std::str::from_utf8(&BYTES) {
            Ok(text) => text,
            Err(_) => panic!("whole lines and parts before a slash are UTF-8"),
        }
    }};
}

/// The first N bytes of a shader's text without comments, except for `// #…`, and without indentation, and how many
/// bytes all of it has. Every end of a line stays.
pub const fn stripped<const N: usize>(text: &str) -> ([u8; N], usize) {
    let text = text.as_bytes();
    let (mut bytes, mut length) = ([0; N], 0);
    let (mut at, mut indentation) = (0, true);
    while at < text.len() {
        let byte = text[at];
        let comment = byte == b'/' && at + 1 < text.len() && text[at + 1] == b'/';
        let kept = at + 3 < text.len() && text[at + 3] == b'#';
        if comment && !kept {
            while at < text.len() && text[at] != b'\n' {
                at += 1;
            }
            continue;
        }
        if !(indentation && byte == b' ') {
            indentation = byte == b'\n';
            if length < N {
                bytes[length] = byte;
            }
            length += 1;
        }
        at += 1;
    }
    (bytes, length)
}
