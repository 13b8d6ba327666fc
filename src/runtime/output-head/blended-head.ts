/** The head that stands in place of the model's own: own + Σ weight · (theirs − own), [vocabulary, size]. */
import type { AdapterCombination } from '../lora/adapter-combination.ts';

/** Numbers that are written at once: a millisecond or two. */
const PIECE_LENGTH = 2 ** 20;

export class BlendedHead {
  private readonly values: Float32Array;
  /** In a copy of its own, because sessions take no shared memory. */
  private written = 0;
  private readonly parts: readonly { readonly weight: number; readonly head: Float32Array }[];

  constructor(
    private readonly own: Float32Array,
    combination: AdapterCombination,
  ) {
    this.values = new Float32Array(own.length);
    this.parts = combination.parts.flatMap(({ weight, adapter: { head } }) =>
      head === undefined ? [] : [{ weight, head }],
    );
  }

  get byteLength(): number {
    return this.values.byteLength;
  }

  /** Writes one piece; returns its bytes, 0 when none is missing. */
  prepare(): number {
    const start = this.written;
    this.written = Math.min(this.own.length, start + PIECE_LENGTH);
    this.write(start, this.written);
    return (this.written - start) * Float32Array.BYTES_PER_ELEMENT;
  }

  /** All of it. */
  whole(): Float32Array {
    while (this.prepare() > 0);
    return this.values;
  }

  private write(start: number, end: number): void {
    const { own, values, parts } = this;
    const [only] = parts;
    // alone and whole, a head keeps its own bits
    if (parts.length === 1 && only?.weight === 1) {
      values.set(only.head.subarray(start, end), start);
      return;
    }
    values.set(own.subarray(start, end), start);
    for (const { weight, head } of parts) {
      for (let index = start; index < end; index++) {
        values[index] = (values[index] as number) + weight * ((head[index] as number) - (own[index] as number));
      }
    }
  }
}
