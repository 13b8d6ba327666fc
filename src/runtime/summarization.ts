/** Summaries: builds the prompt from a template and shots, cuts the dialogue where it is too long, generates. */
import type { AdapterChoice } from './adapters/served-adapter.ts';
import type { DecodingOptions } from './decoding/sampling-params.ts';
import type { CallOptions, OverflowPolicy, Prepared, TextGeneration, TextGenerationEvent } from './text-generation.ts';

export interface PromptTemplate {
  readonly id: string;
  readonly name: string;
  /** `{dialogue}` and `{summary}` are its holes; the model reads up to `{summary}`. */
  readonly text: string;
}

export interface Shot {
  readonly dialogue: string;
  readonly summary: string;
}

export interface PromptRequest {
  readonly dialogue: string;
  readonly templateId?: string | null;
  readonly shots?: readonly Shot[] | null;
  readonly modelId?: string | null;
}

export interface Prompt {
  readonly text: string;
  readonly tokenCount: number;
  readonly shotCount: number;
  readonly template: PromptTemplate;
}

export interface SummaryRequest {
  readonly text: string;
  readonly modelId?: string | null;
  /** As in TextRequest. */
  readonly adapters?: readonly AdapterChoice[] | null;
  readonly templateId?: string | null;
  readonly shots?: readonly Shot[] | null;
  readonly decoding?: DecodingOptions | null;
  readonly onOverflow: OverflowPolicy;
  /** As in TextRequest. */
  readonly logprobs?: boolean;
}

export interface Summary {
  readonly id: string;
  /** Exactly the text of the first sequence, not trimmed: the deltas of a stream join to it. */
  readonly text: string;
  /** The texts of the other returned sequences. */
  readonly alternatives: readonly string[];
  readonly truncated: boolean;
  readonly generation: TextGeneration;
}

export interface Summarizer {
  readonly templates: readonly PromptTemplate[];
  buildPrompt(request: PromptRequest): Promise<Prompt>;
  prepare(request: SummaryRequest): Promise<Prepared<Summary>>;
  summarize(request: SummaryRequest, options?: CallOptions): Promise<Summary>;
  stream(request: SummaryRequest, options?: CallOptions): AsyncIterable<TextGenerationEvent>;
}
