/** The adapters of one request, from its check to its answer. */

import type { WeightedAdapter } from '../lora/lora-weights.ts';
import type { AdapterEntry } from './adapter-entry.ts';
import type { AdapterResidency } from './adapter-residency.ts';
import type { AdapterLease, ServedAdapter } from './served-adapter.ts';

export interface ChosenAdapter {
  readonly entry: AdapterEntry;
  readonly weight: number;
}

export class RegistryLease implements AdapterLease {
  readonly adapters: readonly ServedAdapter[];
  private readonly entries: readonly AdapterEntry[];
  private readonly weighted: readonly WeightedAdapter[];
  private released = false;

  constructor(
    chosen: readonly ChosenAdapter[],
    private readonly residency: AdapterResidency,
  ) {
    this.entries = chosen.map(({ entry }) => entry);
    this.adapters = this.entries;
    this.weighted = chosen.map(({ entry, weight }) => ({ key: entry.id, weight }));
    for (const entry of this.entries) entry.addLease();
  }

  async use<T>(
    work: (weighted: readonly WeightedAdapter[]) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T | undefined> {
    if (this.entries.length === 0) return work([]);
    // without an await where all are in memory: the requests of one document reach the engine in one tick
    const hold = this.residency.tryHold(this.entries) ?? (await this.residency.hold(this.entries, signal));
    if (hold === undefined) return undefined;
    try {
      return await work(this.weighted);
    } finally {
      this.residency.release(hold);
    }
  }

  count(completionTokenCount: number): void {
    for (const entry of this.entries) {
      entry.requestCount++;
      entry.completionTokenCount += completionTokenCount;
    }
  }

  release(): void {
    if (this.released) return;
    this.released = true;
    for (const entry of this.entries) entry.endLease();
  }
}
