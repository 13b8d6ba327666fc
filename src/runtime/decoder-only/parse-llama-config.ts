/** Reads the config.json of a Llama, or of a Mistral or Qwen2, which are built like it. */
import { isObject } from '../../storage/bounded-file.ts';
import { quoted } from '../../storage/storage-error.ts';
import {
  activation,
  architecture,
  count,
  eosTokenIds,
  epsilon,
  flag,
  invalidConfig,
  type JsonObject,
  LARGEST_SANE_LENGTH,
  LARGEST_VOCABULARY,
  positive,
} from '../models/config-fields.ts';
import type { LlamaConfig, RotaryScaling } from '../models/model-config.ts';

const DEFAULT_CLASSES: Readonly<Record<string, string>> = {
  llama: 'LlamaForCausalLM',
  mistral: 'MistralForCausalLM',
  qwen2: 'Qwen2ForCausalLM',
};
const DEFAULT_THETA = 10_000;

/** transformers 4 writes rope_theta and rope_scaling, transformers 5 both into rope_parameters. */
function parseRotary(json: JsonObject, headSize: number): LlamaConfig['rotary'] {
  const given = json.rope_parameters ?? json.rope_scaling ?? {};
  if (!isObject(given)) return invalidConfig(`expected rope_parameters to be an object, ${quoted(given)} came.`);
  const theta = positive({ rope_theta: given.rope_theta ?? json.rope_theta }, 'rope_theta', DEFAULT_THETA);
  return { theta, scaling: parseScaling(given, json, headSize) };
}

function parseScaling(given: JsonObject, json: JsonObject, headSize: number): RotaryScaling {
  const type = given.rope_type ?? given.type ?? 'default';
  switch (type) {
    case 'default':
      return { type: 'none' };
    case 'linear':
      return { type: 'linear', factor: positive(given, 'factor') };
    case 'llama3': {
      const low = positive(given, 'low_freq_factor');
      const high = positive(given, 'high_freq_factor');
      if (high <= low) {
        return invalidConfig(`expected high_freq_factor to be above low_freq_factor, ${high} and ${low} came.`);
      }
      const original = given.original_max_position_embeddings ?? json.max_position_embeddings;
      return {
        type: 'llama3',
        factor: positive(given, 'factor'),
        lowFrequencyFactor: low,
        highFrequencyFactor: high,
        originalContextLength: count(
          { original_max_position_embeddings: original },
          'original_max_position_embeddings',
          {
            high: LARGEST_SANE_LENGTH,
          },
        ),
      };
    }
    case 'factors':
      return { type: 'factors', factors: parseFactors(given.factors, headSize / 2) };
    default:
      return invalidConfig(`expected rope_type to be default, linear or llama3, ${quoted(type)} came.`);
  }
}

function parseFactors(factors: unknown, length: number): readonly number[] {
  const areNumbers = Array.isArray(factors) && factors.every((factor) => Number.isFinite(factor) && factor > 0);
  if (areNumbers && factors.length === length) return factors;
  return invalidConfig(`expected factors to be ${length} numbers above 0, ${quoted(factors)} came.`);
}

type HeadKey = 'headCount' | 'keyValueHeadCount' | 'headSize';

function parseHeads(json: JsonObject, hiddenSize: number): Pick<LlamaConfig, HeadKey> {
  const headCount = count(json, 'num_attention_heads', { high: 1024 });
  const keyValueHeadCount = count(json, 'num_key_value_heads', { high: headCount, fallback: headCount });
  if (headCount % keyValueHeadCount !== 0) {
    invalidConfig(
      `expected num_attention_heads to be a multiple of num_key_value_heads, ${headCount} and ${keyValueHeadCount} came.`,
    );
  }
  const headSize = count(json, 'head_dim', { high: 4096, fallback: hiddenSize / headCount });
  if (headSize % 2 !== 0) invalidConfig(`expected head_dim to be even, ${headSize} came.`);
  return { headCount, keyValueHeadCount, headSize };
}

/** Texts that fit a sliding window see what they would see without one; longer ones are not served. */
function parseContextLength(json: JsonObject): number {
  const length = count(json, 'max_position_embeddings', { high: LARGEST_SANE_LENGTH, low: 2, fallback: 2048 });
  // Qwen2's files name a window that is not used unless they say so
  const isUsed = flag(json, 'use_sliding_window') ?? json.model_type !== 'qwen2';
  if (!isUsed || (json.sliding_window ?? undefined) === undefined) return length;
  return Math.min(length, count(json, 'sliding_window', { high: LARGEST_SANE_LENGTH, low: 2 }));
}

function parseBiases(json: JsonObject): LlamaConfig['biases'] {
  // the others have no such keys: transformers passes over them there
  if (json.model_type !== 'llama') return { inputs: json.model_type === 'qwen2', output: false, feedForward: false };
  const attention = flag(json, 'attention_bias') ?? false;
  return { inputs: attention, output: attention, feedForward: flag(json, 'mlp_bias') ?? false };
}

export function parseLlamaConfig(json: JsonObject): LlamaConfig {
  const vocabularySize = count(json, 'vocab_size', { high: LARGEST_VOCABULARY });
  const hiddenSize = count(json, 'hidden_size', { high: 65_536 });
  const contextLength = parseContextLength(json);
  const heads = parseHeads(json, hiddenSize);
  return {
    family: 'llama',
    architecture: architecture(json, DEFAULT_CLASSES[String(json.model_type)] ?? 'LlamaForCausalLM'),
    vocabularySize,
    hiddenSize,
    ...heads,
    layerCount: count(json, 'num_hidden_layers', { high: 256 }),
    feedForwardSize: count(json, 'intermediate_size', { high: 262_144 }),
    activation: activation(json, 'hidden_act', 'silu'),
    normEpsilon: epsilon(json, 'rms_norm_eps', 1e-6),
    rotary: parseRotary(json, heads.headSize),
    biases: parseBiases(json),
    tiedHead: flag(json, 'tie_word_embeddings') ?? false,
    eosTokenIds: eosTokenIds(json, vocabularySize),
    contextLength,
    // one position at least is left for an answer
    maxInputTokens: contextLength - 1,
  };
}
