/** Whole models in GGUF files that the official package wrote (test/fixtures/gguf-files.py), against their own files. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { GgufModel } from '../../../src/runtime/gguf/gguf-model.ts';
import { HuggingFaceTokenizer } from '../../../src/runtime/tokenizer/hugging-face-tokenizer.ts';
import { encodeGguf, float, floats, type MetadataValue, writeGguf } from '../../support/gguf-bytes.ts';
import { readJsonFile, repositoryPath } from '../../support/oracle.ts';
import { readTensors } from '../../support/read-tensors.ts';

const CONFIG = {
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 6,
  intermediate_size: 64,
  hidden_act: 'silu',
  rms_norm_eps: 1e-5,
  rope_theta: 50_000,
  max_position_embeddings: 128,
  bos_token_id: 1,
  eos_token_id: 2,
  pad_token_id: 0,
};
const CONFIGS: Readonly<Record<string, unknown>> = {
  'tiny-llama': {
    ...CONFIG,
    model_type: 'llama',
    architectures: ['LlamaForCausalLM'],
    vocab_size: 300,
    tie_word_embeddings: false,
    attention_bias: false,
    mlp_bias: false,
  },
  'tiny-qwen2': {
    ...CONFIG,
    model_type: 'qwen2',
    architectures: ['Qwen2ForCausalLM'],
    vocab_size: 296,
    tie_word_embeddings: true,
    use_sliding_window: false,
  },
};

async function openFixture(t: TestContext, name: string): Promise<GgufModel> {
  const model = await GgufModel.open(repositoryPath(`test/fixtures/gguf/${name}/model.gguf`));
  t.after(() => model.close());
  return model;
}

for (const [name, config] of Object.entries(CONFIGS)) {
  test(`${name}: every tensor is Hugging Face's, under its name`, async (t) => {
    const model = await openFixture(t, name);
    const tensors = await readTensors(repositoryPath(`test/fixtures/gguf/${name}/model.safetensors`));
    assert.deepEqual([...model.names()].sort(), [...tensors.keys()].sort());
    for (const [tensor, values] of tensors) {
      assert.ok(model.has(tensor));
      assert.deepEqual(await model.read(tensor), values, tensor);
    }
  });

  test(`${name}: the config says what config.json would`, async (t) => {
    assert.deepEqual((await openFixture(t, name)).configJson, config);
  });

  test(`${name}: ids are those of its tokenizer.json`, async (t) => {
    const tokenizer = await HuggingFaceTokenizer.parse((await openFixture(t, name)).tokenizerJson());
    const path = repositoryPath(`test/fixtures/gguf/${name}/tokens.json`);
    for (const { text, ids } of readJsonFile<{ text: string; ids: number[] }[]>(path)) {
      assert.deepEqual(await tokenizer.encode(text), ids, JSON.stringify(text));
    }
  });
}

test('shapes, types in the file and the chat template', async (t) => {
  const model = await openFixture(t, 'tiny-llama');
  const { shape, dtype } = model.info('model.layers.1.mlp.down_proj.weight') ?? {};
  assert.deepEqual([shape, dtype], [[32, 64], 'BF16']);
  assert.equal(model.info('blk.1.ffn_down.weight'), undefined);
  assert.ok(!model.has('blk.1.ffn_down.weight'));
  await assert.rejects(model.read('blk.1.ffn_down.weight'), {
    name: 'StorageError',
    message: /expected tensor .*missing/,
  });
  assert.equal(model.chatTemplate, "{% for message in messages %}{{ message['content'] }}{% endfor %}");
});

const METADATA: Readonly<Record<string, MetadataValue>> = {
  'general.architecture': 'llama',
  'llama.block_count': 1,
  'llama.context_length': 64,
  'llama.embedding_length': 8,
  'llama.feed_forward_length': 16,
  'llama.attention.head_count': 2,
  'llama.attention.layer_norm_rms_epsilon': float(1e-6),
};
const ROWS = { shape: [3, 8], data: floats(Array(24).fill(1)) };
const TENSORS: Readonly<Record<string, { readonly shape: readonly number[]; readonly data: Uint8Array }>> = {
  'token_embd.weight': ROWS,
};

/** Opens a model of this metadata and these tensors beside those that every model has; null takes a key away. */
async function openModel(
  t: TestContext,
  metadata: Readonly<Record<string, MetadataValue | null>>,
  tensors: typeof TENSORS = {},
): Promise<GgufModel> {
  const entries = Object.entries({ ...METADATA, ...metadata });
  const kept = entries.filter((entry): entry is [string, MetadataValue] => entry[1] !== null);
  const bytes = encodeGguf({ metadata: kept, tensors: Object.entries({ ...TENSORS, ...tensors }) });
  const model = await GgufModel.open(await writeGguf(t, bytes));
  t.after(() => model.close());
  return model;
}

