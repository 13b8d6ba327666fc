/** Runs a model's graphs: what the engine needs of any family. Arrays in, arrays out; no requests, no policy. */

import type { RowNeeds, RowScores } from '../decoding/decoding-strategy.ts';
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

/** Numbers in a larger array, from `offset` on. */
export interface Numbers {
  readonly data: Float32Array;
  readonly offset: number;
}

/**
 * What a run of the decoder gave: one step, or several in a row for which it guessed what the strategies would choose.
 * They are asked all the same, step by step, and what came of a wrong guess is not used.
 */
export interface DecodedSteps {
  /** Undefined: the run did not come so far, or did not compute what is needed; of the first step it has all. */
  scores(step: number, row: number, needs: RowNeeds): RowScores | undefined;
  /** The row that continues `row` with this token in the step after; undefined: none does. `taken` are others' rows. */
  successor(step: number, row: number, tokenId: number, taken: ReadonlySet<number>): number | undefined;
  /** The keys, then values of the token that a row read, of each layer: [layers, 2, KV·dk]. */
  newCache(step: number, row: number): Numbers;
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
  /** Prompts whose next pieces it reads best together. */
  readonly promptsAtOnce: number;
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
  /** Steps that a run of the decoder over so many rows makes at most. */
  mostSteps(rowCount: number): number;
  startOf(promptTokenIds: readonly number[]): DecodingStart;
  /** Reads a prompt before its first step, piece by piece: cut alike whoever runs beside it. */
  prefill(tokenIds: readonly number[], adapters: AdapterCombination): Prefill;
  /** Decodes all rows of the plan, up to `plan.stepCount` steps. */
  decode(plan: StepPlan, caches: StepCaches): Promise<DecodedSteps>;
  /**
   * One vector a token: rows of the embedding table, or final states (of the encoder where there is one). `between` is
   * awaited between the pieces of a long text, so that others go on.
   */
  embed(tokenIds: readonly number[], layer: EmbeddingLayer, between?: () => Promise<void>): Promise<Float32Array>;
  dispose(): Promise<void>;
}
