import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RuntimeError } from '../../../src/runtime/errors.ts';
import { parseGenerationDefaults, parseTemplateId } from '../../../src/runtime/models/parse-generation-config.ts';
import { oracleTest, readJsonFile, repositoryPath, sharedPath } from '../../support/oracle.ts';
import { parseT5Config } from '../../support/t5-config.ts';
import { tinyConfig } from '../../support/tiny-model.ts';

type Json = Readonly<Record<string, unknown>>;

const tiny = (change: Json = {}): Json => tinyConfig({ config: change });
const without = (key: string): Json => Object.fromEntries(Object.entries(tiny()).filter(([name]) => name !== key));
const folderConfig = (folder: string): Json => readJsonFile<Json>(repositoryPath(`${folder}/config.json`));

function assertInvalid(parse: () => unknown, message: RegExp): void {
  assert.throws(parse, (error) => {
    assert.ok(error instanceof RuntimeError, `${error}`);
    assert.equal(error.code, 'INVALID_MODEL');
    assert.match(error.message, message);
    assert.ok(error.message.length < 500, `a message of ${error.message.length} characters`);
    return true;
  });
}

test('a T5 v1.0 folder is read: relu, one input matrix, a scaled head', () => {
  assert.deepEqual(parseT5Config(folderConfig('test/fixtures/t5-relu-tied')), {
    family: 't5',
    architecture: 'T5ForConditionalGeneration',
    vocabularySize: 122,
    hiddenSize: 40,
    headSize: 8,
    headCount: 4,
    feedForwardSize: 64,
    encoderLayerCount: 2,
    decoderLayerCount: 2,
    relativeBucketCount: 32,
    relativeMaxDistance: 128,
    layerNormEpsilon: 1e-6,
    activation: 'relu',
    gated: false,
    scaleDecoderOutput: true,
    padTokenId: 0,
    eosTokenIds: [1],
    decoderStartTokenId: 0,
    maxInputTokens: 512,
  });
});

test('a T5 v1.1 folder is read: gated GELU in its tanh form, a head that is not scaled', () => {
  const config = parseT5Config(folderConfig('test/fixtures/t5-gated-untied'));
  assert.deepEqual(
    [config.activation, config.gated, config.scaleDecoderOutput, config.encoderLayerCount, config.decoderLayerCount],
    ['gelu-tanh', true, false, 3, 2],
  );
});

oracleTest('both ways of saying that the head is untied mean the same', 'oracle/models/t5-gated-untied-sharded', () => {
  const saved = readJsonFile<Json>(sharedPath('oracle/models/t5-gated-untied-sharded/config.json'));
  assert.deepEqual(parseT5Config(saved), parseT5Config(folderConfig('test/fixtures/t5-gated-untied')));
});

test('scale_decoder_outputs decides over tie_word_embeddings, which is true unless said', () => {
  const scaled = (tie: unknown, scale: unknown): boolean =>
    parseT5Config(tiny({ tie_word_embeddings: tie, scale_decoder_outputs: scale })).scaleDecoderOutput;
  assert.deepEqual([scaled(true, false), scaled(false, true)], [false, true]);
  assert.deepEqual(
    [scaled(true, undefined), scaled(false, undefined), scaled(undefined, undefined)],
    [true, false, true],
  );
  assert.equal(scaled(null, null), true);
});

test('feed_forward_proj is read as transformers reads it', () => {
  const read = (projection: unknown): unknown => {
    const { activation, gated } = parseT5Config(tiny({ feed_forward_proj: projection }));
    return [activation, gated];
  };
  assert.deepEqual(
    ['relu', 'gated-relu', 'gelu', 'gated-gelu', 'gelu_new', 'gated-gelu_new', 'gated-silu', 'swish', undefined].map(
      read,
    ),
    [
      ['relu', false],
      ['relu', true],
      ['gelu', false],
      ['gelu-tanh', true],
      ['gelu-tanh', false],
      ['gelu-tanh', true],
      ['silu', true],
      ['silu', false],
      ['relu', false],
    ],
  );
});

test('special tokens: a list of end tokens, defaults, and generation_config before config', () => {
  const tokens = (config: Json, generation: Json): unknown => {
    const { padTokenId, eosTokenIds, decoderStartTokenId } = parseT5Config(config, { generation });
    return [padTokenId, eosTokenIds, decoderStartTokenId];
  };
  assert.deepEqual(tokens(tiny({ eos_token_id: [1, 7] }), {}), [0, [1, 7], 0]);
  const unsaid = { pad_token_id: null, eos_token_id: undefined, decoder_start_token_id: undefined };
  assert.deepEqual(tokens(tiny(unsaid), {}), [0, [1], 0]);
  assert.deepEqual(tokens(tiny({ ...unsaid, pad_token_id: 4 }), {}), [4, [1], 4]);
  assert.deepEqual(tokens(tiny(), { eos_token_id: [2, 3], decoder_start_token_id: 5 }), [0, [2, 3], 5]);
});

test('the longest source: n_positions, else a sane model_max_length, else 512', () => {
  const longest = (config: Json, tokenizer?: Json): number => parseT5Config(config, { tokenizer }).maxInputTokens;
  assert.equal(longest(tiny({ n_positions: 77 }), { model_max_length: 64 }), 77);
  assert.equal(longest(tiny({ n_positions: null }), { model_max_length: 64 }), 64);
  for (const length of [1e30, 0, -5, 10.5, '64', null])
    assert.equal(longest(tiny(), { model_max_length: length }), 512);
  assert.equal(longest(tiny()), 512);
});

