import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { AdapterFolder } from '../../src/storage/adapter-folder.ts';
import { countKeys } from '../../src/storage/json-keys.ts';
import { resolveFolder } from '../../src/storage/model-folder.ts';
import { encodeSafetensors, SafetensorsFile } from '../../src/storage/safetensors.ts';
import { StorageError } from '../../src/storage/storage-error.ts';
import { writeTinyAdapter } from '../support/tiny-adapter.ts';
import { temporaryFolder } from '../support/tiny-model.ts';

test('a folder opens as it was written', async (t) => {
  const { folder, config, tensors } = await writeTinyAdapter(await temporaryFolder(t), 'adapter');
  const opened = await AdapterFolder.open(folder);
  assert.deepEqual(opened.config, config);
  assert.deepEqual([...opened.weights.tensors.keys()].sort(), [...tensors.keys()].sort());
  await opened.close();
});

test('safetensors are read where a pickle lies beside them', async (t) => {
  const { folder } = await writeTinyAdapter(await temporaryFolder(t), 'adapter');
  await writeFile(join(folder, 'adapter_model.bin'), 'pickle');
  await (await AdapterFolder.open(folder)).close();
});

test('a file has the hash and the size of its bytes, also when it is longer than one read', async (t) => {
  const path = join(await temporaryFolder(t), 'long.safetensors');
  const data = Float32Array.from({ length: 2_500_001 }, (_, index) => index);
  await writeFile(path, encodeSafetensors(new Map([['x', { shape: [data.length], data }]])));
  const bytes = await readFile(path);
  const file = await SafetensorsFile.open(path);
  assert.equal(file.size, bytes.length);
  assert.equal(await file.hash(), createHash('sha256').update(bytes).digest('hex'));
  await file.close();
});

for (const [json, all, outer] of [
  ['{}', 0, 0],
  ['{"a":1,"b":{"c":[{"d":2}]}}', 4, 2],
  ['{"a":1,"a":2}', 2, 2],
  ['{"a:b":"c:d","\\":":{}}', 2, 2],
  ['[{"a":1},{"a":1}]', 2, 0],
] as const) {
  test(`${json} has ${all} keys, ${outer} of them outside`, () => {
    assert.deepEqual([countKeys(json), countKeys(json, 1)], [all, outer]);
  });
}

test('messages say what kind of folder was asked for', async (t) => {
  const parent = await temporaryFolder(t);
  await mkdir(join(parent, 'one'));
  await assert.rejects(resolveFolder(parent, 'two', 'adapter'), (error) => {
    assert.ok(error instanceof StorageError);
    assert.match(error.message, /an existing adapter folder \(one\), two came/);
    return true;
  });
});
