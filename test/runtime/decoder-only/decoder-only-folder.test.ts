/** Folders of decoder-only models: what their files may leave out, and what makes them unfit. */
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { readModelFiles } from '../../../src/runtime/models/model-files.ts';
import { encodeSafetensors, type TensorToWrite } from '../../../src/storage/safetensors.ts';
import { EngineHarness, loadRunner } from '../../support/engine-harness.ts';
import { tinyGpt2, tinyLlama, writeTinyDecoderOnly } from '../../support/tiny-decoder-only.ts';
import type { TinyModel } from '../../support/tiny-model.ts';

const ASKED = { id: 'one', promptTokenIds: [5, 17, 40, 8], options: { maxNewTokens: 12, minNewTokens: 12 } };

async function answer({ parent, name }: TinyModel): Promise<unknown> {
  const { runner } = await loadRunner(parent, name);
  const harness = await EngineHarness.runAll(runner, [ASKED]);
  await runner.dispose();
  return harness.outputs.get('one')?.sequences;
}

async function rewrite(model: TinyModel, tensors: ReadonlyMap<string, TensorToWrite>): Promise<void> {
  await writeFile(join(model.folder, 'model.safetensors'), encodeSafetensors(tensors));
}

for (const [config, prefix] of [
  [tinyGpt2, 'transformer.'],
  [tinyLlama, 'model.'],
] as const) {
  test(`${String(config.model_type)}: files that leave out "${prefix}" hold the same model`, async (t) => {
    const model = await writeTinyDecoderOnly(t, config);
    const expected = await answer(model);
    await rewrite(model, new Map([...model.tensors].map(([name, tensor]) => [name.replace(prefix, ''), tensor])));
    assert.deepEqual(await answer(model), expected);
  });
}

test('masks that old files hold are passed over in silence, other strangers with a warning', async (t) => {
  const model = await writeTinyDecoderOnly(t, tinyGpt2);
  const mask = { shape: [1, 1, 4, 4], data: new Float32Array(16), dtype: 'F32' as const };
  const load = (): ReturnType<typeof loadRunner> => loadRunner(model.parent, model.name);
  await rewrite(model, new Map([...model.tensors, ['transformer.h.0.attn.bias', mask]]));
  const quiet = await load();
  assert.deepEqual(quiet.warnings, []);
  await quiet.runner.dispose();
  await rewrite(model, new Map([...model.tensors, ['stranger', mask]]));
  const warned = await load();
  assert.deepEqual(warned.warnings, ['Tensors that are not used: "stranger".']);
  await warned.runner.dispose();
});

test('a tied head is the table, whatever copy of it the file holds', async (t) => {
  const model = await writeTinyDecoderOnly(t, { ...tinyLlama, tie_word_embeddings: true });
  const expected = await answer(model);
  const copy = { shape: [122, 48], data: new Float32Array(122 * 48), dtype: 'F32' as const };
  await rewrite(model, new Map([...model.tensors, ['lm_head.weight', copy]]));
  assert.deepEqual(await answer(model), expected);
});

test('what is missing or has another shape is named', async (t) => {
  const model = await writeTinyDecoderOnly(t, tinyLlama);
  const broken = new Map(model.tensors);
  broken.delete('model.layers.1.self_attn.k_proj.weight');
  broken.set('lm_head.weight', { shape: [100, 48], data: new Float32Array(4800), dtype: 'F32' });
  await rewrite(model, broken);
  await assert.rejects(loadRunner(model.parent, model.name), {
    code: 'INVALID_MODEL',
    message: /k_proj\.weight is missing, expected \[32,48\].*lm_head\.weight is \[100,48\], expected \[122,48\]/,
  });
});

test('biases of Qwen2 and of attention count', async (t) => {
  const plain = await writeTinyDecoderOnly(t, tinyLlama);
  const qwen = await writeTinyDecoderOnly(t, { ...tinyLlama, model_type: 'qwen2' });
  const all = await writeTinyDecoderOnly(t, { ...tinyLlama, attention_bias: true, mlp_bias: true });
  const answers = await Promise.all([plain, qwen, all].map(answer));
  assert.equal(new Set(answers.map((one) => JSON.stringify(one))).size, 3);
});

test('a chat template is read from its own file, else from tokenizer_config.json', async (t) => {
  const named = (text: string): string => `${text}{{ messages[0].content }}{{ eos_token }}`;
  const model = await writeTinyDecoderOnly(t, tinyLlama, {
    'chat_template.jinja': named('file: '),
    'tokenizer_config.json': JSON.stringify({
      eos_token: { content: '</s>' },
      chat_template: [
        { name: 'tool_use', template: named('tools: ') },
        { name: 'default', template: named('config: ') },
      ],
    }),
  });
  const read = async (): Promise<unknown> =>
    (await readModelFiles(`dir:${model.name}`, { embedded: model.parent, models: model.parent })).chat;
  assert.deepEqual(await read(), { before: 'file: ', after: '</s>', trimsStart: false, trimsEnd: false });
  await rm(join(model.folder, 'chat_template.jinja'));
  assert.deepEqual(await read(), { before: 'config: ', after: '</s>', trimsStart: false, trimsEnd: false });
});
