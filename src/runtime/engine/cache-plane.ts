/**
 * One tensor of the key/value cache, [slots, heads, length, headSize], in memory that JavaScript owns: sessions read it
 * in place. The slots in use are a prefix, so that a view of them is one block.
 */
import { invariant } from '../errors.ts';
import { floatTensor, type TensorValue } from '../tensor.ts';

export class CachePlane {
  private data = new Float32Array(0);
  private slotCount = 0;
  private length = 0;

  constructor(
    private readonly headCount: number,
    private readonly headSize: number,
  ) {}

  get byteLength(): number {
    return this.data.byteLength;
  }

  /** Makes room for `slots` × `length`, keeping what the first `used` slots hold up to the shorter length. */
  resize(slots: number, length: number, used: number): void {
    if (slots === this.slotCount && length === this.length) return;
    const { data: old, length: oldLength, headCount, headSize } = this;
    const data = new Float32Array(slots * headCount * length * headSize);
    const kept = Math.min(length, oldLength) * headSize;
    for (let block = 0; block < used * headCount; block++) {
      const from = block * oldLength * headSize;
      data.set(old.subarray(from, from + kept), block * length * headSize);
    }
    this.data = data;
    this.slotCount = slots;
    this.length = length;
  }

  /** The first `count` slots as a tensor [count, heads, length, headSize], not copied. */
  view(count: number): TensorValue {
    const { headCount, length, headSize } = this;
    const size = count * headCount * length * headSize;
    return floatTensor(this.data.subarray(0, size), [count, headCount, length, headSize]);
  }

  /**
   * Writes positions 0 … `length` − 1 of a slot from [heads, length, headSize] at `offset` of `values`, and zeros behind:
   * a mask hides what a former request left there, but not if it is no number.
   */
  write(slot: number, values: Float32Array, offset: number, length: number): void {
    invariant(length <= this.length && slot < this.slotCount, 'a cache write fits its plane');
    const size = length * this.headSize;
    for (let head = 0; head < this.headCount; head++) {
      const from = offset + head * size;
      const start = (slot * this.headCount + head) * this.length * this.headSize;
      this.data.set(values.subarray(from, from + size), start);
      this.data.fill(0, start + size, start + this.length * this.headSize);
    }
  }

  /** Writes one position of a slot from [heads, headSize] at `offset` of `values`. */
  writeEntry(slot: number, entry: number, values: Float32Array, offset: number): void {
    const { data, headCount, headSize, length } = this;
    for (let head = 0; head < headCount; head++) {
      const from = offset + head * headSize;
      data.set(values.subarray(from, from + headSize), ((slot * headCount + head) * length + entry) * headSize);
    }
  }

  /** Returns a copy of positions 0 … `length` − 1 of a slot, [heads, length, headSize]. */
  read(slot: number, length: number): Float32Array {
    const size = length * this.headSize;
    const values = new Float32Array(this.headCount * size);
    for (let head = 0; head < this.headCount; head++) {
      const from = (slot * this.headCount + head) * this.length * this.headSize;
      values.set(this.data.subarray(from, from + size), head * size);
    }
    return values;
  }

  copySlot(from: number, to: number): void {
    const size = this.headCount * this.length * this.headSize;
    this.data.copyWithin(to * size, from * size, (from + 1) * size);
  }
}
