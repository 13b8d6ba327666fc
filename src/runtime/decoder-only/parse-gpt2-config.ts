/** Reads the config.json of a GPT-2. */
import {
  activation,
  architecture,
  count,
  eosTokenIds,
  epsilon,
  expectValue,
  flag,
  invalidConfig,
  type JsonObject,
  LARGEST_SANE_LENGTH,
  LARGEST_VOCABULARY,
} from '../models/config-fields.ts';
import type { Gpt2Config } from '../models/model-config.ts';

const DEFAULT_CLASS = 'GPT2LMHeadModel';

export function parseGpt2Config(json: JsonObject): Gpt2Config {
  const vocabularySize = count(json, 'vocab_size', { high: LARGEST_VOCABULARY });
  const hiddenSize = count(json, 'n_embd', { high: 65_536 });
  const headCount = count(json, 'n_head', { high: 1024 });
  if (hiddenSize % headCount !== 0) {
    invalidConfig(`expected n_embd to be a multiple of n_head, ${hiddenSize} and ${headCount} came.`);
  }
  expectValue(json, 'add_cross_attention', false);
  expectValue(json, 'scale_attn_weights', true);
  expectValue(json, 'scale_attn_by_inverse_layer_idx', false);
  const contextLength = count(json, 'n_positions', { high: LARGEST_SANE_LENGTH, low: 2, fallback: 1024 });
  return {
    family: 'gpt2',
    architecture: architecture(json, DEFAULT_CLASS),
    vocabularySize,
    hiddenSize,
    headCount,
    keyValueHeadCount: headCount,
    headSize: hiddenSize / headCount,
    layerCount: count(json, 'n_layer', { high: 256 }),
    feedForwardSize: count(json, 'n_inner', { high: 262_144, fallback: 4 * hiddenSize }),
    activation: activation(json, 'activation_function', 'gelu_new'),
    normEpsilon: epsilon(json, 'layer_norm_epsilon', 1e-5),
    tiedHead: flag(json, 'tie_word_embeddings') ?? true,
    eosTokenIds: eosTokenIds(json, vocabularySize),
    contextLength,
    // one position at least is left for an answer
    maxInputTokens: contextLength - 1,
  };
}
