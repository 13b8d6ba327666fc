/**
 * Lets the garbage collector know of shared memory. V8 counts the bytes of ordinary buffers and collects when they have
 * grown, but not those of shared ones (seen in Node 20): without a hint, factors of adapters that were let go stay for
 * many loads. An ordinary buffer of the same size, never touched and dropped at once, is that hint and takes no memory.
 */
export function noteSharedMemory(byteLength: number): void {
  new ArrayBuffer(byteLength);
}
