/** The adapters that an inference worker knows, and what requests make of them. */
import { RuntimeError } from '../errors.ts';
import { AdapterCombination } from './adapter-combination.ts';
import { AdapterUnits } from './adapter-units.ts';
import { bytesOf, type LoraWeights, type WeightedAdapter } from './lora-weights.ts';
import { noteSharedMemory } from './shared-memory.ts';

/** Combinations that are kept for the next request that names the same. */
const KEPT_COMBINATIONS = 64;

export class WorkerAdapters {
  private readonly adapters = new Map<string, AdapterUnits>();
  /** In order of last use. A combination stands for one state of its adapters: it is forgotten with any of them. */
  private readonly combinations = new Map<string, AdapterCombination>();

  add(key: string, weights: LoraWeights): void {
    this.drop(key);
    this.adapters.set(key, new AdapterUnits(weights));
    noteSharedMemory(bytesOf(weights));
  }

  /** Returns what was dropped. */
  drop(key: string): AdapterUnits | undefined {
    const adapter = this.adapters.get(key);
    if (adapter === undefined) return undefined;
    this.adapters.delete(key);
    for (const [name, combination] of this.combinations) if (combination.has(adapter)) this.combinations.delete(name);
    return adapter;
  }

  /** Returns one object for equal choices. Throws CONFLICT for an adapter that has been dropped. */
  combine(adapters: readonly WeightedAdapter[]): AdapterCombination {
    if (adapters.length === 0) return AdapterCombination.none;
    const name = JSON.stringify(adapters.map(({ key, weight }) => [key, weight]));
    const combination =
      this.combinations.get(name) ??
      new AdapterCombination(adapters.map(({ key, weight }) => ({ weight, adapter: this.lookUp(key) })));
    this.combinations.delete(name);
    this.combinations.set(name, combination);
    const [oldest] = this.combinations.keys();
    if (this.combinations.size > KEPT_COMBINATIONS && oldest !== undefined) this.combinations.delete(oldest);
    return combination;
  }

  private lookUp(key: string): AdapterUnits {
    const adapter = this.adapters.get(key);
    if (adapter !== undefined) return adapter;
    throw new RuntimeError('CONFLICT', `Expected adapter ${key} to be in memory, it has been unloaded. Load it again.`);
  }
}
