/** Runs a model's graphs: what the engine needs of any family. Arrays in, arrays out; no requests, no policy. */

import type { RowScores } from '../decoding/decoding-strategy.ts';
import type { AdapterCombination } from '../lora/adapter-combination.ts';
import type { LoraWeights, WeightedAdapter } from '../lora/lora-weights.ts';
import type { EmbeddingLayer } from './engine-client.ts';
import type { KvCache, SourceCache } from './kv-cache.ts';
import type { StepPlan } from './step-plan.ts';

/** A prompt, or an encoder's source, on its way into the cache. */
export interface Prefill {
  /** Tokens that the next call of `advance` reads. */
  readonly nextTokenCount: number;
  /** Reads them; resolves to the keys and values of the whole when they are the last. */
  advance(): Promise<SourceCache | undefined>;
}

/** How decoding begins. */
export interface DecodingStart {
  /** What every row reads first. */
  readonly tokenId: number;
  /** The tokens before the first new one, as processors see them: the prompt, or a decoder's start token. */
  readonly history: readonly number[];
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

export interface StepCaches {
  readonly singles: KvCache;
  readonly groups: KvCache;
}

export interface ModelRunner {
  readonly eosTokenIds: readonly number[];
  readonly vocabularySize: number;
  /** Bytes of the copies of adapters that are kept; address space that nothing was written to included. */
  readonly adapterBytes: number;
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
  startOf(promptTokenIds: readonly number[]): DecodingStart;
  /** Reads a prompt before its first step, piece by piece: cut alike whoever runs beside it. */
  prefill(tokenIds: readonly number[], adapters: AdapterCombination): Prefill;
  /** Runs one decode step of all rows of the plan. */
  decode(plan: StepPlan, caches: StepCaches): Promise<StepScores>;
  /**
   * One vector a token: rows of the embedding table, or final states (of the encoder where there is one). `between` is
   * awaited between the pieces of a long text, so that others go on.
   */
  embed(tokenIds: readonly number[], layer: EmbeddingLayer, between?: () => Promise<void>): Promise<Float32Array>;
  dispose(): Promise<void>;
}
