//! The generator of the golden weights: every value is a function of a tensor's name.

#![allow(dead_code, reason = "each test binary uses its part")]

/// Offset and amplitude of the parameter `name`, or `None` for buffers that are computed.
pub(crate) fn offset_and_amplitude(name: &str, shape: &[usize]) -> Option<(f64, f64)> {
    let last = name.rsplit('.').next().unwrap();
    let fan_in: usize = shape[1..].iter().product();
    Some(match (last, shape.len()) {
        ("relative_position_index" | "attn_mask" | "num_batches_tracked", _) => return None,
        ("relative_position_bias_table", _) => (0.0, 0.2),
        ("weight", 1) => (1.0, 0.1),
        ("bias", 1) => (0.0, 0.05),
        (_, 2..) => (0.0, (3.0 / fan_in as f64).sqrt()),
        _ => (0.0, 0.05),
    })
}

/// `count` values of the tensor `name`: FNV-1a of the name seeds splitmix64, uniform in `offset ± amplitude`.
pub(crate) fn generated(name: &str, count: usize, offset: f64, amplitude: f64) -> Vec<f32> {
    let seed =
        name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let value = |at: u64| {
        let mut z = seed.wrapping_add(at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let uniform = (z >> 40) as f64 / f64::from(1 << 24) * 2.0 - 1.0;
        (offset + amplitude * uniform) as f32
    };
    (0..count as u64).map(value).collect()
}

/// A JSON file of `tests/data`.
pub(crate) fn json(name: &str) -> serde_json::Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
