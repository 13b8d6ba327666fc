/** What the serving thread asks of an inference worker and what it gets back: token ids only, no text. */

import type { GeneratedSequence, TokensAppended } from '../decoding/decoding-strategy.ts';
import type { SamplingParams } from '../decoding/sampling-params.ts';
import type { WeightedAdapter } from '../lora/lora-weights.ts';

/** background: it gives its rows to interactive requests whenever they have too few. */
export type RequestPriority = 'interactive' | 'background';

export interface GenerationRequest {
  readonly id: string;
  /** Encoder-decoder: the source, end token included. */
  readonly promptTokenIds: readonly number[];
  readonly params: SamplingParams;
  /** Their weighted sum is added to the model; none: the model as it is. */
  readonly adapters: readonly WeightedAdapter[];
  /** Whether `TokensAppended` events are wanted while it runs. */
  readonly stream: boolean;
  /** Default: interactive. */
  readonly priority?: RequestPriority;
}

/** Milliseconds, measured in the worker with a monotonic clock. */
export interface GenerationTiming {
  readonly queuedMs: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
  readonly totalMs: number;
  readonly timeToFirstTokenMs: number;
}

export interface GenerationOutput {
  readonly sequences: readonly GeneratedSequence[];
  readonly timing: GenerationTiming;
}

export interface GenerateOptions {
  /** Aborting frees the request's rows at the next step; the output then has finish reason `cancelled`. */
  readonly signal?: AbortSignal;
  /** Called on the serving thread as tokens become certain; only when `GenerationRequest.stream`. */
  readonly onTokens?: (event: TokensAppended) => void;
}
