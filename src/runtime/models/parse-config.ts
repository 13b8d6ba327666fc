/** Reads config.json, every field checked before anything is made to its measure. */
import { quoted } from '../../storage/storage-error.ts';
import { RuntimeError } from '../errors.ts';
import type { T5Config } from './model-config.ts';

type JsonObject = Readonly<Record<string, unknown>>;

const DEFAULT_MAX_INPUT_TOKENS = 512;
/** tokenizer_config.json writes a number like 10^30 where there is no limit. */
const LARGEST_SANE_LENGTH = 1_000_000;
const MAX_EOS_TOKENS = 64;
const DEFAULT_CLASS = 'T5ForConditionalGeneration';
const CLASS_NAME = /^\w{1,100}$/;

type SizeKey =
  | 'hiddenSize'
  | 'headSize'
  | 'headCount'
  | 'feedForwardSize'
  | 'encoderLayerCount'
  | 'decoderLayerCount'
  | 'relativeBucketCount'
  | 'relativeMaxDistance';

function invalid(message: string): never {
  throw new RuntimeError('INVALID_MODEL', message);
}

/** A whole number of the object, or `fallback` where the key is absent. */
function count(json: JsonObject, key: string, high: number, fallback?: number, low = 1): number {
  const value = json[key] ?? fallback;
  if (Number.isInteger(value) && (value as number) >= low && (value as number) <= high) return value as number;
  return invalid(`config.json: expected ${key} to be a whole number from ${low} to ${high}, ${quoted(value)} came.`);
}

function flag(json: JsonObject, key: string): boolean | undefined {
  const value = json[key] ?? undefined;
  if (value === undefined || typeof value === 'boolean') return value;
  return invalid(`config.json: expected ${key} to be true or false, ${quoted(value)} came.`);
}

/** transformers' names of the activations; several of them are one function. */
const ACTIVATIONS: Readonly<Record<string, T5Config['activation']>> = {
  relu: 'relu',
  gelu_new: 'gelu-tanh',
  gelu_pytorch_tanh: 'gelu-tanh',
  gelu: 'gelu',
  silu: 'silu',
  swish: 'silu',
};

/** `feed_forward_proj` is "relu", "gated-gelu", …; "gated-gelu" means the tanh form of GELU, as in transformers. */
function parseFeedForward(json: JsonObject): Pick<T5Config, 'activation' | 'gated'> {
  const projection = json.feed_forward_proj ?? 'relu';
  const match = typeof projection === 'string' ? /^(gated-)?(\w+)$/.exec(projection) : null;
  const name = projection === 'gated-gelu' ? 'gelu_new' : match?.[2];
  const activation = name !== undefined && Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined;
  if (activation !== undefined) return { activation, gated: match?.[1] !== undefined };
  return invalid(
    `config.json: expected feed_forward_proj to be one of ${Object.keys(ACTIVATIONS).join(', ')}, with or without "gated-"; ${quoted(projection)} came.`,
  );
}

function parseEos(json: JsonObject, vocabularySize: number): readonly number[] {
  const value = json.eos_token_id ?? 1;
  const ids: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (ids.length === 0 || ids.length > MAX_EOS_TOKENS) {
    return invalid(`config.json: expected 1 to ${MAX_EOS_TOKENS} numbers as eos_token_id, ${ids.length} came.`);
  }
  return ids.map((id) => count({ eos_token_id: id }, 'eos_token_id', vocabularySize - 1, undefined, 0));
}

function parseMaxInputTokens(json: JsonObject, tokenizerConfig: JsonObject): number {
  if ((json.n_positions ?? undefined) !== undefined) return count(json, 'n_positions', LARGEST_SANE_LENGTH);
  const limit = tokenizerConfig.model_max_length;
  const sane = Number.isInteger(limit) && Number(limit) > 0 && Number(limit) < LARGEST_SANE_LENGTH;
  return sane ? Number(limit) : DEFAULT_MAX_INPUT_TOKENS;
}

function parseSizes(json: JsonObject): Pick<T5Config, SizeKey> {
  const encoderLayerCount = count(json, 'num_layers', 256);
  const relativeBucketCount = count(json, 'relative_attention_num_buckets', 4096, 32, 4);
  // half of the decoder's buckets hold one distance each; the logarithmic half begins behind them
  const leastDistance = Math.floor(relativeBucketCount / 2) + 1;
  return {
    hiddenSize: count(json, 'd_model', 65_536),
    headSize: count(json, 'd_kv', 4096),
    headCount: count(json, 'num_heads', 1024),
    feedForwardSize: count(json, 'd_ff', 262_144),
    encoderLayerCount,
    decoderLayerCount: count(json, 'num_decoder_layers', 256, encoderLayerCount),
    relativeBucketCount,
    relativeMaxDistance: count(json, 'relative_attention_max_distance', 1_000_000, 128, leastDistance),
  };
}

export interface OtherConfigs {
  /** tokenizer_config.json. */
  readonly tokenizer?: JsonObject | undefined;
  /** generation_config.json: its special tokens outrank those of config.json, as transformers has it. */
  readonly generation?: JsonObject | undefined;
}

/** Throws RuntimeError INVALID_MODEL naming the key, what was expected and what came. */
export function parseT5Config(json: JsonObject, { tokenizer = {}, generation = {} }: OtherConfigs = {}): T5Config {
  if (json.model_type !== 't5') {
    return invalid(
      `config.json: expected model_type "t5", ${quoted(json.model_type)} came. T5 and FLAN-T5 are served.`,
    );
  }
  const vocabularySize = count(json, 'vocab_size', 1_000_000);
  const token = (key: string, fallback: number): number =>
    count({ [key]: generation[key] ?? json[key] }, key, vocabularySize - 1, fallback, 0);
  const padTokenId = token('pad_token_id', 0);
  const epsilon = json.layer_norm_epsilon ?? 1e-6;
  if (typeof epsilon !== 'number' || !(epsilon > 0 && epsilon < 1)) {
    return invalid(`config.json: expected layer_norm_epsilon between 0 and 1, ${quoted(epsilon)} came.`);
  }
  const architecture = Array.isArray(json.architectures) ? json.architectures[0] : undefined;
  return {
    family: 't5',
    architecture: typeof architecture === 'string' && CLASS_NAME.test(architecture) ? architecture : DEFAULT_CLASS,
    vocabularySize,
    ...parseSizes(json),
    layerNormEpsilon: epsilon,
    ...parseFeedForward(json),
    scaleDecoderOutput: flag(json, 'scale_decoder_outputs') ?? flag(json, 'tie_word_embeddings') ?? true,
    padTokenId,
    eosTokenIds: parseEos({ eos_token_id: generation.eos_token_id ?? json.eos_token_id }, vocabularySize),
    decoderStartTokenId: token('decoder_start_token_id', padTokenId),
    maxInputTokens: parseMaxInputTokens(json, tokenizer),
  };
}
