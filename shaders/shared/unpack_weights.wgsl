// #import params, weights_{weights}

// Unpacks weights: integers of 2 to 8 bits, which lie in bit planes, and 32-bit floats.
//
// The unit is a quad: the weights of four neighbouring input channels, for one output channel at one tap. Unpacked,
// it is a word of four bytes, channel 0 in the lowest. Each weight q is at the top of its byte, so that the sign needs
// no work: as an int8 the byte is q * 2^(8 - BITS). `byte_scale` undoes the factor.
//
// A width is a sum of powers of two, and each of these powers has a plane: 7 bits have planes of 4, 2 and 1 bits. The
// first plane holds the highest bits of every weight. So every width is dense in memory, and unpacks by a shift and a
// mask per quad and plane. A word of a plane holds as many quads as fit. This is one byte of it, the highest bit on the
// left, and it holds one channel of each quad; the other three bytes hold the quads' other channels:
//
//     plane of 8    | q0 q0 q0 q0 q0 q0 q0 q0 |   one quad a word
//     plane of 4    | q0 q0 q0 q0|q1 q1 q1 q1 |   two quads
//     plane of 2    | q0 q0|q1 q1|q2 q2|q3 q3 |   four quads
//     plane of 1    | q0|q1|q2|q3|q4|q5|q6|q7 |   eight quads
//
// A 7-bit weight is put together from three of these, each moved to the right by the bits of the planes before it:
//
//     unpacked      | 4  4  4  4| 2  2| 1| .  |   the digit is the plane that a bit comes from
//
// In memory a row of 7-bit weights, of eight quads here, is the words of its planes one after another:
//
//     | 4: q0 q1 | 4: q2 q3 | 4: q4 q5 | 4: q6 q7 | 2: q0 q1 q2 q3 | 2: q4 q5 q6 q7 | 1: q0 q1 q2 q3 q4 q5 q6 q7 |
//
// The words of neighbouring output channels, which neighbouring threads load, lie side by side: [tap][plane][word]
// [output channel]. Floats lie in fours, so that a load can bring 16 bytes, and so do 8-bit integers where it is not
// CHANNEL_FOURS that do. The last of these fours may be shorter:
//
//     8-bit integers    [tap][quad / 4][output channel][quad % 4], a word each
//     floats            [tap][quad][output channel][channel % 4]
//
// The host packs all this in src/gpu/planes.rs.
//
// Three functions unpack integers, and share the walk's one step, `from_plane`:
//
//     unpack_quad       one quad, any
//     unpack_quads      the same quad of four output channels
//     unpack_sixteen    four quads, from places that the caller moves on: all shifts are known when this is compiled

// The bits of one quad in words of a plane of `plane` bits, moved to where they belong in the quad's bytes: behind
// the `above` bits of the planes before. `index` counts quads from the word's highest bits. All but the words are
// known when this is compiled, so that it is one shift and one mask for each.
fn from_plane(words: vec4<u32>, plane: u32, above: u32, index: u32) -> vec4<u32> {
    let up = plane * index;
    let right = vec4<u32>((above - up) & 31u);
    let left = vec4<u32>((up - above) & 31u);
    let moved = select(words >> right, words << left, up >= above);
    let top_of_a_byte = 0xffu & (0xffu << (8u - plane));
    return moved & vec4<u32>((top_of_a_byte * 0x01010101u) >> above);
}

// The words of a plane for four output channels, for unpacking from `quad` on: that quad comes first. `plane_at` is
// where the plane's row starts.
fn words_of_plane(plane_at: u32, plane: u32, quad: u32, channels: vec4<u32>) -> vec4<u32> {
    let quads_per_word = 8u / plane;
    let row = (plane_at + quad / quads_per_word) * params.all_outputs;
    return channel_words(row, channels) << vec4<u32>(plane * (quad % quads_per_word));
}

// The words of four output channels; with CHANNEL_FOURS these are neighbours, or no longer outputs of the layer.
fn channel_words(row: u32, channels: vec4<u32>) -> vec4<u32> {
    if CHANNEL_FOURS {
        return weight_four((row + channels.w) / 4u);
    }
    return weight_words(row + channels);
}

fn weight_words(places: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(weight_word(places.x), weight_word(places.y), weight_word(places.z), weight_word(places.w));
}

// One quad of a row of packed integers.
fn unpack_quad(tap: u32, quad: u32, channel: u32) -> u32 {
    return unpack_quads(tap, quad, vec4<u32>(channel)).x;
}

// One quad of the rows of four output channels.
fn unpack_quads(tap: u32, quad: u32, channels: vec4<u32>) -> vec4<u32> {
    var plane_at = tap * params.row_words;
    if BITS == 8u {
        if CHANNEL_FOURS {
            return channel_words((plane_at + quad) * params.all_outputs, channels);
        }
        return channel_words(0u, in_fours(plane_at, quad, params.row_quads, channels));
    }
    var bytes = vec4<u32>();
    if (BITS & 4u) != 0u {
        bytes = from_plane(words_of_plane(plane_at, 4u, quad, channels), 4u, 0u, 0u);
        plane_at += (params.row_quads + 1u) / 2u;
    }
    if (BITS & 2u) != 0u {
        bytes |= from_plane(words_of_plane(plane_at, 2u, quad, channels), 2u, BITS & 4u, 0u);
        plane_at += (params.row_quads + 3u) / 4u;
    }
    if (BITS & 1u) != 0u {
        bytes |= from_plane(words_of_plane(plane_at, 1u, quad, channels), 1u, BITS & 6u, 0u);
    }
    return bytes;
}

