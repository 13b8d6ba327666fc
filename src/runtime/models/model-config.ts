/** What a model's own files say about it, in one checked form. */
import type { DecodingOptions } from '../decoding/sampling-params.ts';

/** A T5 of any size: v1.0 (relu, tied head) or v1.1/FLAN (gated GELU). Names on the right are those of config.json. */
export interface T5Config {
  readonly family: 't5';
  /** `architectures[0]`. */
  readonly architecture: string;
  /** `vocab_size`: rows of the embedding table. */
  readonly vocabularySize: number;
  /** `d_model`. */
  readonly hiddenSize: number;
  /** `d_kv`: size of one attention head; times `headCount` it need not be `hiddenSize`. */
  readonly headSize: number;
  /** `num_heads`. */
  readonly headCount: number;
  /** `d_ff`. */
  readonly feedForwardSize: number;
  /** `num_layers`. */
  readonly encoderLayerCount: number;
  /** `num_decoder_layers`, else `num_layers`. */
  readonly decoderLayerCount: number;
  /** `relative_attention_num_buckets`. */
  readonly relativeBucketCount: number;
  /** `relative_attention_max_distance`. */
  readonly relativeMaxDistance: number;
  /** `layer_norm_epsilon`. */
  readonly layerNormEpsilon: number;
  readonly activation: 'relu' | 'gelu-tanh' | 'gelu' | 'silu';
  /** Whether the feed-forward has two input matrices (wi_0, wi_1) or one (wi). */
  readonly gated: boolean;
  /** Whether the decoder's output is multiplied by hiddenSize^-0.5 before the head. */
  readonly scaleDecoderOutput: boolean;
  readonly padTokenId: number;
  readonly eosTokenIds: readonly number[];
  readonly decoderStartTokenId: number;
  /** Longest source in tokens: `n_positions`, else tokenizer_config's `model_max_length`, else 512. */
  readonly maxInputTokens: number;
}

export type ModelConfig = T5Config;

/** The settings of a model's generation_config.json that stand where a request says nothing. */
export type GenerationDefaults = DecodingOptions;
