/** The adapters of one request as one: their weighted sum, W x + Σ weight · (what the adapter adds to W x). */
import { invariant } from '../errors.ts';
import { LORA_UNIT } from '../graph/lora.ts';
import type { LoraFactors, LoraWeights } from './lora-weights.ts';

interface Part {
  readonly weight: number;
  readonly factors: LoraFactors;
}

export interface CombinedAdapter {
  readonly key: string;
  readonly weight: number;
  readonly weights: LoraWeights;
}

/** A block of ranks as the graphs take it: a [in, ranks], b [ranks, out]. */
export interface RankBlock {
  readonly first: number;
  readonly count: number;
  readonly a: Float32Array;
  readonly b: Float32Array;
}

export class AdapterCombination {
  private readonly parts = new Map<string, Part[]>();
  /** Blocks of LORA_UNIT ranks that its widest module takes; at least one. */
  readonly unitCount: number;

  /** No adapters: the model as it is. */
  static readonly none = new AdapterCombination([]);

  constructor(readonly adapters: readonly CombinedAdapter[]) {
    let most = 1;
    for (const { weight, weights } of adapters) {
      for (const factors of weights.factors) {
        const parts = this.parts.get(factors.module) ?? [];
        parts.push({ weight, factors });
        this.parts.set(factors.module, parts);
        most = Math.max(most, this.rankOf(factors.module));
      }
    }
    this.unitCount = Math.ceil(most / LORA_UNIT);
  }

  /** Whether one of them brings an output head of its own. */
  get replacesHead(): boolean {
    return this.adapters.some(({ weights }) => weights.head !== undefined);
  }

  /** Returns the head that stands in place of the model's own: own + Σ weight · (theirs − own). */
  headOver(own: Float32Array): Float32Array {
    const heads = this.adapters.flatMap(({ weight, weights }) =>
      weights.head === undefined ? [] : [{ weight, head: weights.head }],
    );
    const [only] = heads;
    // alone and whole, a head keeps its own bits; a copy, because sessions take no shared memory
    if (heads.length === 1 && only?.weight === 1) return Float32Array.from(only.head);
    const sum = own.slice();
    for (const { weight, head } of heads) {
      for (let index = 0; index < sum.length; index++) {
        sum[index] = (sum[index] as number) + weight * ((head[index] as number) - (own[index] as number));
      }
    }
    return sum;
  }

  has(key: string): boolean {
    return this.adapters.some((adapter) => adapter.key === key);
  }

  /** Ranks of all its adapters on a module. */
  rankOf(module: string): number {
    return (this.parts.get(module) ?? []).reduce((sum, { factors }) => sum + factors.rank, 0);
  }

  /** Writes ranks `first` … `first + count` − 1 of a module; those that it does not have are zeros. */
  write(module: string, { first, count, a, b }: RankBlock): void {
    a.fill(0);
    b.fill(0);
    let start = -first;
    for (const { weight, factors } of this.parts.get(module) ?? []) {
      const inSize = a.length / count;
      const outSize = b.length / count;
      invariant(factors.a.length === factors.rank * inSize, `the factors of ${module} have the size of its inputs`);
      for (let rank = Math.max(0, -start); rank < factors.rank && start + rank < count; rank++) {
        const place = start + rank;
        const row = rank * inSize;
        for (let index = 0; index < inSize; index++) a[index * count + place] = factors.a[row + index] as number;
        writeScaled(b, place * outSize, factors.b.subarray(rank * outSize, (rank + 1) * outSize), weight);
      }
      start += factors.rank;
    }
  }

  /** Writes by how much the rows of a module's own matrix count: 1 + Σ weight · (gain − 1). */
  writeGain(module: string, gain: Float32Array): void {
    gain.fill(1);
    const parts = this.parts.get(module) ?? [];
    for (const { weight, factors } of parts) {
      if (factors.gain === undefined) continue;
      // alone and whole, a gain keeps its own bits
      if (parts.length === 1 && weight === 1) gain.set(factors.gain);
      else for (let index = 0; index < gain.length; index++) addGain(gain, factors.gain, index, weight);
    }
  }
}

function writeScaled(target: Float32Array, offset: number, values: Float32Array, weight: number): void {
  if (weight === 1) target.set(values, offset);
  else for (let index = 0; index < values.length; index++) target[offset + index] = (values[index] as number) * weight;
}

function addGain(gain: Float32Array, added: Float32Array, index: number, weight: number): void {
  gain[index] = (gain[index] as number) + weight * ((added[index] as number) - 1);
}