// Four quads, sixteen channels, of a row whose blocks are multiples of sixteen channels. `places` come from
// `first_sixteen`. A word of the plane of 1 holds thirty-two channels: `odd` is 1 for the second half of them, else
// 0.
fn unpack_sixteen(places: vec3<u32>, odd: u32, channel: u32, all_outputs: u32) -> vec4<u32> {
    if BITS == 8u {
        return weight_four(places.x);
    }
    var quads = vec4<u32>();
    if (BITS & 4u) != 0u {
        let first = weight_word(places.x);
        let second = weight_word(places.x + all_outputs);
        let words = vec4<u32>(first, second, first, second);
        let high = from_plane(words, 4u, 0u, 0u);
        let low = from_plane(words, 4u, 0u, 1u);
        quads = vec4<u32>(high.x, low.x, high.y, low.y);
    }
    if (BITS & 2u) != 0u {
        quads |= four_from_plane(weight_word(places.y + channel), 2u, BITS & 4u);
    }
    if (BITS & 1u) != 0u {
        quads |= four_from_plane(weight_word(places.z + channel) << (4u * odd), 1u, BITS & 6u);
    }
    return quads;
}

fn four_from_plane(word: u32, plane: u32, above: u32) -> vec4<u32> {
    let words = vec4<u32>(word);
    return vec4<u32>(
        from_plane(words, plane, above, 0u).x, from_plane(words, plane, above, 1u).x,
        from_plane(words, plane, above, 2u).x, from_plane(words, plane, above, 3u).x,
    );
}

// Where a row's weights start for `unpack_sixteen`: 8-bit integers in `weight_vectors`, in the first component;
// narrower ones in `weights`, a component for each plane. The first is the place of one output channel. The other two
// are those of channel 0: they are the same in all threads, so that compilers can keep them in scalar registers.
// Float weights start in the first, too.
fn first_sixteen(tap: u32, channel: u32) -> vec3<u32> {
    let all_outputs = params.all_outputs;
    if BITS >= 8u {
        let fours = select(params.row_quads, params.row_quads / 4u, BITS == 8u);
        return vec3<u32>(tap * fours * all_outputs + channel, 0u, 0u);
    }
    let twos = tap * params.row_words + select(0u, params.row_quads / 2u, (BITS & 4u) != 0u);
    let ones = twos + select(0u, params.row_quads / 4u, (BITS & 2u) != 0u);
    return vec3<u32>(tap * params.row_words, twos, ones) * all_outputs + vec3<u32>(channel, 0u, 0u);
}

// How far the places of the next sixteen channels lie behind. The plane of 1 moves on after every second sixteen: by
// `all_outputs` more, which the caller adds.
fn next_sixteen() -> vec3<u32> {
    return vec3<u32>(select(2u, 1u, BITS == 8u), 1u, 0u) * params.all_outputs;
}

// What the bytes of a quad are to be multiplied by to give the integers themselves; 1 for floats.
fn byte_scale() -> f32 {
    return 1.0 / f32(1u << ((8u - BITS) & 7u));
}

// The four bytes of a word as floats, signs and all.
fn byte_floats(bytes: u32) -> vec4<f32> {
    let word = bitcast<i32>(bytes);
    return vec4<f32>(vec4<i32>(
        extractBits(word, 0u, 8u), extractBits(word, 8u, 8u), extractBits(word, 16u, 8u), extractBits(word, 24u, 8u),
    ));
}

// Four weights of a row before alpha and KDS bias, integers as the floats of their bytes, still to be multiplied by
// `byte_scale`. `channel` is the output channel over all groups. What lies past a block's end is any weight of the
// layer: it must meet an input of 0.
fn weight_bytes(tap: u32, quad: u32, channel: u32) -> vec4<f32> {
    if BITS == 32u {
        let row = tap * params.channels + 4u * quad;
        let count = min(params.channels - 4u * quad, 4u);
        let places = row * params.all_outputs + channel * count + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(count - 1u));
        return bitcast<vec4<f32>>(weight_words(places));
    }
    return byte_floats(unpack_quad(tap, quad, channel));
}

// The same as the integers themselves, or the float weights.
fn weight_quad(tap: u32, quad: u32, channel: u32) -> vec4<f32> {
    return weight_bytes(tap, quad, channel) * byte_scale();
}

// Where the `index`th of `count` elements of a row lies, stored in fours: [index / 4][output channel][index % 4].
// `base` is where the row starts, in elements of one output channel.
fn in_fours(base: u32, index: u32, count: u32, channels: vec4<u32>) -> vec4<u32> {
    let first = index & 0xfffffffcu;
    return (base + first) * params.all_outputs + channels * min(count - first, 4u) + index % 4u;
}