test('other families are refused, saying which are served', () => {
  for (const family of ['bert', 'constructor', undefined, 5, ['t5'], { t5: 1 }, 'x'.repeat(1e6)]) {
    assertInvalid(
      () => parseT5Config(tiny({ model_type: family })),
      /expected model_type to be one of t5, gpt2, llama.*T5 and FLAN-T5/,
    );
  }
});

const SIZES = ['vocab_size', 'd_model', 'd_kv', 'd_ff', 'num_heads', 'num_layers', 'num_decoder_layers', 'n_positions'];
const OTHER_COUNTS = ['relative_attention_num_buckets', 'relative_attention_max_distance'];

for (const key of [...SIZES, ...OTHER_COUNTS]) {
  test(`${key} out of range is refused by name`, () => {
    for (const value of [0, -1, 1.5, 1e8, 2 ** 53, Number.NaN, '16', [16], {}, true, '9'.repeat(1e6)]) {
      assertInvalid(() => parseT5Config(tiny({ [key]: value })), new RegExp(`config\\.json: expected ${key} to be`));
    }
  });
}

test('sizes that have no default must be there', () => {
  for (const key of ['vocab_size', 'd_model', 'd_kv', 'd_ff', 'num_heads', 'num_layers']) {
    assertInvalid(() => parseT5Config(without(key)), new RegExp(`expected ${key} .* nothing came`));
  }
  assert.equal(parseT5Config(without('num_decoder_layers')).decoderLayerCount, 2);
});

const BROKEN_FIELDS: readonly (readonly [string, readonly unknown[]])[] = [
  ['eos_token_id', [-1, 60, 1.5, '1', [], [1, 60], [[1]], {}, Array(65).fill(1)]],
  ['pad_token_id', [-1, 60, 0.5, '0', [0]]],
  ['decoder_start_token_id', [-1, 60, '0']],
  ['layer_norm_epsilon', [0, -1, 1, '1e-6', [1e-6]]],
  ['tie_word_embeddings', [0, 1, 'true', []]],
  ['scale_decoder_outputs', [0, 'false']],
  ['feed_forward_proj', ['tanh', 'gated-', 'gated-gated-gelu', 'constructor', 'gated-toString', '', 5, ['relu']]],
  // the logarithm of the far buckets begins at half of them
  ['relative_attention_max_distance', [4]],
];

for (const [key, values] of BROKEN_FIELDS) {
  test(`${key} of another kind is refused by name`, () => {
    for (const value of values)
      assertInvalid(() => parseT5Config(tiny({ [key]: value })), new RegExp(`expected .*${key}`));
  });
}

test('an architecture that is no class name is not passed on', () => {
  for (const architectures of [undefined, [], [5], ['x'.repeat(1e5)], ['<b>'], 'T5']) {
    assert.equal(parseT5Config(tiny({ architectures })).architecture, 'T5ForConditionalGeneration');
  }
});

test('decoding defaults are read from generation_config.json; null and unknown keys say nothing', () => {
  assert.deepEqual(
    parseGenerationDefaults({
      max_new_tokens: 80,
      num_beams: 4,
      length_penalty: -0.5,
      early_stopping: true,
      no_repeat_ngram_size: 3,
      do_sample: false,
      top_k: null,
      temperature: null,
      transformers_version: '5.23.0',
      eos_token_id: 1,
    }),
    {
      maxNewTokens: 80,
      numBeams: 4,
      lengthPenalty: -0.5,
      earlyStopping: 'when-beams-finish',
      noRepeatNgramSize: 3,
      doSample: false,
    },
  );
  assert.deepEqual(parseGenerationDefaults({}), { maxNewTokens: 128 });
});

const BROKEN_DEFAULTS: readonly (readonly [string, readonly unknown[]])[] = [
  ['max_new_tokens', [0, 1.5, 1e9, '80', true]],
  ['num_beams', [0, 1.5, 1e6, [4]]],
  ['num_return_sequences', [0, 1e6]],
  ['temperature', [0, -1, 1e9, 'hot']],
  ['top_p', [0, 1.1]],
  ['top_k', [-1, 0.5]],
  ['repetition_penalty', [0, -1]],
  ['length_penalty', [1e9, 'long']],
  ['no_repeat_ngram_size', [-1, 2.5]],
  ['early_stopping', ['sometimes', 1]],
  ['do_sample', ['yes', 1]],
];

for (const [key, values] of BROKEN_DEFAULTS) {
  test(`a default ${key} that no request could have is refused when the model loads`, () => {
    for (const value of values) {
      assertInvalid(
        () => parseGenerationDefaults({ [key]: value }),
        new RegExp(`generation_config\\.json: expected ${key}`),
      );
    }
  });
}

test('prompt_template is an id or absent', () => {
  assert.equal(parseTemplateId({ prompt_template: 'plain' }), 'plain');
  assert.equal(parseTemplateId({}), undefined);
  for (const id of ['', 5, ['plain'], 'a b', 'x'.repeat(1e5)]) {
    assertInvalid(() => parseTemplateId({ prompt_template: id }), /prompt_template/);
  }
});
