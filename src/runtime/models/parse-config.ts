/** Reads config.json and generation_config.json, every field checked before anything is made to its measure. */
import { DEFAULT_MAX_NEW_TOKENS } from '../decoding/parse-sampling-params.ts';
import type { DecodingOptions, EarlyStopping } from '../decoding/sampling-params.ts';
import { RuntimeError } from '../errors.ts';
import type { GenerationDefaults, T5Config } from './model-config.ts';

type JsonObject = Readonly<Record<string, unknown>>;

const DEFAULT_MAX_INPUT_TOKENS = 512;
/** tokenizer_config.json writes a number like 10^30 where there is no limit. */
const LARGEST_SANE_LENGTH = 1_000_000;

function invalid(message: string): never {
  throw new RuntimeError('INVALID_MODEL', message);
}

/** A whole number of the object, or `fallback` where the key is absent. */
function count(json: JsonObject, key: string, high: number, fallback?: number, low = 1): number {
  const value = json[key] ?? fallback;
  if (Number.isInteger(value) && (value as number) >= low && (value as number) <= high) return value as number;
  return invalid(
    `config.json: expected ${key} to be a whole number from ${low} to ${high}, ${JSON.stringify(value)} came.`,
  );
}

function flag(json: JsonObject, key: string): boolean | undefined {
  const value = json[key] ?? undefined;
  if (value === undefined || typeof value === 'boolean') return value;
  return invalid(`config.json: expected ${key} to be true or false, ${JSON.stringify(value)} came.`);
}

const ACTIVATIONS: Readonly<Record<string, T5Config['activation']>> = {
  relu: 'relu',
  gelu_new: 'gelu-tanh',
  gelu: 'gelu',
  silu: 'silu',
};

/** `feed_forward_proj` is "relu", "gated-gelu", …; "gated-gelu" means the tanh form of GELU, as in transformers. */
function parseFeedForward(json: JsonObject): Pick<T5Config, 'activation' | 'gated'> {
  const projection = json.feed_forward_proj ?? 'relu';
  const match = typeof projection === 'string' ? /^(gated-)?(\w+)$/.exec(projection) : null;
  const name = projection === 'gated-gelu' ? 'gelu_new' : match?.[2];
  const activation = name === undefined ? undefined : ACTIVATIONS[name];
  if (activation !== undefined) return { activation, gated: match?.[1] !== undefined };
  return invalid(
    `config.json: expected feed_forward_proj to be one of ${Object.keys(ACTIVATIONS).join(', ')}, with or without "gated-"; ${JSON.stringify(projection)} came.`,
  );
}

function parseEos(json: JsonObject, vocabularySize: number): readonly number[] {
  const value = json.eos_token_id ?? 1;
  const ids: readonly unknown[] = Array.isArray(value) ? value : [value];
  return ids.map((id) => count({ eos_token_id: id }, 'eos_token_id', vocabularySize - 1, undefined, 0));
}

function parseMaxInputTokens(json: JsonObject, tokenizerConfig: JsonObject | undefined): number {
  if (json.n_positions !== undefined) return count(json, 'n_positions', LARGEST_SANE_LENGTH);
  const limit = tokenizerConfig?.model_max_length;
  const sane = Number.isInteger(limit) && Number(limit) > 0 && Number(limit) < LARGEST_SANE_LENGTH;
  return sane ? Number(limit) : DEFAULT_MAX_INPUT_TOKENS;
}

/** Throws RuntimeError INVALID_MODEL naming the key, what was expected and what came. */
export function parseT5Config(json: JsonObject, tokenizerConfig?: JsonObject): T5Config {
  if (json.model_type !== 't5') {
    return invalid(
      `config.json: expected model_type "t5", ${JSON.stringify(json.model_type)} came. T5 and FLAN-T5 are served.`,
    );
  }
  const vocabularySize = count(json, 'vocab_size', 1_000_000);
  const encoderLayerCount = count(json, 'num_layers', 256);
  const padTokenId = count(json, 'pad_token_id', vocabularySize - 1, 0, 0);
  const epsilon = json.layer_norm_epsilon ?? 1e-6;
  if (typeof epsilon !== 'number' || !(epsilon > 0 && epsilon < 1)) {
    return invalid(`config.json: expected layer_norm_epsilon between 0 and 1, ${JSON.stringify(epsilon)} came.`);
  }
  const architecture = Array.isArray(json.architectures) ? json.architectures[0] : undefined;
  return {
    family: 't5',
    architecture: typeof architecture === 'string' ? architecture : 'T5ForConditionalGeneration',
    vocabularySize,
    hiddenSize: count(json, 'd_model', 65_536),
    headSize: count(json, 'd_kv', 4096),
    headCount: count(json, 'num_heads', 1024),
    feedForwardSize: count(json, 'd_ff', 262_144),
    encoderLayerCount,
    decoderLayerCount: count(json, 'num_decoder_layers', 256, encoderLayerCount),
    relativeBucketCount: count(json, 'relative_attention_num_buckets', 4096, 32, 4),
    relativeMaxDistance: count(json, 'relative_attention_max_distance', 1_000_000, 128),
    layerNormEpsilon: epsilon,
    ...parseFeedForward(json),
    scaleDecoderOutput: flag(json, 'scale_decoder_outputs') ?? flag(json, 'tie_word_embeddings') ?? true,
    padTokenId,
    eosTokenIds: parseEos(json, vocabularySize),
    decoderStartTokenId: count(json, 'decoder_start_token_id', vocabularySize - 1, padTokenId, 0),
    maxInputTokens: parseMaxInputTokens(json, tokenizerConfig),
  };
}

const NUMBER_KEYS = {
  max_new_tokens: 'maxNewTokens',
  min_new_tokens: 'minNewTokens',
  temperature: 'temperature',
  top_k: 'topK',
  top_p: 'topP',
  min_p: 'minP',
  typical_p: 'typicalP',
  num_beams: 'numBeams',
  length_penalty: 'lengthPenalty',
  num_return_sequences: 'numReturnSequences',
  no_repeat_ngram_size: 'noRepeatNgramSize',
  repetition_penalty: 'repetitionPenalty',
} as const satisfies Record<string, keyof DecodingOptions>;

function parseEarlyStopping(value: unknown): EarlyStopping {
  if (value === true) return 'when-beams-finish';
  if (value === false) return 'heuristic';
  if (value === 'never') return 'never';
  return invalid(
    `generation_config.json: expected early_stopping true, false or "never", ${JSON.stringify(value)} came.`,
  );
}

/** The decoding defaults of generation_config.json; keys that decode nothing here are left aside. */
export function parseGenerationDefaults(json: JsonObject): GenerationDefaults {
  const defaults: Record<string, unknown> = { maxNewTokens: DEFAULT_MAX_NEW_TOKENS };
  for (const [key, option] of Object.entries(NUMBER_KEYS)) {
    const value = json[key] ?? undefined;
    if (value === undefined) continue;
    if (typeof value !== 'number' || !Number.isFinite(value) || (value < 0 && option !== 'lengthPenalty')) {
      return invalid(`generation_config.json: expected ${key} to be a number, ${JSON.stringify(value)} came.`);
    }
    defaults[option] = value;
  }
  if (typeof json.do_sample === 'boolean') defaults.doSample = json.do_sample;
  if ((json.early_stopping ?? undefined) !== undefined)
    defaults.earlyStopping = parseEarlyStopping(json.early_stopping);
  return defaults;
}
