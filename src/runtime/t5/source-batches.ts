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

/** Sources of a run: as many fit the memory of a device, attention's scores included, whatever their length. */
export const SOURCES_AT_ONCE = 64;

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
      // products of more ranks than a unit has are cut by the number of rows (graph/lora.ts)
      const runs = adapters.unitCount > 1 ? same.map((one) => [one]) : [same];
      for (const together of runs) await this.answer(together, adapters);
    }
  }

  private async answer(together: readonly Asked[], adapters: AdapterCombination): Promise<void> {
    try {
      const sources = await this.encoder.encodeTogether(
        together.map(({ tokenIds }) => tokenIds),
        adapters,
      );
      for (const [index, source] of sources.entries()) together[index]?.resolve(source);
    } catch (error) {
      for (const { reject } of together) reject(error);
    }
  }
}
