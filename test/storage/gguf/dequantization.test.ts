/** Every bit of what gguf's own dequantize gives, from files that gguf wrote (test/fixtures/gguf-files.py). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GgufFile } from '../../../src/storage/gguf/gguf-file.ts';
import { repositoryPath } from '../../support/oracle.ts';

const TYPES = ['F16', 'BF16', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q8_0', 'Q2_K', 'Q3_K', 'Q4_K', 'Q5_K', 'Q6_K'];

for (const type of TYPES) {
  test(`${type} becomes float32 bit by bit as in the reference`, async (t) => {
    const file = await GgufFile.open(repositoryPath('test/fixtures/gguf/blocks.gguf'));
    t.after(() => file.close());
    assert.equal(file.tensors.get(type)?.dtype, type);
    assert.deepEqual(file.tensors.get(type)?.shape, file.tensors.get(`${type}.values`)?.shape);
    const [values, expected] = [await file.read(type), await file.read(`${type}.values`)];
    assert.ok(new Set(values).size > 15, 'values that differ');
    assert.deepEqual(new Uint32Array(values.buffer), new Uint32Array(expected.slice().buffer));
  });
}
