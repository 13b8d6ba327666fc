/**
 * SmolLM2-135M-Instruct from its published GGUF file (Q4_1 and Q8_0): the weights are those that the official package
 * dequantizes, the ids those of the model's own tokenizer. Both files are large: where they lie, the environment says.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { GgufModel } from '../../../src/runtime/gguf/gguf-model.ts';
import { HuggingFaceTokenizer } from '../../../src/runtime/tokenizer/hugging-face-tokenizer.ts';
import { fromFloat32 } from '../../../src/storage/float-conversion.ts';
import { SafetensorsFile } from '../../../src/storage/safetensors.ts';
import { readJsonFile, sharedPath } from '../../support/oracle.ts';

const file = process.env.GISTQL_TEST_SMOLLM2_GGUF ?? '';
const folder = process.env.GISTQL_TEST_SMOLLM2 ?? '';

async function openModel(t: TestContext): Promise<GgufModel> {
  const model = await GgufModel.open(file);
  t.after(() => model.close());
  return model;
}

test('every tensor is the one of the folder, which is rounded to float16', {
  skip: file === '' || folder === '' ? 'needs GISTQL_TEST_SMOLLM2_GGUF and GISTQL_TEST_SMOLLM2, its folder' : false,
}, async (t) => {
  const model = await openModel(t);
  const weights = await SafetensorsFile.open(join(folder, 'model.safetensors'));
  t.after(() => weights.close());
  assert.deepEqual([...model.names()].sort(), [...weights.tensors.keys()].sort());
  for (const name of model.names()) {
    assert.deepEqual(model.info(name)?.shape, weights.tensors.get(name)?.shape);
    const [halves, expected] = [await model.read(name), await weights.read(name)].map((v) => fromFloat32(v, 'F16'));
    assert.ok(Buffer.from(halves as Uint8Array).equals(expected as Uint8Array), name);
  }
  const own = readJsonFile<Readonly<Record<string, unknown>>>(join(folder, 'config.json'));
  for (const [key, value] of Object.entries(model.configJson)) assert.deepEqual(value, own[key], key);
});

interface OracleCase {
  readonly text: string;
  readonly ids: readonly number[];
  readonly offsets: readonly (readonly [number, number])[];
}

const casesPath = sharedPath('oracle/tokenizers/smollm2.json');

test('ids are those of its tokenizer.json', {
  skip:
    file === '' || !existsSync(casesPath)
      ? 'needs GISTQL_TEST_SMOLLM2_GGUF and ../shared/oracle/tokenizers/smollm2.json'
      : false,
}, async (t) => {
  const tokenizer = await HuggingFaceTokenizer.parse((await openModel(t)).tokenizerJson());
  for (const { text, ids, offsets } of readJsonFile<OracleCase[]>(casesPath)) {
    const tokens = await tokenizer.encodeWithOffsets(text);
    assert.deepEqual(
      tokens.map(({ id }) => id),
      ids,
      JSON.stringify(text),
    );
    assert.deepEqual(
      tokens.map(({ start, end }) => [start ?? 0, end ?? 0]),
      offsets,
    );
  }
});
