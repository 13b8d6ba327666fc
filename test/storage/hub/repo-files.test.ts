import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type HubKind, parseHubSource } from '../../../src/storage/hub/hub-source.ts';
import { chooseFiles } from '../../../src/storage/hub/repo-files.ts';
import { hubRefuses } from '../../support/hub-place.ts';

const small = ['config.json', 'tokenizer.json'];

/** All that is fetched of a repository of these files. */
function choose(names: readonly string[], source = 'hub:a/b', kind?: HubKind): readonly (string | undefined)[] {
  const choice = chooseFiles(names, parseHubSource(source, kind), kind);
  return [choice.kind, ...choice.small, ...choice.large];
}

test('of a model the safetensors, its settings and its tokenizer are needed', () => {
  const others = ['README.md', 'pytorch_model.bin', 'tf_model.h5', 'spiece.model', 'x.gguf', 'model.onnx'];
  assert.deepEqual(choose([...others, 'model.safetensors', 'chat_template.jinja', ...small]), [
    'model',
    ...small,
    'chat_template.jinja',
    'model.safetensors',
  ]);
});

test('weights in several files come by their index', () => {
  const index = 'model.safetensors.index.json';
  const names = [...small, index, 'model-00001-of-00002.safetensors'];
  const choice = chooseFiles(names, parseHubSource('hub:a/b'), 'model');
  assert.deepEqual(choice, { kind: 'model', small: [...small, index], large: [], index });
});

test('a GGUF file is taken where there are no safetensors, or by its name', () => {
  assert.deepEqual(choose(['README.md', 'one.gguf']), ['model', 'one.gguf']);
  assert.deepEqual(choose(['a.gguf', 'b.gguf', 'tokenizer.json'], 'hub:a/b#b.gguf'), [
    'model',
    'tokenizer.json',
    'b.gguf',
  ]);
  assert.deepEqual(choose(['b.gguf', 'model.safetensors', 'config.json'], 'hub:a/b#b.gguf'), ['model', 'b.gguf']);
  const beside = ['b.gguf', 'model.safetensors.index.json', 'model-00001-of-00002.safetensors', 'config.json'];
  assert.deepEqual(choose(beside, 'hub:a/b#b.gguf'), ['model', 'b.gguf']);
  const two = hubRefuses('name', /one \*\.gguf in a\/b, it has a\.gguf, b\.gguf\. Name one: hub:a\/b@main#a\.gguf\./);
  assert.throws(() => choose(['b.gguf', 'a.gguf']), two);
  assert.throws(
    () => choose(['b.gguf'], 'hub:a/b#c.gguf'),
    hubRefuses('missing', /c\.gguf to be a file of a\/b, it has b\.gguf/),
  );
  assert.throws(() => choose(['x.txt'], 'hub:a/b#x.txt'), hubRefuses('name', /one of a\/b's \*\.gguf, x\.txt came/));
});

test('an adapter is known by its config', () => {
  const files = ['adapter_config.json', 'adapter_model.safetensors'];
  assert.deepEqual(choose(['README.md', ...files, 'tokenizer.json']), ['adapter', ...files]);
  assert.throws(
    () => choose([...files, 'other.safetensors'], 'hub:a/b#other.safetensors', 'adapter'),
    hubRefuses('name', /but adapter_model\.safetensors; other\.safetensors came/),
  );
  assert.deepEqual(choose([...files, ...small, 'model.safetensors']), ['model', ...small, 'model.safetensors']);
  assert.deepEqual(choose([...files, ...small, 'model.safetensors'], 'hub:a/b', 'adapter'), ['adapter', ...files]);
  assert.throws(() => choose(files, 'hub:a/b', 'model'), hubRefuses('invalid', /to be a model, it is an adapter/));
});

test('of a dataset the splits are needed that can be read', () => {
  const names = ['train.csv', 'test.jsonl', 'dataset.json', 'dataset_infos.json', 'README.md', 'x.parquet'];
  assert.deepEqual(choose(names, 'hub:datasets/a/b'), ['dataset', 'dataset.json', 'test.jsonl', 'train.csv']);
  assert.deepEqual(choose(names, 'hub:a/b#train.csv', 'dataset'), ['dataset', 'dataset.json', 'train.csv']);
  const parquet = hubRefuses(
    'invalid',
    /a dataset with a SPLIT\.jsonl, SPLIT\.csv or SPLIT\.json, it has x\.parquet\./,
  );
  assert.throws(() => choose(['x.parquet'], 'hub:datasets/a/b'), parquet);
});

test('a pickle is never fetched', () => {
  const model = hubRefuses('invalid', /with model\.safetensors, .*the pickle pytorch_model\.bin came, .*never fetched/);
  assert.throws(() => choose([...small, 'pytorch_model.bin']), model);
  const adapter = hubRefuses('invalid', /with adapter_model\.safetensors, the pickle adapter_model\.bin came/);
  assert.throws(() => choose(['adapter_config.json', 'adapter_model.bin']), adapter);
});

test('what is missing is told before anything is fetched', () => {
  for (const name of small) {
    const others = small.filter((one) => one !== name);
    const lacks = hubRefuses('invalid', new RegExp(`a model with ${name}, it has .*model\\.safetensors`));
    assert.throws(() => choose([...others, 'model.safetensors']), lacks);
  }
  assert.throws(() => choose([]), hubRefuses('invalid', /it has no files\.$/));
});
