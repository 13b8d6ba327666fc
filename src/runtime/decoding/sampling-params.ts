/** The decoding settings of one request, in the names of Hugging Face generation. */

export type EarlyStopping = 'heuristic' | 'when-beams-finish' | 'never';

/** What a client may ask for; absent or null means: not asked for. */
export interface DecodingOptions {
  readonly maxNewTokens?: number | null;
  readonly minNewTokens?: number | null;
  readonly doSample?: boolean | null;
  readonly temperature?: number | null;
  readonly topK?: number | null;
  readonly topP?: number | null;
  readonly minP?: number | null;
  readonly typicalP?: number | null;
  readonly numBeams?: number | null;
  readonly lengthPenalty?: number | null;
  readonly earlyStopping?: EarlyStopping | null;
  readonly numReturnSequences?: number | null;
  readonly noRepeatNgramSize?: number | null;
  readonly repetitionPenalty?: number | null;
  readonly seed?: number | null;
  readonly stop?: readonly string[] | null;
  readonly badWords?: readonly string[] | null;
  readonly topLogprobs?: number | null;
}

/** Complete, checked settings: what the engine and the strategies read. */
export interface SamplingParams {
  readonly maxNewTokens: number;
  readonly minNewTokens: number;
  readonly doSample: boolean;
  readonly temperature: number;
  /** 0: off. */
  readonly topK: number;
  /** 1: off. */
  readonly topP: number;
  /** 0: off. */
  readonly minP: number;
  /** 1: off. */
  readonly typicalP: number;
  readonly numBeams: number;
  readonly lengthPenalty: number;
  readonly earlyStopping: EarlyStopping;
  readonly numReturnSequences: number;
  /** 0: off. */
  readonly noRepeatNgramSize: number;
  /** 1: off. */
  readonly repetitionPenalty: number;
  /** Always set: drawn by the caller when the client gave none. */
  readonly seed: number;
  readonly stop: readonly string[];
  /** Each bad word as the token ids it means; never empty lists. */
  readonly badWordsIds: readonly (readonly number[])[];
  readonly topLogprobs: number;
  /** Whether log-probabilities and scores will be read; the tokens are the same either way, and sooner made without. */
  readonly logprobs: boolean;
}
