/** Text in, text out: tokenizes, applies the overflow policy, runs the engine, decodes. */
import type { AdapterChoice, ServedAdapter } from './adapters/served-adapter.ts';
import type { DecodingOptions } from './decoding/sampling-params.ts';
import type { FinishReason } from './decoding/stopping-criteria.ts';
import type { GenerationTiming, RequestPriority } from './engine/generation-request.ts';
import type { ServedModel } from './models/served-model.ts';

export type OverflowPolicy = 'error' | 'truncate';

export interface TextRequest {
  readonly prompt: string;
  readonly modelId?: string | null;
  /** Default: the model's active adapter. An empty list: none. Else their weighted sum. */
  readonly adapters?: readonly AdapterChoice[] | null;
  readonly decoding?: DecodingOptions | null;
  readonly onOverflow: OverflowPolicy;
  /** As in EncodeOptions. */
  readonly addSpecialTokens?: boolean;
  /** Whether `logprob` and `score` will be read; they may be NaN where not. Default: true. */
  readonly logprobs?: boolean;
}

interface TextToken {
  readonly id: number;
  readonly text: string;
  readonly logprob: number;
}

export interface TextSequence {
  readonly index: number;
  readonly text: string;
  readonly tokenIds: readonly number[];
  readonly score: number;
  readonly finishReason: FinishReason;
  readonly tokens: readonly (TextToken & { readonly alternatives: readonly TextToken[] })[];
}

export interface TextGeneration {
  readonly id: string;
  readonly model: ServedModel;
  readonly adapters: readonly ServedAdapter[];
  /** The prompt as the model read it (after truncation). */
  readonly prompt: string;
  readonly promptTokenIds: readonly number[];
  readonly truncated: boolean;
  readonly sequences: readonly TextSequence[];
  readonly usage: { readonly promptTokens: number; readonly completionTokens: number; readonly totalTokens: number };
  readonly timing: GenerationTiming & { readonly tokensPerSecond: number };
  /** The seed that sampling used; null when nothing was drawn. */
  readonly seed: number | null;
}

export type TextGenerationEvent =
  | {
      readonly type: 'tokens';
      readonly generationId: string;
      readonly sequenceIndex: number;
      readonly text: string;
      readonly tokenIds: readonly number[];
    }
  | { readonly type: 'finished'; readonly generationId: string; readonly generation: TextGeneration };

export interface CallOptions {
  readonly signal?: AbortSignal;
  /** Default: interactive. */
  readonly priority?: RequestPriority;
}

/**
 * A request that was looked up, checked and tokenized. Its adapters cannot be unloaded meanwhile: it must be run, or
 * discarded, once.
 */
export interface Prepared<Result> {
  /** Hands it to its engine in the same tick when its adapters are in memory, else as soon as they are. */
  run(options?: CallOptions): Promise<Result>;
  discard(): void;
}

export interface TextGenerator {
  /** What can be refused without running is refused here; errors as in `generate`. */
  prepare(request: TextRequest): Promise<Prepared<TextGeneration>>;
  /** Rejects with the RuntimeErrors of the engine, BAD_USER_INPUT, UNSUPPORTED_ARGUMENT, INPUT_TOO_LONG, NOT_FOUND. */
  generate(request: TextRequest, options?: CallOptions): Promise<TextGeneration>;
  /** Deltas, then one `finished`; errors as in `generate`. Ending the iteration early cancels the request. */
  stream(request: TextRequest, options?: CallOptions): AsyncIterable<TextGenerationEvent>;
}