test('what the metadata leaves out has the values that llama.cpp gives it', async (t) => {
  const { configJson, chatTemplate } = await openModel(t, {});
  assert.deepEqual(configJson, {
    model_type: 'llama',
    architectures: ['LlamaForCausalLM'],
    hidden_size: 8,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 2,
    head_dim: 4,
    intermediate_size: 16,
    hidden_act: 'silu',
    rms_norm_eps: 1e-6,
    rope_theta: 10_000,
    max_position_embeddings: 64,
    vocab_size: 3,
    tie_word_embeddings: true,
    attention_bias: false,
    mlp_bias: false,
  });
  assert.equal(chatTemplate, undefined);
});

test('frequencies divided by one number are linear scaling, by numbers of their own a type of ours', async (t) => {
  const scaling = async (metadata: Readonly<Record<string, MetadataValue>>, tensors = {}): Promise<unknown> =>
    (await openModel(t, metadata, tensors)).configJson.rope_scaling;
  const factor = { 'llama.rope.scaling.type': 'linear', 'llama.rope.scaling.factor': float(4) };
  assert.deepEqual(await scaling(factor), { rope_type: 'linear', factor: 4 });
  assert.deepEqual(await scaling({ 'llama.rope.scale_linear': float(2.5) }), { rope_type: 'linear', factor: 2.5 });
  assert.equal(await scaling({ ...factor, 'llama.rope.scaling.type': 'none' }), undefined);
  const factors = { 'rope_freqs.weight': { shape: [2], data: floats([1, 8]) } };
  const model = await openModel(t, {}, factors);
  assert.deepEqual(model.configJson.rope_scaling, { rope_type: 'factors', factors: [1, 8] });
  assert.deepEqual(model.names(), ['model.embed_tokens.weight']);
  await assert.rejects(scaling(factor, factors), { name: 'StorageError', message: /both came: 4/ });
});

test('tokens that end a text are listed under one key', async (t) => {
  const { configJson } = await openModel(t, {
    'tokenizer.ggml.eos_token_id': 2,
    'tokenizer.ggml.eot_token_id': 1,
    'tokenizer.ggml.eom_token_id': 2,
  });
  assert.deepEqual(configJson.eos_token_id, [2, 1]);
});

test('a padding token beyond the vocabulary is none', async (t) => {
  for (const id of [3, 2 ** 32 - 1]) {
    assert.ok(!('pad_token_id' in (await openModel(t, { 'tokenizer.ggml.padding_token_id': id })).configJson));
  }
  assert.equal((await openModel(t, { 'tokenizer.ggml.padding_token_id': 2 })).configJson.pad_token_id, 2);
});

test('biases have their rows turned like the matrices', async (t) => {
  const bias = { shape: [8], data: floats([0, 1, 2, 3, 4, 5, 6, 7]) };
  const tensors = { 'blk.0.attn_q.bias': bias, 'blk.0.attn_v.bias': bias, 'blk.0.ffn_gate.bias': bias };
  const model = await openModel(t, {}, tensors);
  assert.deepEqual(await model.read('model.layers.0.self_attn.q_proj.bias'), Float32Array.of(0, 2, 1, 3, 4, 6, 5, 7));
  assert.deepEqual(await model.read('model.layers.0.self_attn.v_proj.bias'), Float32Array.of(0, 1, 2, 3, 4, 5, 6, 7));
  assert.equal(model.configJson.attention_bias, true);
  assert.equal(model.configJson.mlp_bias, true);
});

