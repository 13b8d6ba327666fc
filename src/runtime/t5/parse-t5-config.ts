/** Reads the config.json of a T5. */
import { quoted } from '../../storage/storage-error.ts';
import {
  ACTIVATIONS,
  architecture,
  count,
  eosTokenIds,
  epsilon,
  flag,
  invalidConfig,
  type JsonObject,
  LARGEST_SANE_LENGTH,
  LARGEST_VOCABULARY,
} from '../models/config-fields.ts';
import type { T5Config } from '../models/model-config.ts';

const DEFAULT_MAX_INPUT_TOKENS = 512;
const DEFAULT_CLASS = 'T5ForConditionalGeneration';

type SizeKey =
  | 'hiddenSize'
  | 'headSize'
  | 'headCount'
  | 'feedForwardSize'
  | 'encoderLayerCount'
  | 'decoderLayerCount'
  | 'relativeBucketCount'
  | 'relativeMaxDistance';

/** `feed_forward_proj` is "relu", "gated-gelu", …; "gated-gelu" means the tanh form of GELU, as in transformers. */
function parseFeedForward(json: JsonObject): Pick<T5Config, 'activation' | 'gated'> {
  const projection = json.feed_forward_proj ?? 'relu';
  const match = typeof projection === 'string' ? /^(gated-)?(\w+)$/.exec(projection) : null;
  const name = projection === 'gated-gelu' ? 'gelu_new' : match?.[2];
  const activation = name !== undefined && Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined;
  if (activation !== undefined) return { activation, gated: match?.[1] !== undefined };
  return invalidConfig(
    `expected feed_forward_proj to be one of ${Object.keys(ACTIVATIONS).join(', ')}, with or without "gated-"; ${quoted(projection)} came.`,
  );
}

function parseMaxInputTokens(json: JsonObject, tokenizerConfig: JsonObject): number {
  if ((json.n_positions ?? undefined) !== undefined) return count(json, 'n_positions', { high: LARGEST_SANE_LENGTH });
  const limit = tokenizerConfig.model_max_length;
  const sane = Number.isInteger(limit) && Number(limit) > 0 && Number(limit) < LARGEST_SANE_LENGTH;
  return sane ? Number(limit) : DEFAULT_MAX_INPUT_TOKENS;
}

function parseSizes(json: JsonObject): Pick<T5Config, SizeKey> {
  const encoderLayerCount = count(json, 'num_layers', { high: 256 });
  const relativeBucketCount = count(json, 'relative_attention_num_buckets', { high: 4096, fallback: 32, low: 4 });
  // half of the decoder's buckets hold one distance each; the logarithmic half begins behind them
  const leastDistance = Math.floor(relativeBucketCount / 2) + 1;
  return {
    hiddenSize: count(json, 'd_model', { high: 65_536 }),
    headSize: count(json, 'd_kv', { high: 4096 }),
    headCount: count(json, 'num_heads', { high: 1024 }),
    feedForwardSize: count(json, 'd_ff', { high: 262_144 }),
    encoderLayerCount,
    decoderLayerCount: count(json, 'num_decoder_layers', { high: 256, fallback: encoderLayerCount }),
    relativeBucketCount,
    relativeMaxDistance: count(json, 'relative_attention_max_distance', {
      high: 1_000_000,
      fallback: 128,
      low: leastDistance,
    }),
  };
}

/** `json`: with the special tokens of generation_config.json in it. */
export function parseT5Config(json: JsonObject, tokenizerConfig: JsonObject): T5Config {
  const vocabularySize = count(json, 'vocab_size', { high: LARGEST_VOCABULARY });
  const token = (key: string, fallback: number): number =>
    count(json, key, { high: vocabularySize - 1, fallback, low: 0 });
  const padTokenId = token('pad_token_id', 0);
  return {
    family: 't5',
    architecture: architecture(json, DEFAULT_CLASS),
    vocabularySize,
    ...parseSizes(json),
    layerNormEpsilon: epsilon(json, 'layer_norm_epsilon', 1e-6),
    ...parseFeedForward(json),
    scaleDecoderOutput: flag(json, 'scale_decoder_outputs') ?? flag(json, 'tie_word_embeddings') ?? true,
    padTokenId,
    eosTokenIds: eosTokenIds(json, vocabularySize, 1),
    decoderStartTokenId: token('decoder_start_token_id', padTokenId),
    maxInputTokens: parseMaxInputTokens(json, tokenizerConfig),
  };
}
