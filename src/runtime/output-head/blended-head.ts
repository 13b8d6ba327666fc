/** The heads that adapters bring, as one matrix: Σ weight · theirs, [vocabulary, size]. */
import type { AdapterCombination } from '../lora/adapter-combination.ts';

/** Numbers that are written at once: a millisecond or two. */
const PIECE_LENGTH = 2 ** 20;

export class BlendedHead {
  /** How much the model's own logits count: 1 − Σ weight. */
  readonly ownShare: number;
  /** In a copy of its own, because sessions take no shared memory. */
  private readonly values: Float32Array;
  private written = 0;
  private readonly parts: readonly { readonly weight: number; readonly head: Float32Array }[];

  /** `combination`: one of its adapters brings a head at least. */
  constructor(combination: AdapterCombination) {
    this.parts = combination.parts.flatMap(({ weight, adapter: { head } }) =>
      head === undefined ? [] : [{ weight, head }],
    );
    this.values = new Float32Array(this.parts[0]?.head.length ?? 0);
    const share = this.parts.reduce((rest, { weight }) => rest - weight, 1);
    // weights such as 0.7 and 0.3 are one but for their rounding
    this.ownShare = Math.abs(share) < Number.EPSILON * this.parts.length ? 0 : share;
  }

  get byteLength(): number {
    return this.values.byteLength;
  }

  /** Writes one piece; returns its bytes, 0 when none is missing. */
  prepare(): number {
    const start = this.written;
    this.written = Math.min(this.values.length, start + PIECE_LENGTH);
    this.write(start, this.written);
    return (this.written - start) * Float32Array.BYTES_PER_ELEMENT;
  }

  /** All of it. */
  whole(): Float32Array {
    while (this.prepare() > 0);
    return this.values;
  }

  private write(start: number, end: number): void {
    const { values, parts } = this;
    for (const [part, { weight, head }] of parts.entries()) {
      for (let index = start; index < end; index++) {
        const before = part === 0 ? 0 : (values[index] as number);
        values[index] = before + weight * (head[index] as number);
      }
    }
  }
}
