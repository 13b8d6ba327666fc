/** The adapters that an inference worker knows, and what requests make of them. */
import { RuntimeError } from '../errors.ts';
import { AdapterCombination, type CombinedAdapter } from './adapter-combination.ts';
import { bytesOf, type LoraWeights, type WeightedAdapter } from './lora-weights.ts';
import { noteSharedMemory } from './shared-memory.ts';

/** Combinations that are kept for the next request that names the same. */
const KEPT_COMBINATIONS = 64;

export class WorkerAdapters {
  private readonly weights = new Map<string, LoraWeights>();
  /** In order of last use. A combination stands for one state of its adapters: it is forgotten with any of them. */
  private readonly combinations = new Map<string, AdapterCombination>();

  add(key: string, weights: LoraWeights): void {
    this.drop(key);
    this.weights.set(key, weights);
    noteSharedMemory(bytesOf(weights));
  }

  drop(key: string): void {
    this.weights.delete(key);
    for (const [name, combination] of this.combinations) if (combination.has(key)) this.combinations.delete(name);
  }

  /** Returns one object for equal choices. Throws CONFLICT for an adapter that has been dropped. */
  combine(adapters: readonly WeightedAdapter[]): AdapterCombination {
    if (adapters.length === 0) return AdapterCombination.none;
    const name = JSON.stringify(adapters.map(({ key, weight }) => [key, weight]));
    const combination =
      this.combinations.get(name) ?? new AdapterCombination(adapters.map((adapter) => this.lookUp(adapter)));
    this.combinations.delete(name);
    this.combinations.set(name, combination);
    const [oldest] = this.combinations.keys();
    if (this.combinations.size > KEPT_COMBINATIONS && oldest !== undefined) this.combinations.delete(oldest);
    return combination;
  }

  private lookUp({ key, weight }: WeightedAdapter): CombinedAdapter {
    const weights = this.weights.get(key);
    if (weights !== undefined) return { key, weight, weights };
    throw new RuntimeError('CONFLICT', `Expected adapter ${key} to be in memory, it has been unloaded. Load it again.`);
  }
}
