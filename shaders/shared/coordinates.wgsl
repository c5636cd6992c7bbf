// #import params

// From numbers to places: pixels of the output, the input pixels that their taps meet, channels in their rows, indices.

// A pixel of the input; may lie in the padding.
struct Position {
    y: i32,
    x: i32,
}

// Where the receptive field of an output pixel starts in the input.
fn field_origin(y: u32, x: u32) -> Position {
    return Position(i32(y * params.stride_y) - params.padding_top, i32(x * params.stride_x) - params.padding_left);
}

// The input pixel that a tap meets.
fn tap_position(origin: Position, tap: u32) -> Position {
    let y = tap / params.kernel_width;
    let x = tap % params.kernel_width;
    return Position(origin.y + i32(y * params.dilation_y), origin.x + i32(x * params.dilation_x));
}

// Whether a position is a pixel of the input, not of the padding.
fn inside_input(position: Position) -> bool {
    return position.y >= 0 && position.y < params.input_height && position.x >= 0 && position.x < params.input_width;
}

// The index of the first channel of a group at an input pixel.
fn input_index(image: u32, group: u32, position: Position) -> u32 {
    return image * params.input_n + group * params.channels * params.input_c
        + u32(position.y) * params.input_y + u32(position.x) * params.input_x;
}

// A pixel of the output and the origin of its receptive field; not valid past the last pixel.
struct Pixel {
    image: u32,
    y: u32,
    x: u32,
    valid: bool,
    origin: Position,
}

// The `index`th pixel of the output, over all images.
fn output_pixel(index: u32) -> Pixel {
    let x = index % params.output_width;
    let row = index / params.output_width;
    let y = row % params.output_height;
    let image = row / params.output_height;
    return Pixel(image, y, x, image < params.batch, field_origin(y, x));
}

// Where a pixel's channels start in the input at a tap; NONE in the padding and past the last pixel.
fn tap_index(pixel: Pixel, group: u32, tap: u32) -> u32 {
    let position = tap_position(pixel.origin, tap);
    if !pixel.valid || !inside_input(position) {
        return NONE;
    }
    return input_index(pixel.image, group, position);
}

// Where a quad lies in its row: its first channel, and how many of its four channels exist.
struct QuadPlace {
    channel: u32,
    count: u32,
}

// The place of a quad, counted from the row's start, that lies in a block.
fn quad_place(quad: u32, block: u32) -> QuadPlace {
    let inside = 4u * (quad - block * params.block_quads);
    let first = block * params.block_size;
    let last = block + 1u == params.block_count;
    let size = select(params.block_size, params.channels - first, last);
    return QuadPlace(first + inside, min(size - inside, 4u));
}

// An output element: image, output channel over all groups, row and column.
struct OutputPlace {
    image: u32,
    channel: u32,
    y: u32,
    x: u32,
}

// The `index`th output in the order of the output's memory, so that neighbouring threads write side by side.
fn output_place(index: u32) -> OutputPlace {
    let channels = params.all_outputs;
    var rest = index;
    var place = OutputPlace();
    if params.output_c == 1u {
        place.channel = rest % channels;
        rest /= channels;
    }
    place.x = rest % params.output_width;
    rest /= params.output_width;
    place.y = rest % params.output_height;
    rest /= params.output_height;
    if params.output_c != 1u {
        place.channel = rest % channels;
        rest /= channels;
    }
    place.image = rest;
    return place;
}

// Where an element lies in the output and in the residual.
fn output_index(place: OutputPlace) -> u32 {
    return place.image * params.output_n + place.channel * params.output_c
        + place.y * params.output_y + place.x * params.output_x;
}
