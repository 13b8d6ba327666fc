/** The serving thread's handle on the inference worker of one model. */
import type { AdapterHost, LoraWeights } from '../lora/lora-weights.ts';
import type { GenerateOptions, GenerationOutput, GenerationRequest } from './generation-request.ts';

export type EmbeddingLayer = 'input' | 'encoder';

/**
 * ready: requests are taken on. restarting: the worker ended by itself and another is being started. draining: what
 * runs is answered, nothing else. failed: the worker ended again and again, and no other is started.
 */
export type EngineStatus = 'ready' | 'restarting' | 'draining' | 'failed';

/** What one worker does for as long as it lives. */
export interface WorkerConnection {
  /**
   * Runs one request. Calls made in the same tick reach the worker in one message and meet in one batch.
   * Rejects with RuntimeError OVERLOADED (queue full, restarting, or stopping), TIMEOUT (deadline passed) or
   * MODEL_UNAVAILABLE (the worker ended meanwhile, or is given up).
   */
  generate(request: GenerationRequest, options?: GenerateOptions): Promise<GenerationOutput>;
  /** Returns one vector a token, [tokens][hiddenSize], for each list of ids. Rejects as `generate` does. */
  embed(tokenIds: readonly (readonly number[])[], layer: EmbeddingLayer): Promise<readonly Float32Array[]>;
  /** Makes later requests able to name `key`; its modules are among those that the worker was started for. */
  addAdapter(key: string, weights: LoraWeights): void;
  /** Forgets an adapter that no request names any more. */
  dropAdapter(key: string): void;
  /** Number of requests accepted and not yet answered. */
  readonly pendingCount: number;
  /** Refuses new requests, waits for running ones, ends the worker. */
  close(): Promise<void>;
}

/** What the text layer needs of an engine; `SupervisedEngine` is the real one. */
export interface EngineClient extends Omit<WorkerConnection, 'addAdapter'>, AdapterHost {
  readonly status: EngineStatus;
}
