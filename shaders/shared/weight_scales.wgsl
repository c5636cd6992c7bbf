// #import params

// What weights are scaled by, alpha and KDS bias per block, and the bias that lies behind them.

// alpha [tap][block][output channel], KDS bias likewise, bias [output channel].
@group(0) @binding(2) var<storage, read> weight_scales: array<f32>;

// The scale of a block of weights: a weight is alpha * q + kds_bias. Float weights have 1 and 0.
struct WeightScale {
    alpha: f32,
    kds_bias: f32,
}

// One number of alpha or of KDS bias.
fn weight_scale_at(index: u32) -> f32 {
    if HALF_SCALES {
        let pair = unpack2x16float(bitcast<u32>(weight_scales[index / 2u]));
        return params.weight_scale_factor * select(pair.x, pair.y, index % 2u == 1u);
    }
    return weight_scales[index];
}

// The scale of a block, for an output channel over all groups.
fn weight_scale(tap: u32, block: u32, channel: u32) -> WeightScale {
    if BITS == 32u {
        return WeightScale(1.0, 0.0);
    }
    let at = (tap * params.block_count + block) * params.all_outputs + channel;
    if has_kds_bias() {
        return WeightScale(weight_scale_at(at), weight_scale_at(params.kds_bias_at + at));
    }
    return WeightScale(weight_scale_at(at), 0.0);
}
