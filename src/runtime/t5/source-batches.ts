/** Encodes the sources that are asked for at once in one run, where that is faster: on a device with many cores. */
import type { SourceCache } from '../engine/kv-cache.ts';
import type { AdapterCombination } from '../lora/adapter-combination.ts';
import type { SourceEncoder } from './source-encoder.ts';

interface Asked {
  readonly tokenIds: readonly number[];
  readonly adapters: AdapterCombination;
  readonly resolve: (source: SourceCache) => void;
  readonly reject: (error: unknown) => void;
}

/** Sources that are looked at together. */
export const SOURCES_AT_ONCE = 64;
/** Of a run's padded sources, count × length²: attention's scores take as much for each head. 64 sources of 512 tokens. */
const MOST_PAIRS = 2 ** 24;

export class SourceBatches {
  private waiting: Asked[] = [];

  constructor(private readonly encoder: SourceEncoder) {}

  /** As SourceEncoder's; a source's states do not depend on those that it is encoded with. */
  encode(tokenIds: readonly number[], adapters: AdapterCombination): Promise<SourceCache> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ tokenIds, adapters, resolve, reject });
      if (this.waiting.length === 1) queueMicrotask(() => void this.run());
    });
  }

  /** Runs what was asked for, those of the same adapters together. */
  private async run(): Promise<void> {
    const asked = this.waiting;
    this.waiting = [];
    for (const adapters of new Set(asked.map((one) => one.adapters))) {
      const same = asked.filter((one) => one.adapters === adapters);
      for (const together of batchesOf(same, adapters)) await this.answer(together, adapters);
    }
  }

  /** Where sources are too much together, each is tried alone. */
  private async answer(together: readonly Asked[], adapters: AdapterCombination): Promise<void> {
    try {
      const sources = await this.encoder.encodeTogether(
        together.map(({ tokenIds }) => tokenIds),
        adapters,
      );
      for (const [index, source] of sources.entries()) together[index]?.resolve(source);
    } catch (error) {
      if (together.length === 1) together[0]?.reject(error);
      else for (const one of together) await this.answer([one], adapters);
    }
  }
}

/** Sources of like lengths, so that little is padding. */
function batchesOf(asked: readonly Asked[], { unitCount }: AdapterCombination): readonly (readonly Asked[])[] {
  // products of more ranks than a unit has are cut by the number of rows (graph/lora.ts)
  if (unitCount > 1) return asked.map((one) => [one]);
  const batches: Asked[][] = [];
  for (const one of [...asked].sort((a, b) => a.tokenIds.length - b.tokenIds.length)) {
    const last = batches.at(-1);
    const fits = last !== undefined && (last.length + 1) * one.tokenIds.length ** 2 <= MOST_PAIRS;
    if (fits) last.push(one);
    else batches.push([one]);
  }
  return batches;
}
