//! wgpu's pipeline cache, wrapped so that damaged data or another adapter's is recognised.

/// Changes when the wrapping does.
const MAGIC: &[u8; 8] = b"dsconvP1";
const HEADER: usize = 8 + 8 + 8;

/// A driver's cache data with what is needed to recognise it: magic, hash of the adapter, hash of the data.
pub(crate) fn wrap(adapter: &wgpu::AdapterInfo, data: &[u8]) -> Vec<u8> {
    let identity = fnv1a(identity(adapter).as_bytes());
    [MAGIC.as_slice(), &identity.to_le_bytes(), &fnv1a(data).to_le_bytes(), data].concat()
}

/// The driver's data, if it is whole and this adapter's.
pub(crate) fn unwrap<'a>(adapter: &wgpu::AdapterInfo, wrapped: &'a [u8]) -> Option<&'a [u8]> {
    let ignored = |reason: &str| {
        log::warn!("pipeline cache ignored: {reason}; pipelines are compiled anew");
        None
    };
    if wrapped.len() < HEADER || !wrapped.starts_with(MAGIC) {
        return ignored("not a cache of this version");
    }
    let (header, data) = wrapped.split_at(HEADER);
    if header[16..24] != fnv1a(data).to_le_bytes() {
        return ignored("damaged");
    }
    if header[8..16] != fnv1a(identity(adapter).as_bytes()).to_le_bytes() {
        return ignored("made on another adapter or driver");
    }
    Some(data)
}

fn identity(adapter: &wgpu::AdapterInfo) -> String {
    let wgpu::AdapterInfo { name, vendor, device, driver, driver_info, backend, .. } = adapter;
    format!("{name}|{vendor}|{device}|{driver}|{driver_info}|{backend:?}")
}

/// The FNV-1a hash: enough against accidents, and nothing here defends against malice.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
