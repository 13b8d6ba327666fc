import assert from 'node:assert/strict';
import { rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { type ErrorCode, RuntimeError } from '../../../src/runtime/errors.ts';
import { loadRunner } from '../../../src/runtime/models/load-runner.ts';
import { type ModelFiles, readModelFiles } from '../../../src/runtime/models/model-files.ts';
import { HuggingFaceTokenizer } from '../../../src/runtime/tokenizer/hugging-face-tokenizer.ts';
import { encodeSafetensors, type TensorToWrite } from '../../../src/storage/safetensors.ts';
import { type TinyModel, writeTinyModel } from '../../support/tiny-model.ts';

function refuses(code: ErrorCode, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof RuntimeError, `${error}`);
    assert.match(error.message, message);
    assert.equal(error.code, code);
    return true;
  };
}

const read = ({ parent, name }: TinyModel): Promise<ModelFiles> =>
  readModelFiles(`dir:${name}`, { embedded: parent, models: parent });

/** As the registry and its worker do: the small files, then the weights. */
async function load(model: TinyModel): Promise<void> {
  const { folder, config } = await read(model);
  const { runner } = await loadRunner({ modelFolder: folder, config, threadCount: 1 }, () => {});
  await runner.dispose();
}

for (const options of [
  {},
  { gated: true },
  { dtype: 'F16', shardCount: 2 },
  { gated: true, dtype: 'BF16' },
  { gated: true, config: { d_kv: 5, num_heads: 3, num_layers: 1, num_decoder_layers: 3 } },
] as const) {
  test(`a folder of any sizes loads: ${JSON.stringify(options)}`, async (t) => load(await writeTinyModel(t, options)));
}

test('the tiny tokenizer turns t5 t17 into 5 and 17 and back', async (t) => {
  const { tokenizerJson } = await read(await writeTinyModel(t));
  const tokenizer = await HuggingFaceTokenizer.parse(tokenizerJson);
  assert.deepEqual(await tokenizer.encode('t5 t17'), [5, 17]);
  assert.equal(await tokenizer.decode([5, 17]), 't5 t17');
});

test('embedded: and dir: look in folders of their own', async (t) => {
  const one = await writeTinyModel(t);
  const two = await writeTinyModel(t, { generation: { prompt_template: 'plain', num_beams: 2 } });
  const directories = { embedded: one.parent, models: two.parent };
  assert.equal((await readModelFiles('embedded:tiny', directories)).templateId, undefined);
  const files = await readModelFiles('dir:tiny', directories);
  assert.deepEqual([files.templateId, files.generationDefaults], ['plain', { maxNewTokens: 16, numBeams: 2 }]);
});

for (const source of [
  '',
  'tiny',
  'dir:',
  'dir:..',
  'dir:../tiny',
  'dir:/etc',
  'dir:a/b',
  'embedded:..',
  'file:tiny',
  'DIR:tiny',
  'dir:tiny\n',
  'x'.repeat(1e6),
]) {
  test(`a source is never a path: ${JSON.stringify(source.slice(0, 20))} is refused`, async (t) => {
    const { parent } = await writeTinyModel(t);
    await assert.rejects(readModelFiles(source, { embedded: parent, models: parent }), (error) => {
      refuses('BAD_USER_INPUT', /Expected/)(error);
      assert.ok(error instanceof RuntimeError && error.message.length < 300);
      assert.equal(error.details.argument, 'source');
      return true;
    });
  });
}

test('a model that is not there is NOT_FOUND, with the names of those that are', async (t) => {
  const { parent } = await writeTinyModel(t);
  const asked = readModelFiles('dir:other', { embedded: parent, models: parent });
  await assert.rejects(asked, refuses('NOT_FOUND', /\(tiny\), other came/));
});

for (const file of ['config.json', 'tokenizer.json']) {
  test(`a folder without ${file} is refused by that name`, async (t) => {
    const model = await writeTinyModel(t);
    await rm(join(model.folder, file));
    await assert.rejects(read(model), refuses('INVALID_MODEL', new RegExp(`expected a ${file} in its folder`)));
  });
}