type Change = Readonly<Record<string, MetadataValue | null>>;
const REFUSED: readonly (readonly [string, Change, RegExp, typeof TENSORS?])[] = [
  ['another architecture', { 'general.architecture': 'gemma3' }, /general\.architecture llama or qwen2, "gemma3" came/],
  ['no architecture', { 'general.architecture': null }, /general\.architecture llama or qwen2, nothing came/],
  ['a name that every object has', { 'general.architecture': 'toString' }, /"toString" came/],
  [
    'no number of layers',
    { 'llama.block_count': null },
    /expected llama\.block_count to be a whole number, nothing came/,
  ],
  ['no layers', { 'llama.block_count': 0 }, /llama\.block_count to be a whole number from 1 to \d+, 0 came/],
  ['a size of text', { 'llama.embedding_length': '8' }, /llama\.embedding_length to be a whole number .*, "8" came/],
  ['a size that is no whole number', { 'llama.feed_forward_length': float(1.5) }, /whole number .*, 1\.5 came/],
  ['an epsilon of 0', { 'llama.attention.layer_norm_rms_epsilon': float(0) }, /to be a number above 0, 0 came/],
  [
    'an epsilon that is no number',
    { 'llama.attention.layer_norm_rms_epsilon': float(Number.NaN) },
    /above 0, NaN came/,
  ],
  ['a base of infinity', { 'llama.rope.freq_base': float(Number.POSITIVE_INFINITY) }, /above 0, Infinity came/],
  ['keys and values of two sizes', { 'llama.attention.value_length': 6 }, /value_length to be 4, 6 came/],
  ['heads of which a part rotates', { 'llama.rope.dimension_count': 2 }, /rope\.dimension_count to be 4, 2 came/],
  ['experts', { 'llama.expert_count': 8 }, /expected no llama\.expert_count, 8 came/],
  ['a sliding window', { 'llama.attention.sliding_window': 4096 }, /expected no llama\.attention\.sliding_window/],
  ['a scale of the logits', { 'llama.logit_scale': float(0.5) }, /expected no llama\.logit_scale, it is there/],
  ['a model that looks ahead', { 'llama.attention.causal': false }, /attention\.causal to be true, false came/],
  ['a piece of a model', { 'split.count': 3 }, /a model in one file, one of 3 pieces came/],
  ['YaRN', { 'llama.rope.scaling.type': 'yarn' }, /llama\.rope\.scaling\.type linear or none, "yarn" came/],
  ['a vocabulary of another size', { 'llama.vocab_size': 4 }, /llama\.vocab_size to be 3, .*, 4 came/],
  ['an end token beyond the vocabulary', { 'tokenizer.ggml.eos_token_id': 3 }, /eos_token_id .* from 0 to 2, 3 came/],
  ['a template that is no text', { 'tokenizer.chat_template': 1 }, /tokenizer\.chat_template to be a text, 1 came/],
  [
    'tensors of another model',
    {},
    /expected tensors of a llama, "blk\.0\.attn_q_norm\.weight" came/,
    { 'blk.0.attn_q_norm.weight': ROWS },
  ],
  ['a layer that is no number', {}, /expected tensors of a llama, "blk\.01\.attn_q/, { 'blk.01.attn_q.weight': ROWS }],
  [
    'factors of another number than half a head',
    {},
    /"rope_freqs\.weight": expected \[2\], half of a head, \[3,8\] came/,
    { 'rope_freqs.weight': ROWS },
  ],
  ['rows that are no pairs', {}, /expected rows in pairs for 2 heads, 3 rows came/, { 'blk.0.attn_q.weight': ROWS }],
];

for (const [what, metadata, message, tensors] of REFUSED) {
  test(`refused: ${what}`, async (t) => {
    await assert.rejects(openModel(t, metadata, tensors), (error: Error) => {
      assert.equal(error.name, 'StorageError', `${error.stack}`);
      assert.match(error.message, message);
      assert.match(error.message, /^model\.gguf: .*expected/);
      return true;
    });
  });
}

test('refused: a model without an embedding table', async (t) => {
  const bytes = encodeGguf({ metadata: Object.entries(METADATA), tensors: [['output_norm.weight', ROWS]] });
  await assert.rejects(GgufModel.open(await writeGguf(t, bytes)), {
    name: 'StorageError',
    message: /token_embd\.weight/,
  });
});
