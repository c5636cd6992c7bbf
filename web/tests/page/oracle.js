// A second oracle, in JavaScript and f64, written apart from the library's: golden outputs judge it, and it judges
// what golden cases do not hold (integer activations, and the bounds' magnitude).

/** Channel ranges of the blocks of a group's channels. */
function blocks(channels, { blockSize, partition }) {
  const count = Math.ceil(channels / blockSize);
  const size = partition === "even" ? Math.floor(channels / count) : Math.min(blockSize, channels);
  return Array.from({ length: count }, (_, j) => [j * size, j === count - 1 ? channels : (j + 1) * size]);
}

/** The float kernel (OIHW) and bias that integers and shifts stand for, with the CDS in them. */
export function dequantize({ inChannels, outChannels, kernel, groups }, weights) {
  const channels = inChannels / groups;
  const taps = kernel[0] * kernel[1];
  const ranges = blocks(channels, weights);
  const { q, alpha, kdsBias, bias, cds } = weights;
  const values = new Float64Array(q.length);
  for (let o = 0; o < outChannels; o += 1) {
    ranges.forEach(([from, to], j) => {
      for (let c = from; c < to; c += 1) {
        for (let tap = 0; tap < taps; tap += 1) {
          const shift = (o * ranges.length + j) * taps + tap;
          const index = (o * channels + c) * taps + tap;
          const weight = alpha[shift] * q[index] + (kdsBias?.[shift] ?? 0);
          const scaled = cds ? cds.scale[o] * weight : weight;
          values[index] = cds?.reading === "kernel" ? scaled + cds.shift[o] : scaled;
        }
      }
    });
  }
  const offsets = (o) => [bias?.[o] ?? 0, cds?.reading === "output" ? cds.shift[o] : 0];
  const outputs = Array.from({ length: outChannels }, (_, o) => offsets(o));
  return {
    values,
    bias: Float64Array.from(outputs, ([own, shift]) => own + shift),
    /** |bias| + |CDS shift|, for the bound. */
    offsets: Float64Array.from(outputs, ([own, shift]) => Math.abs(own) + Math.abs(shift)),
  };
}

/** The convolution of x (NCHW), and the largest sum of |w||x| with the offsets' magnitude. */
export function convolve(geometry, { values: w, bias, offsets }, x, [batch, , height, width]) {
  const { inChannels, outChannels, kernel, stride, padding, dilation, groups } = geometry;
  const channels = inChannels / groups;
  const perGroup = outChannels / groups;
  const extent = (size, axis) =>
    Math.floor((size + padding[axis] + padding[axis + 2] - dilation[axis] * (kernel[axis] - 1) - 1) / stride[axis]) + 1;
  const [outHeight, outWidth] = [extent(height, 0), extent(width, 1)];
  const values = new Float64Array(batch * outChannels * outHeight * outWidth);
  let magnitude = 0;
  let at = 0;
  for (let n = 0; n < batch; n += 1) {
    for (let o = 0; o < outChannels; o += 1) {
      const first = n * inChannels + Math.floor(o / perGroup) * channels;
      for (let oy = 0; oy < outHeight; oy += 1) {
        for (let ox = 0; ox < outWidth; ox += 1) {
          let sum = 0;
          let size = 0;
          for (let ky = 0; ky < kernel[0]; ky += 1) {
            const y = oy * stride[0] + ky * dilation[0] - padding[0];
            if (y < 0 || y >= height) continue;
            for (let kx = 0; kx < kernel[1]; kx += 1) {
              const column = ox * stride[1] + kx * dilation[1] - padding[1];
              if (column < 0 || column >= width) continue;
              for (let c = 0; c < channels; c += 1) {
                const product =
                  w[((o * channels + c) * kernel[0] + ky) * kernel[1] + kx] *
                  x[((first + c) * height + y) * width + column];
                sum += product;
                size += Math.abs(product);
              }
            }
          }
          values[at] = sum + bias[o];
          at += 1;
          magnitude = Math.max(magnitude, size + offsets[o]);
        }
      }
    }
  }
  return { values, magnitude };
}

/** What x becomes as int8 mantissas with a power of two per pixel and block: the numbers they stand for. */
export function quantizeInput({ inChannels, groups }, weights, x, [batch, , height, width]) {
  const channels = inChannels / groups;
  const plane = height * width;
  const result = new Float64Array(x.length);
  for (let n = 0; n < batch; n += 1) {
    for (let pixel = 0; pixel < plane; pixel += 1) {
      for (let group = 0; group < groups; group += 1) {
        for (const [from, to] of blocks(channels, weights)) {
          const index = (c) => (n * inChannels + group * channels + c) * plane + pixel;
          let largest = 0;
          for (let c = from; c < to; c += 1) largest = Math.max(largest, Math.abs(x[index(c)]));
          if (largest < 2 ** -100) continue;
          let exponent = -126;
          while (127 * 2 ** exponent < largest) exponent += 1;
          for (let c = from; c < to; c += 1) {
            result[index(c)] = roundHalfToEven(x[index(c)] * 2 ** -exponent) * 2 ** exponent;
          }
        }
      }
    }
  }
  return result;
}

function roundHalfToEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}