test('a folder without generation_config.json and tokenizer_config.json loads with defaults', async (t) => {
  const model = await writeTinyModel(t);
  await rm(join(model.folder, 'generation_config.json'));
  await rm(join(model.folder, 'tokenizer_config.json'));
  const { config, generationDefaults } = await read(model);
  assert.deepEqual([config.maxInputTokens, generationDefaults], [512, { maxNewTokens: 128 }]);
});

test('broken JSON in any of the four files is refused by its name', async (t) => {
  for (const file of ['config.json', 'generation_config.json', 'tokenizer_config.json']) {
    const model = await writeTinyModel(t);
    await writeFile(join(model.folder, file), '{"a": ');
    await assert.rejects(read(model), refuses('INVALID_MODEL', new RegExp(`${file}: expected JSON`)));
  }
  const model = await writeTinyModel(t);
  await writeFile(join(model.folder, 'tokenizer.json'), '{"a": ');
  const { tokenizerJson } = await read(model);
  await assert.rejects(HuggingFaceTokenizer.parse(tokenizerJson), refuses('INVALID_MODEL', /tokenizer\.json/));
});

test('a config file that links out of its folder is refused', async (t) => {
  const model = await writeTinyModel(t);
  const outside = join(model.parent, 'outside.json');
  await writeFile(outside, JSON.stringify(model.config));
  await rm(join(model.folder, 'config.json'));
  await symlink(outside, join(model.folder, 'config.json'));
  await assert.rejects(read(model), refuses('INVALID_MODEL', /leads out/));
});

test('sizes that are each in range but fill no memory there is are refused before anything is made', async (t) => {
  const config = { vocab_size: 1_000_000, d_model: 65_536, d_ff: 262_144, num_layers: 256, num_decoder_layers: 256 };
  const model = await writeTinyModel(t);
  await writeFile(join(model.folder, 'config.json'), JSON.stringify({ ...model.config, ...config }));
  await assert.rejects(read(model), refuses('INVALID_MODEL', /sizes that fit \d+ MiB of memory, .* take \d+ MiB/));
});

const withTensor = (model: TinyModel, name: string, change: Partial<TensorToWrite> | undefined): Promise<void> => {
  const tensors = new Map(model.tensors);
  const tensor = tensors.get(name);
  if (change === undefined || tensor === undefined) tensors.delete(name);
  else tensors.set(name, { ...tensor, ...change });
  return writeFile(join(model.folder, 'model.safetensors'), encodeSafetensors(tensors));
};
const NORM = 'decoder.final_layer_norm.weight';
const notANumber = new Float32Array(16).fill(1, 0, 15).fill(Number.NaN, 15);

const HOSTILE_WEIGHTS: readonly (readonly [string, (model: TinyModel) => Promise<void>, RegExp])[] = [
  ['a missing tensor', (model) => withTensor(model, NORM, undefined), /final_layer_norm\.weight is missing/],
  ['a tensor of another shape', (model) => withTensor(model, NORM, { shape: [4, 4] }), /is \[4,4\], expected \[16\]/],
  ['NaN weights', (model) => withTensor(model, NORM, { data: notANumber }), /finite values, NaN stands at 15/],
  ['a cut file', ({ folder }) => writeFile(join(folder, 'model.safetensors'), '{'), /only 1 bytes/],
  [
    'only a pickle',
    async ({ folder }) => {
      await rm(join(folder, 'model.safetensors'));
      await writeFile(join(folder, 'pytorch_model.bin'), '');
    },
    /pickle "pytorch_model\.bin"/,
  ],
  ['a folder that went away', ({ folder }) => rm(folder, { recursive: true }), /neither is there/],
];

for (const [what, change, message] of HOSTILE_WEIGHTS) {
  test(`weights are refused with INVALID_MODEL: ${what}`, async (t) => {
    const model = await writeTinyModel(t);
    const { folder, config } = await read(model);
    await change(model);
    const loading = loadRunner({ modelFolder: folder, config, threadCount: 1 }, () => {});
    await assert.rejects(loading, refuses('INVALID_MODEL', message));
  });
}
