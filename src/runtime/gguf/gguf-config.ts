/**
 * What config.json says of a model, from the metadata of its GGUF file. Keys: https://github.com/ggml-org/ggml, docs/gguf.md,
 * and llama.cpp's src/llama-model.cpp. Whatever would make other numbers than Hugging Face's model has is refused.
 */
import { quoted } from '../../storage/storage-error.ts';
import type { GgufFields } from './gguf-fields.ts';

const CLASSES = { llama: 'LlamaForCausalLM', qwen2: 'Qwen2ForCausalLM' } as const;
export type GgufArchitecture = keyof typeof CLASSES;

const ARCHITECTURE_KEY = 'general.architecture';
/** Bounds that keep products exact; what a model may have is checked where its config is read. */
const LARGEST = 2 ** 31 - 1;
/** Of a uint32: what -1 becomes. */
const LARGEST_ID = 2 ** 32 - 1;
const DEFAULT_THETA = 10_000;

export interface HeadCounts {
  readonly query: number;
  readonly key: number;
}

export function readArchitecture(fields: GgufFields): GgufArchitecture {
  const name = fields.optionalText(ARCHITECTURE_KEY);
  if (name !== undefined && Object.hasOwn(CLASSES, name)) return name as GgufArchitecture;
  const served = Object.keys(CLASSES).join(' or ');
  return fields.fail(`expected ${ARCHITECTURE_KEY} ${served}, ${quoted(name)} came`);
}

export function readHeadCounts(fields: GgufFields, architecture: GgufArchitecture): HeadCounts {
  const query = fields.count(`${architecture}.attention.head_count`, { high: LARGEST });
  const key = fields.optionalCount(`${architecture}.attention.head_count_kv`, { high: LARGEST }) ?? query;
  return { query, key };
}

/** What stands in the tensors and not in the metadata. */
export interface ConfigFromTensors {
  /** Rows of the embedding table. */
  readonly vocabularySize: number;
  readonly tiedHead: boolean;
  readonly attentionBias: boolean;
  readonly feedForwardBias: boolean;
  /** Values of `rope_freqs.weight`, by which the frequencies are divided. */
  readonly rotaryFactors: readonly number[] | undefined;
}

/**
 * Returns an object in the spelling of Hugging Face's config.json. `rope_scaling` is linear, or of a `rope_type` of ours:
 * {"rope_type": "factors", "factors": […]}, head_dim / 2 numbers by which the frequencies are divided, in which llama.cpp
 * writes what Hugging Face calls llama3.
 */
export function ggufConfigJson(
  fields: GgufFields,
  architecture: GgufArchitecture,
  tensors: ConfigFromTensors,
): Readonly<Record<string, unknown>> {
  const count = (key: string): number => fields.count(`${architecture}.${key}`, { high: LARGEST });
  refuseOthers(fields, architecture);
  const heads = readHeadCounts(fields, architecture);
  return {
    model_type: architecture,
    architectures: [CLASSES[architecture]],
    hidden_size: count('embedding_length'),
    num_hidden_layers: count('block_count'),
    num_attention_heads: heads.query,
    num_key_value_heads: heads.key,
    head_dim: readHeadSize(fields, architecture),
    intermediate_size: count('feed_forward_length'),
    hidden_act: 'silu',
    rms_norm_eps: fields.positive(`${architecture}.attention.layer_norm_rms_epsilon`),
    rope_theta: fields.optionalPositive(`${architecture}.rope.freq_base`) ?? DEFAULT_THETA,
    ...rotaryScaling(fields, architecture, tensors.rotaryFactors),
    max_position_embeddings: count('context_length'),
    vocab_size: vocabularySize(fields, architecture, tensors.vocabularySize),
    tie_word_embeddings: tensors.tiedHead,
    ...(architecture === 'llama' && { attention_bias: tensors.attentionBias, mlp_bias: tensors.feedForwardBias }),
    ...(architecture === 'qwen2' && { use_sliding_window: false }),
    ...specialTokens(fields, tensors.vocabularySize),
  };
}

