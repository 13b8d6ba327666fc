/** What runs of the same adapters share, by last use within a number of bytes. */
import type { AdapterCombination } from './adapter-combination.ts';
import type { AdapterUnits } from './adapter-units.ts';

export class CombinationCache<Value extends { readonly byteLength: number }> {
  /** In order of last use. */
  private readonly kept = new Map<AdapterCombination, Value>();
  /** A run may still be under way when its request is cancelled and its adapter let go: that is not kept again. */
  private readonly forgotten = new WeakSet<AdapterUnits>();

  constructor(
    private readonly limitBytes: number,
    private readonly make: (combination: AdapterCombination) => Value,
  ) {}

  get byteLength(): number {
    let bytes = 0;
    for (const { byteLength } of this.kept.values()) bytes += byteLength;
    return bytes;
  }

  /** What belongs to `combination`, made where it is not kept. */
  of(combination: AdapterCombination): Value {
    const value = this.kept.get(combination) ?? this.make(combination);
    this.kept.delete(combination);
    if (!combination.parts.some(({ adapter }) => this.forgotten.has(adapter))) this.kept.set(combination, value);
    return value;
  }

  /** Lets go of an adapter for good: what replaces it is another object. */
  forget(adapter: AdapterUnits): void {
    this.forgotten.add(adapter);
    for (const combination of this.kept.keys()) if (combination.has(adapter)) this.kept.delete(combination);
  }

  /** Lets go of what was used longest ago until the rest fits; that of `needed` stays, whatever the limit. */
  evict(needed: ReadonlySet<AdapterCombination>): void {
    let bytes = this.byteLength;
    for (const [combination, { byteLength }] of this.kept) {
      if (bytes <= this.limitBytes) return;
      if (needed.has(combination)) continue;
      bytes -= byteLength;
      this.kept.delete(combination);
    }
  }
}
