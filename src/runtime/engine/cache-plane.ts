/**
 * One tensor of the key/value cache, [slots, …], in memory that JavaScript owns: sessions read it in place. The slots in
 * use are a prefix, so that a view of them is one block.
 */
import { invariant } from '../errors.ts';
import type { CachedTensor } from '../graph/cached-tensors.ts';
import { elementCount, type TensorValue } from '../tensor.ts';

export type CacheData = Float32Array | Uint8Array;

const BYTES = { float32: 4, uint8: 1 } as const;

/** Bytes of a slot of `length` positions. */
export function slotBytes({ dims, type }: CachedTensor, length: number): number {
  return elementCount(sizesOf(dims, length)) * BYTES[type];
}

export class CachePlane {
  private data: CacheData;
  private slotCount = 0;
  private length = 0;
  /** A slot is so many blocks, each of them `width` numbers for every position. */
  private readonly blockCount: number;
  private readonly width: number;
  private readonly isFixed: boolean;

  constructor(readonly shape: CachedTensor) {
    const { dims } = shape;
    const axis = dims.indexOf('length');
    this.isFixed = axis < 0;
    this.blockCount = elementCount(sizesOf(dims.slice(0, Math.max(0, axis)), 1));
    this.width = elementCount(sizesOf(dims.slice(axis + 1), 1));
    this.data = this.allocate(0);
  }

  get byteLength(): number {
    return this.data.byteLength;
  }

  /** Makes room for `slots` × `length`, keeping what the first `used` slots hold up to the shorter length. */
  resize(slots: number, length: number, used: number): void {
    const { data: old, length: oldLength, blockCount, width } = this;
    const newLength = this.isFixed ? 1 : length;
    if (slots === this.slotCount && newLength === oldLength) return;
    const data = this.allocate(slots * blockCount * newLength * width);
    const kept = Math.min(newLength, oldLength) * width;
    for (let block = 0; block < used * blockCount; block++) {
      const from = block * oldLength * width;
      data.set(old.subarray(from, from + kept), block * newLength * width);
    }
    this.data = data;
    this.slotCount = slots;
    this.length = newLength;
  }

  /** The first `count` slots as a tensor [count, …], not copied. */
  view(count: number): TensorValue {
    const dims = [count, ...sizesOf(this.shape.dims, this.length)];
    return { data: this.data.subarray(0, elementCount(dims)), dims };
  }

  /**
   * Writes the first `length` positions of a slot from `values`, which have no others, and zeros behind: a mask hides
   * what a former request left there, but not if it is no number.
   */
  write(slot: number, values: CacheData, length: number): void {
    const size = (this.isFixed ? 1 : length) * this.width;
    const stride = this.length * this.width;
    invariant(size <= stride && slot < this.slotCount, 'a cache write fits its plane');
    for (let block = 0; block < this.blockCount; block++) {
      const start = (slot * this.blockCount + block) * stride;
      this.data.set(values.subarray(block * size, (block + 1) * size), start);
      if (size < stride) this.data.fill(0, start + size, start + stride);
    }
  }

  /** Writes one position of a slot from the blocks at `offset` of `values`. */
  writeEntry(slot: number, entry: number, values: CacheData, offset: number): void {
    const { data, blockCount, width, length } = this;
    for (let block = 0; block < blockCount; block++) {
      const from = offset + block * width;
      const to = ((slot * blockCount + block) * length + entry) * width;
      // so few numbers are copied faster one by one than by a call
      for (let index = 0; index < width; index++) data[to + index] = values[from + index] as number;
    }
  }

  /** Returns a copy of the first `length` positions of a slot. */
  read(slot: number, length: number): CacheData {
    const size = (this.isFixed ? 1 : length) * this.width;
    const values = this.allocate(this.blockCount * size);
    for (let block = 0; block < this.blockCount; block++) {
      const from = (slot * this.blockCount + block) * this.length * this.width;
      values.set(this.data.subarray(from, from + size), block * size);
    }
    return values;
  }

  copySlot(from: number, to: number): void {
    const size = this.blockCount * this.length * this.width;
    this.data.copyWithin(to * size, from * size, (from + 1) * size);
  }

  private allocate(length: number): CacheData {
    return this.shape.type === 'float32' ? new Float32Array(length) : new Uint8Array(length);
  }
}

function sizesOf(dims: CachedTensor['dims'], length: number): readonly number[] {
  return dims.map((size) => (size === 'length' ? length : size));
}
