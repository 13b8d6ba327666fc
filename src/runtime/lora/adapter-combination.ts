/** The adapters of one request as one: their weighted sum, W x + Σ weight · (what the adapter adds to W x). */
import { AdapterUnits } from './adapter-units.ts';

interface WeightedUnits {
  readonly weight: number;
  readonly adapter: AdapterUnits;
}

export class AdapterCombination {
  /** No adapters: the model as it is. */
  static readonly none = new AdapterCombination([{ weight: 1, adapter: AdapterUnits.none }]);

  /** Units of all its adapters. */
  readonly unitCount: number;

  /** `parts`: one at least. */
  constructor(readonly parts: readonly WeightedUnits[]) {
    this.unitCount = parts.reduce((sum, { adapter }) => sum + adapter.unitCount, 0);
  }

  has(adapter: AdapterUnits): boolean {
    return this.parts.some((part) => part.adapter === adapter);
  }

  adapts(module: string): boolean {
    return this.parts.some(({ adapter }) => adapter.adapts(module));
  }

  /** Whether one of them brings an output head of its own. */
  get replacesHead(): boolean {
    return this.parts.some(({ adapter }) => adapter.head !== undefined);
  }

  /** Writes by how much the rows of a module's own matrix count: 1 + Σ weight · change. */
  writeGain(module: string, gain: Float32Array): void {
    gain.fill(1);
    for (const { weight, adapter } of this.parts) {
      const change = adapter.gainChange(module);
      if (change === undefined) continue;
      for (let out = 0; out < gain.length; out++) gain[out] = (gain[out] as number) + weight * (change[out] as number);
    }
  }
}
