/** What a step has to read: held against the tensors that a model's file has. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stepBytes } from '../../bench/step-bytes.ts';
import { t5TensorShapes } from '../../src/runtime/t5/t5-tensors.ts';
import { parseT5Config } from '../support/t5-config.ts';
import { tinyConfig } from '../support/tiny-model.ts';

const FLAN_BASE = {
  ...tinyConfig({ gated: true }),
  vocab_size: 32128,
  d_model: 768,
  d_kv: 64,
  d_ff: 2048,
  num_heads: 12,
  num_layers: 12,
  num_decoder_layers: 12,
  relative_attention_num_buckets: 32,
};
const SIZE = { rows: 128, sourceLength: 260, newTokens: 128, numberBytes: 4 };

for (const gated of [false, true]) {
  test(`weights are those of the decoder and the head, without what makes the sources' keys (gated: ${gated})`, () => {
    const config = parseT5Config(tinyConfig({ gated }));
    const isRead = (name: string): boolean =>
      name.startsWith('decoder.') && !/EncDecAttention\.[kv]\.weight/.test(name) && !name.includes('embed_tokens');
    let numbers = (config.vocabularySize + SIZE.rows) * config.hiddenSize;
    for (const [name, shape] of t5TensorShapes(config)) {
      if (isRead(name)) numbers += shape.reduce((product, size) => product * size, 1);
    }
    assert.equal(stepBytes(config, SIZE).weights, 4 * numbers);
  });
}

test('FLAN-T5-base, 128 rows, 260 to 128 tokens', () => {
  const config = parseT5Config(FLAN_BASE);
  const { weights, source, own, total } = stepBytes(config, SIZE);
  // 128 rows of 12 layers' keys and values of 768 numbers
  assert.equal(source, 4 * 128 * 12 * 2 * 768 * 260);
  assert.equal(own, 4 * 128 * 12 * 2 * 768 * 63.5);
  assert.equal(Math.round(weights / 1e6), 496);
  assert.equal(total, weights + source + own);
  const half = stepBytes(config, { ...SIZE, numberBytes: 2 });
  assert.equal(half.total, total / 2);
});
