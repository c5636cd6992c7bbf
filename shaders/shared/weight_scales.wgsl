// #import params, weights_{weights}

// What weights are scaled by, alpha and KDS bias per block, and the bias. They lie behind the weights, in their buffer:
// alpha [tap][block][output channel], KDS bias likewise, bias [output channel].

// The scale of a block of weights: a weight is alpha * q + kds_bias. Float weights have 1 and 0.
struct WeightScale {
    alpha: f32,
    kds_bias: f32,
}

// One number of alpha or of KDS bias.
fn weight_scale_at(index: u32) -> f32 {
    if HALF_SCALES {
        let pair = unpack2x16float(weight_word(params.scales_at + index / 2u));
        return params.weight_scale_factor * select(pair.x, pair.y, index % 2u == 1u);
    }
    return bitcast<f32>(weight_word(params.scales_at + index));
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

// The bias of an output channel, over all groups.
fn channel_bias(channel: u32) -> f32 {
    if params.bias_at == NONE {
        return 0.0;
    }
    return bitcast<f32>(weight_word(params.bias_at + channel));
}
