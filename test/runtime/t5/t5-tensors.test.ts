import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { T5Config } from '../../../src/runtime/models/model-config.ts';
import { checkT5Tensors, t5ParameterCount, t5TensorShapes } from '../../../src/runtime/t5/t5-tensors.ts';
import { WeightFiles } from '../../../src/storage/model-folder.ts';
import type { TensorInfo } from '../../../src/storage/safetensors-header.ts';
import { readJsonFile, repositoryPath } from '../../support/oracle.ts';
import { parseT5Config } from '../../support/t5-config.ts';
import { tinyConfig, tinyTensors } from '../../support/tiny-model.ts';

function catalog(tensors: ReadonlyMap<string, Partial<TensorInfo>>): Parameters<typeof checkT5Tensors>[1] {
  const filled = new Map(
    [...tensors].map(([name, info]) => [name, { dtype: 'F32', shape: [], begin: 0, end: 0, ...info }]),
  );
  return { names: () => [...filled.keys()], info: (name) => filled.get(name) };
}

const config = parseT5Config(tinyConfig({ gated: true }));
const complete = (): Map<string, Partial<TensorInfo>> =>
  new Map([...tinyTensors({ gated: true })].map(([name, { shape }]) => [name, { shape }]));

function assertRefused(tensors: ReadonlyMap<string, Partial<TensorInfo>>, message: RegExp): void {
  assert.throws(() => checkT5Tensors(config, catalog(tensors)), { code: 'INVALID_MODEL', message });
}

for (const name of ['test/fixtures/t5-relu-tied', 'test/fixtures/t5-gated-untied', 'models/gist-mini']) {
  test(`${name}: the names and shapes asked for are those that transformers saves`, async (t) => {
    const saved: T5Config = parseT5Config(readJsonFile(repositoryPath(`${name}/config.json`)));
    const weights = await WeightFiles.open(repositoryPath(name));
    t.after(() => weights.close());
    assert.deepEqual(checkT5Tensors(saved, weights), []);
    const untied = weights.has('lm_head.weight');
    const names = [...t5TensorShapes(saved).keys(), ...(untied ? ['lm_head.weight'] : [])];
    assert.deepEqual([...weights.names()].sort(), names.sort());
    const values = weights.names().map((tensor) => (weights.info(tensor)?.shape ?? []).reduce((a, b) => a * b, 1));
    assert.equal(
      t5ParameterCount(saved, untied),
      values.reduce((a, b) => a + b),
    );
  });
}

test('each missing tensor is named with the shape it should have', () => {
  for (const name of t5TensorShapes(config).keys()) {
    const tensors = complete();
    tensors.delete(name);
    assertRefused(tensors, new RegExp(`${name} is missing, expected \\[[\\d,]+\\]`));
  }
});

test('each tensor of another shape is named with both shapes', () => {
  for (const [name, shape] of t5TensorShapes(config)) {
    const tensors = complete().set(name, { shape: [...shape, 1] });
    assertRefused(tensors, new RegExp(`${name} is \\[${[...shape, 1]}\\], expected \\[${shape}\\]`));
  }
});

test('a matrix on its side is refused', () => {
  const name = 'encoder.block.0.layer.0.SelfAttention.q.weight';
  assertRefused(complete().set(name, { shape: [16, 12] }), /q\.weight is \[16,12\], expected \[12,16\]/);
});

test('a head or a copy of the embeddings of another shape is refused', () => {
  for (const name of ['lm_head.weight', 'encoder.embed_tokens.weight', 'decoder.embed_tokens.weight']) {
    assertRefused(
      complete().set(name, { shape: [59, 16] }),
      new RegExp(`${name} is \\[59,16\\], expected \\[60,16\\]`),
    );
  }
});

test('weights that are no floats are refused before any is read', () => {
  assertRefused(
    complete().set('shared.weight', { shape: [60, 16], dtype: 'I8' }),
    /shared\.weight is I8, expected F32/,
  );
});

test('a folder of another model gives a short message', () => {
  assert.throws(
    () => checkT5Tensors(config, catalog(new Map([['transformer.wte.weight', {}]]))),
    ({ message }: Error) => message.length < 800 && /shared\.weight is missing.*and \d+ more/.test(message),
  );
});

test('copies of the embeddings are left aside, other tensors are warned of, in one short text', () => {
  const tensors = complete();
  tensors
    .set('encoder.embed_tokens.weight', { shape: [60, 16] })
    .set('decoder.embed_tokens.weight', { shape: [60, 16] });
  assert.deepEqual(checkT5Tensors(config, catalog(tensors)), []);
  for (let extra = 0; extra < 1000; extra++) tensors.set(`extra.${extra}.${'x'.repeat(1000)}`, { shape: [1] });
  const warnings = checkT5Tensors(config, catalog(tensors));
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? '', /not used: "extra\.0\..*; and 995 more/);
  assert.ok((warnings[0] ?? '').length < 1000);
});

test('parameters are counted once: a tied head is the embedding table', () => {
  assert.equal(t5ParameterCount(config, true) - t5ParameterCount(config, false), 60 * 16);
});
