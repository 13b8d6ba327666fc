/** config.json of GPT-2, Llama and what is built like it, in the spellings of transformers 4 and 5. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DecoderOnlyConfig, LlamaConfig } from '../../../src/runtime/models/model-config.ts';
import { parseConfig } from '../../../src/runtime/models/parse-config.ts';
import { oracleTest, readJsonFile, repositoryPath } from '../../support/oracle.ts';
import { tinyGpt2, tinyLlama } from '../../support/tiny-decoder-only.ts';

type Json = Readonly<Record<string, unknown>>;

function parse(json: Json): DecoderOnlyConfig {
  const config = parseConfig(json);
  assert.notEqual(config.family, 't5');
  return config as DecoderOnlyConfig;
}

const llama = (changes: Json): LlamaConfig => parse({ ...tinyLlama, ...changes }) as LlamaConfig;
const gpt2 = (changes: Json): DecoderOnlyConfig => parse({ ...tinyGpt2, ...changes });

function refuses(json: Json, message: RegExp): void {
  assert.throws(() => parseConfig(json), { code: 'INVALID_MODEL', message });
}

test('a GPT-2 as published', () => {
  assert.deepEqual(gpt2({ n_inner: null, activation_function: 'gelu_new' }), {
    family: 'gpt2',
    architecture: 'GPT2LMHeadModel',
    vocabularySize: 122,
    hiddenSize: 48,
    headCount: 3,
    keyValueHeadCount: 3,
    headSize: 16,
    layerCount: 2,
    feedForwardSize: 192,
    activation: 'gelu-tanh',
    normEpsilon: 1e-5,
    tiedHead: true,
    eosTokenIds: [1],
    contextLength: 1024,
    maxInputTokens: 1023,
  });
});

test('a Llama in the spelling of transformers 4', () => {
  const scaling = {
    rope_type: 'llama3',
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 256,
  };
  assert.deepEqual(llama({ torch_dtype: 'float16', rope_theta: 5e5, rope_scaling: scaling, rms_norm_eps: 1e-5 }), {
    family: 'llama',
    architecture: 'LlamaForCausalLM',
    vocabularySize: 122,
    hiddenSize: 48,
    headCount: 6,
    keyValueHeadCount: 2,
    headSize: 16,
    layerCount: 2,
    feedForwardSize: 64,
    activation: 'silu',
    normEpsilon: 1e-5,
    rotary: {
      theta: 5e5,
      scaling: {
        type: 'llama3',
        factor: 8,
        lowFrequencyFactor: 1,
        highFrequencyFactor: 4,
        originalContextLength: 256,
      },
    },
    biases: { inputs: false, output: false, feedForward: false },
    tiedHead: false,
    eosTokenIds: [1],
    contextLength: 1024,
    maxInputTokens: 1023,
  });
});

test('both spellings of rotary positions mean the same', () => {
  const linear = { rope_type: 'linear', factor: 4 };
  const old = llama({ rope_theta: 2e4, rope_scaling: { type: 'linear', factor: 4 } });
  assert.deepEqual(llama({ rope_theta: undefined, rope_parameters: { ...linear, rope_theta: 2e4 } }), old);
  assert.deepEqual(old.rotary, { theta: 2e4, scaling: { type: 'linear', factor: 4 } });
  const none = { theta: 10_000, scaling: { type: 'none' } };
  for (const scaling of [null, undefined, {}, { rope_type: 'default' }]) {
    assert.deepEqual(llama({ rope_theta: null, rope_scaling: scaling }).rotary, none);
  }
});

test('what the file does not say is as in transformers', () => {
  const bare = llama({ num_key_value_heads: undefined, head_dim: undefined, tie_word_embeddings: undefined });
  assert.deepEqual([bare.keyValueHeadCount, bare.headSize, bare.tiedHead], [6, 8, false]);
  assert.equal(llama({ tie_word_embeddings: true }).tiedHead, true);
});

test('Qwen2 has biases for queries, keys and values; attention_bias has all four', () => {
  assert.deepEqual(llama({ model_type: 'qwen2' }).biases, { inputs: true, output: false, feedForward: false });
  assert.deepEqual(llama({ attention_bias: true, mlp_bias: true }).biases, {
    inputs: true,
    output: true,
    feedForward: true,
  });
});

test('a sliding window that is used is the most that is read: within it nothing slides', () => {
  assert.equal(llama({ model_type: 'mistral', sliding_window: 256 }).contextLength, 256);
  assert.equal(llama({ model_type: 'mistral', sliding_window: null }).contextLength, 1024);
  assert.equal(llama({ model_type: 'qwen2', sliding_window: 256 }).contextLength, 1024);
  assert.equal(llama({ model_type: 'qwen2', sliding_window: 256, use_sliding_window: true }).contextLength, 256);
  assert.equal(llama({ model_type: 'mistral', sliding_window: 4096 }).maxInputTokens, 1023);
});

test('a model without an end token ends by length alone', () => {
  assert.deepEqual(gpt2({ eos_token_id: null }).eosTokenIds, []);
});

test('end tokens of generation_config.json outrank those of config.json', () => {
  assert.deepEqual(parseConfig(tinyLlama, { generation: { eos_token_id: [5, 7] } }).eosTokenIds, [5, 7]);
});

const BROKEN: readonly (readonly [Json, Json, RegExp])[] = [
  [tinyGpt2, { n_head: 5 }, /n_embd to be a multiple of n_head, 48 and 5/],
  [tinyGpt2, { n_positions: 1 }, /n_positions/],
  [tinyGpt2, { scale_attn_by_inverse_layer_idx: true }, /scale_attn_by_inverse_layer_idx to be false/],
  [tinyGpt2, { add_cross_attention: true }, /add_cross_attention to be false/],
  [tinyGpt2, { activation_function: 'tanh' }, /activation_function to be one of .*"tanh" came/],
  [tinyGpt2, { eos_token_id: [] }, /1 to 64 numbers as eos_token_id, 0 came/],
  [tinyLlama, { num_attention_heads: 4, num_key_value_heads: 3 }, /multiple of num_key_value_heads, 4 and 3/],
  [tinyLlama, { num_key_value_heads: 12 }, /num_key_value_heads .* from 1 to 6/],
  [tinyLlama, { head_dim: 7 }, /head_dim to be even, 7/],
  [tinyLlama, { head_dim: undefined, num_attention_heads: 5, num_key_value_heads: 5 }, /head_dim/],
  [tinyLlama, { rope_scaling: { rope_type: 'yarn', factor: 4 } }, /rope_type to be default, linear or llama3, "yarn"/],
  [tinyLlama, { rope_scaling: { rope_type: 'linear', factor: 0 } }, /factor to be a number above 0/],
  [tinyLlama, { rope_scaling: { rope_type: 'linear', factor: Number.POSITIVE_INFINITY } }, /factor/],
  [tinyLlama, { rope_scaling: 'linear' }, /rope_parameters to be an object/],
  [tinyLlama, { rope_theta: -1 }, /rope_theta to be a number above 0/],
  [
    tinyLlama,
    { rope_scaling: { rope_type: 'llama3', factor: 8, low_freq_factor: 4, high_freq_factor: 1 } },
    /high_freq_factor to be above low_freq_factor/,
  ],
  [tinyLlama, { rms_norm_eps: 0 }, /rms_norm_eps/],
  [tinyLlama, { hidden_act: 'constructor' }, /hidden_act/],
  [tinyLlama, { max_position_embeddings: 1e9 }, /max_position_embeddings/],
];

for (const [base, changes, message] of BROKEN) {
  test(`${String(base.model_type)} with ${JSON.stringify(changes)} is refused by name`, () => {
    refuses({ ...base, ...changes }, message);
  });
}

test('fixtures of each family are read', () => {
  for (const name of ['gpt2', 'llama-gqa', 'llama-tied-rope3']) {
    const config = parseConfig(readJsonFile<Json>(repositoryPath(`test/fixtures/${name}/config.json`)));
    assert.equal(config.family, name.startsWith('gpt2') ? 'gpt2' : 'llama');
  }
});

oracleTest('SmolLM2 as published', 'models/smollm2-135m-instruct/config.json', (path) => {
  const config = parse(readJsonFile<Json>(path)) as LlamaConfig;
  const { hiddenSize, headCount, keyValueHeadCount, headSize, rotary, contextLength } = config;
  assert.deepEqual([hiddenSize, headCount, keyValueHeadCount, headSize, contextLength], [576, 9, 3, 64, 8192]);
  assert.deepEqual(rotary, { theta: 100_000, scaling: { type: 'none' } });
});
