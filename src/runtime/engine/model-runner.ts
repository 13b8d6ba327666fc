/** Runs a model's graphs: what the engine needs of any family. Arrays in, arrays out; no requests, no policy. */

import type { RowScores } from '../decoding/decoding-strategy.ts';
import type { AdapterCombination } from '../lora/adapter-combination.ts';
import type { LoraWeights, WeightedAdapter } from '../lora/lora-weights.ts';
import type { KvCache, SourceCache } from './kv-cache.ts';
import type { StepPlan } from './step-plan.ts';

export interface EncodedSource {
  readonly source: SourceCache;
  /** Final states [tokens, hiddenSize] without padding; present when asked for. */
  readonly states: Float32Array | undefined;
}

export interface StepScores {
  /** By row of the plan. */
  readonly scores: readonly RowScores[];
  /** New keys and values, [rows, `newCacheStride`]. */
  readonly newCache: Float32Array;
  readonly newCacheStride: number;
}

/** no room: nothing was done; it takes memory that those that run have. */
export type Preparation = 'ready' | 'more to do' | 'no room';

export interface ModelRunner {
  readonly decoderStartTokenId: number;
  readonly eosTokenIds: readonly number[];
  readonly vocabularySize: number;
  createCache(): KvCache;
  /** Keeps an adapter; its modules are among those that the runner was loaded for. */
  addAdapter(key: string, weights: LoraWeights): void;
  /** Lets go of an adapter that no request uses any more. */
  dropAdapter(key: string): void;
  /** Returns the adapters of a request as one. Throws RuntimeError CONFLICT for one that is not kept. */
  combine(adapters: readonly WeightedAdapter[]): AdapterCombination;
  /**
   * Does one piece, a few milliseconds long, of what requests of `adapters` need before they run beside those of
   * `running`. Requests may run without it: then the step that first needs it does all.
   */
  prepare(adapters: AdapterCombination, running: readonly AdapterCombination[]): Preparation;
  /** Runs the encoder over one source and makes its keys and values for every decoder layer. */
  encode(tokenIds: readonly number[], adapters: AdapterCombination): Promise<EncodedSource>;
  /** Runs one decode step of all rows of the plan. */
  decode(plan: StepPlan, caches: { readonly singles: KvCache; readonly groups: KvCache }): Promise<StepScores>;
  /** One vector a token: rows of the embedding table, or final encoder states. */
  embed(tokenIds: readonly number[], layer: 'input' | 'encoder'): Promise<Float32Array>;
  dispose(): Promise<void>;
}
