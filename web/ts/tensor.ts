// Tensors, and the checks of what callers give.
import { invalid } from "./errors.js";

/** Floats, row-major. */
export interface Tensor<Shape extends readonly number[] = readonly number[]> {
  readonly data: Float32Array;
  readonly shape: Shape;
}

/** @internal */
export function floats(field: string, value: unknown): Float32Array {
  if (value instanceof Float32Array) return value;
  throw invalid(field, "a Float32Array", value);
}

/** @internal */
export function optionalFloats(field: string, value: unknown): Float32Array | undefined {
  return value === undefined ? undefined : floats(field, value);
}
