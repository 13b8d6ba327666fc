/** What a model's own files say about it, in one checked form. */
import type { DecodingOptions } from '../decoding/sampling-params.ts';
import type { Activation } from '../graph/layers.ts';

interface CommonConfig {
  /** `architectures[0]`. */
  readonly architecture: string;
  /** `vocab_size`: rows of the embedding table. */
  readonly vocabularySize: number;
  /** `d_model`, `n_embd`, `hidden_size`. */
  readonly hiddenSize: number;
  /** `num_heads`, `n_head`, `num_attention_heads`. */
  readonly headCount: number;
  /** `d_kv`, `head_dim`: size of one attention head; times `headCount` it need not be `hiddenSize`. */
  readonly headSize: number;
  /** `d_ff`, `n_inner`, `intermediate_size`. */
  readonly feedForwardSize: number;
  readonly activation: Activation;
  readonly eosTokenIds: readonly number[];
  /** Longest source or prompt in tokens. */
  readonly maxInputTokens: number;
}

/** A T5 of any size: v1.0 (relu, tied head) or v1.1/FLAN (gated GELU). Names on the right are those of config.json. */
export interface T5Config extends CommonConfig {
  readonly family: 't5';
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
  /** Whether the feed-forward has two input matrices (wi_0, wi_1) or one (wi). */
  readonly gated: boolean;
  /** Whether the decoder's output is multiplied by hiddenSize^-0.5 before the head. */
  readonly scaleDecoderOutput: boolean;
  readonly padTokenId: number;
  readonly decoderStartTokenId: number;
}

interface DecoderOnlyCommon extends CommonConfig {
  /** `num_key_value_heads`: each serves headCount / keyValueHeadCount heads of queries. */
  readonly keyValueHeadCount: number;
  /** `n_layer`, `num_hidden_layers`. */
  readonly layerCount: number;
  /** `layer_norm_epsilon`, `rms_norm_eps`. */
  readonly normEpsilon: number;
  /** `tie_word_embeddings`: whether the head is the embedding table. */
  readonly tiedHead: boolean;
  /** `n_positions`, `max_position_embeddings`: prompt and new tokens together. */
  readonly contextLength: number;
}

/** GPT-2: learned positions, layer norms with a bias, one matrix for queries, keys and values. */
export interface Gpt2Config extends DecoderOnlyCommon {
  readonly family: 'gpt2';
}

/** How rotary frequencies are changed for longer texts, as transformers does it. */
export type RotaryScaling =
  | { readonly type: 'none' }
  | { readonly type: 'linear'; readonly factor: number }
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      /** Positions that the model was first trained on. */
      readonly originalContextLength: number;
    }
  /** What each frequency is divided by, headSize / 2 of them: as GGUF files say it. */
  | { readonly type: 'factors'; readonly factors: readonly number[] };

/** Llama and what is built like it: rotary positions, RMS norms, a gated feed-forward, grouped heads. */
export interface LlamaConfig extends DecoderOnlyCommon {
  readonly family: 'llama';
  readonly rotary: { readonly theta: number; readonly scaling: RotaryScaling };
  /** Which matrices have a bias: `attention_bias`, `mlp_bias`; Qwen2 has it for queries, keys and values. */
  readonly biases: { readonly inputs: boolean; readonly output: boolean; readonly feedForward: boolean };
}

export type DecoderOnlyConfig = Gpt2Config | LlamaConfig;

export type ModelConfig = T5Config | DecoderOnlyConfig;

/** The settings of a model's generation_config.json that stand where a request says nothing. */
export type GenerationDefaults = DecodingOptions;