/** Keys that change what a model computes, which no converter writes for models that are served. */
function refuseOthers(fields: GgufFields, architecture: GgufArchitecture): void {
  const neutral = (key: string): void => {
    const value = fields.optionalCount(`${architecture}.${key}`, { low: 0, high: LARGEST }) ?? 0;
    if (value !== 0) fields.fail(`expected no ${architecture}.${key}, ${value} came: such models are not served`);
  };
  neutral('expert_count');
  neutral('attention.sliding_window');
  for (const key of ['attention.scale', 'logit_scale', 'residual_scale', 'embedding_scale', 'attention.clamp_kqv']) {
    if (fields.has(`${architecture}.${key}`)) {
      fields.fail(`expected no ${architecture}.${key}, it is there: such models are not served`);
    }
  }
  if (!fields.flag(`${architecture}.attention.causal`, true)) {
    fields.fail(`expected ${architecture}.attention.causal to be true, false came: such models write no text`);
  }
  const shards = fields.optionalCount('split.count', { low: 0, high: LARGEST }) ?? 1;
  if (shards > 1) fields.fail(`expected a model in one file, one of ${shards} pieces came. Merge them`);
}

export function readHeadSize(fields: GgufFields, architecture: GgufArchitecture): number {
  const hiddenSize = fields.count(`${architecture}.embedding_length`, { high: LARGEST });
  const size = (key: string): number | undefined => fields.optionalCount(`${architecture}.${key}`, { high: LARGEST });
  const keyLength = size('attention.key_length') ?? hiddenSize / readHeadCounts(fields, architecture).query;
  for (const key of ['attention.value_length', 'rope.dimension_count']) {
    const other = size(key) ?? keyLength;
    if (other !== keyLength) fields.fail(`expected ${architecture}.${key} to be ${keyLength}, ${other} came`);
  }
  return keyLength;
}

function rotaryScaling(
  fields: GgufFields,
  architecture: GgufArchitecture,
  factors: readonly number[] | undefined,
): Readonly<Record<string, unknown>> {
  const key = `${architecture}.rope.scaling.type`;
  const type = fields.optionalText(key) ?? 'linear';
  if (type !== 'linear' && type !== 'none') {
    return fields.fail(`expected ${key} linear or none, ${quoted(type)} came`);
  }
  const given =
    fields.optionalPositive(`${architecture}.rope.scaling.factor`) ??
    fields.optionalPositive(`${architecture}.rope.scale_linear`) ??
    1;
  const factor = type === 'linear' ? given : 1;
  if (factors === undefined) return factor === 1 ? {} : { rope_scaling: { rope_type: 'linear', factor } };
  if (factor === 1) return { rope_scaling: { rope_type: 'factors', factors } };
  return fields.fail(`expected rope_freqs.weight or a rope.scaling.factor, both came: ${factor}`);
}

function vocabularySize(fields: GgufFields, architecture: GgufArchitecture, rows: number): number {
  const key = `${architecture}.vocab_size`;
  const stated = fields.optionalCount(key, { high: LARGEST }) ?? rows;
  return stated === rows
    ? rows
    : fields.fail(`expected ${key} to be ${rows}, the rows of token_embd.weight, ${stated} came`);
}

/** llama.cpp ends a text at any of three tokens, which generation_config.json lists under one key. */
function specialTokens(fields: GgufFields, size: number): Readonly<Record<string, unknown>> {
  const id = (name: string, high = size - 1): number | undefined =>
    fields.optionalCount(`tokenizer.ggml.${name}_token_id`, { low: 0, high });
  const [bos, pad] = [id('bos'), id('padding', LARGEST_ID)];
  const ends = [...new Set([id('eos'), id('eot'), id('eom')].filter((end) => end !== undefined))];
  return {
    ...(bos !== undefined && { bos_token_id: bos }),
    ...(ends.length > 0 && { eos_token_id: ends.length === 1 ? ends[0] : ends }),
    // some files name a row that was never made; llama.cpp leaves it out too
    ...(pad !== undefined && pad < size && { pad_token_id: pad }),
  };
}
