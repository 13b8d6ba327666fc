/** The serving thread's handle on one inference worker. */
import type { GenerateOptions, GenerationOutput, GenerationRequest } from './generation-request.ts';

export type EmbeddingLayer = 'input' | 'encoder';

/** What the text layer needs of an engine; `WorkerEngineClient` is the real one. */
export interface EngineClient {
  /**
   * Runs one request. Calls made in the same tick reach the worker in one message and meet in one batch.
   * Rejects with RuntimeError OVERLOADED (queue full, or stopping) or TIMEOUT (deadline passed).
   */
  generate(request: GenerationRequest, options?: GenerateOptions): Promise<GenerationOutput>;
  /** Returns one vector a token, [tokens][hiddenSize], for each list of ids. */
  embed(tokenIds: readonly (readonly number[])[], layer: EmbeddingLayer): Promise<readonly Float32Array[]>;
  /** Number of requests accepted and not yet answered. */
  readonly pendingCount: number;
  /** Whether a request would be taken on now: the worker lives and is not being closed. */
  readonly isServing: boolean;
  /** Refuses new requests, waits for running ones, ends the worker. */
  close(): Promise<void>;
}
