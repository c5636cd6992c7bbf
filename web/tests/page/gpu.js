// What tests watch of the page's WebGPU.

/** Counts bytes of buffers that are made and not destroyed. */
export function countBuffers() {
  const sizes = new Map();
  let created = 0;
  const { createBuffer } = GPUDevice.prototype;
  GPUDevice.prototype.createBuffer = function (descriptor) {
    const buffer = createBuffer.call(this, descriptor);
    sizes.set(buffer, descriptor.size);
    created += 1;
    return buffer;
  };
  const { destroy } = GPUBuffer.prototype;
  GPUBuffer.prototype.destroy = function () {
    sizes.delete(this);
    destroy.call(this);
  };
  return {
    live: () => [...sizes.values()].reduce((sum, size) => sum + size, 0),
    created: () => created,
  };
}

/** The device that was made last. */
export function rawDevice() {
  let raw;
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (descriptor) {
    raw = await requestDevice.call(this, descriptor);
    return raw;
  };
  return () => raw;
}
