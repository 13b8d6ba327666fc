/** A folder that holds a GGUF file is served as the folder of the same model's own files. */
import assert from 'node:assert/strict';
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { GgufModel } from '../../../src/runtime/gguf/gguf-model.ts';
import { type ModelFiles, readModelFiles } from '../../../src/runtime/models/model-files.ts';
import { EngineHarness, loadRunner } from '../../support/engine-harness.ts';
import { repositoryPath } from '../../support/oracle.ts';
import { temporaryFolder } from '../../support/tiny-model.ts';

const ASKED = { id: 'one', promptTokenIds: [3, 60, 101, 44, 7], options: { maxNewTokens: 16, minNewTokens: 16 } };

async function answer(folder: string): Promise<unknown> {
  const { runner } = await loadRunner(dirname(folder), basename(folder));
  const harness = await EngineHarness.runAll(runner, [ASKED]);
  await runner.dispose();
  return harness.outputs.get('one')?.sequences;
}

function filesOf(folder: string): Promise<ModelFiles> {
  return readModelFiles(`dir:${basename(folder)}`, { embedded: dirname(folder), models: dirname(folder) });
}

/** A folder with nothing but the GGUF file. */
async function ggufFolder(t: TestContext, name: string): Promise<string> {
  const folder = join(await temporaryFolder(t), name);
  await mkdir(folder);
  await copyFile(repositoryPath(`test/fixtures/gguf/${name}/model.gguf`), join(folder, `${name}.F32.gguf`));
  return folder;
}

/** The same model as Hugging Face lays it out. */
async function ownFolder(t: TestContext, name: string): Promise<string> {
  const folder = join(await temporaryFolder(t), name);
  await mkdir(folder);
  const model = await GgufModel.open(repositoryPath(`test/fixtures/gguf/${name}/model.gguf`));
  await writeFile(join(folder, 'config.json'), JSON.stringify(model.configJson));
  await writeFile(join(folder, 'tokenizer.json'), model.tokenizerJson());
  await model.close();
  await copyFile(repositoryPath(`test/fixtures/gguf/${name}/model.safetensors`), join(folder, 'model.safetensors'));
  return folder;
}

for (const name of ['tiny-llama', 'tiny-qwen2']) {
  test(`${name}: one GGUF file = config.json, tokenizer.json and model.safetensors`, async (t) => {
    const [gguf, own] = [await ggufFolder(t, name), await ownFolder(t, name)];
    const [ofGguf, ofOwn] = [await filesOf(gguf), await filesOf(own)];
    assert.deepEqual(ofGguf.config, ofOwn.config);
    assert.equal(ofGguf.tokenizerJson, ofOwn.tokenizerJson);
    assert.deepEqual(await answer(gguf), await answer(own));
  });
}

test('what lies beside the file outranks what it holds; its special tokens are those of the chat template', async (t) => {
  const folder = await ggufFolder(t, 'tiny-llama');
  await writeFile(join(folder, 'chat_template.jinja'), '{{ bos_token }}{{ messages[0].content }}{{ eos_token }}');
  await writeFile(join(folder, 'generation_config.json'), JSON.stringify({ max_new_tokens: 7 }));
  const own = await filesOf(folder);
  assert.equal(own.generationDefaults.maxNewTokens, 7);
  const { added_tokens: added } = JSON.parse(own.tokenizerJson) as {
    added_tokens: readonly { id: number; content: string }[];
  };
  const textOf = (id: number): string | undefined => added.find((token) => token.id === id)?.content;
  assert.deepEqual([own.chat?.before, own.chat?.after], [textOf(1), textOf(2)]);
  await writeFile(join(folder, 'tokenizer.json'), '{"added_tokens": []}');
  const beside = await filesOf(folder);
  assert.equal(beside.tokenizerJson, '{"added_tokens": []}');
  assert.deepEqual([beside.chat?.before, beside.chat?.after], ['', '']);
});

test('safetensors outrank a GGUF file; of several GGUF files none is chosen', async (t) => {
  const folder = await ownFolder(t, 'tiny-llama');
  await writeFile(join(folder, 'broken.gguf'), 'no model');
  assert.ok((await answer(folder)) !== undefined);
  const several = await ggufFolder(t, 'tiny-llama');
  await copyFile(join(several, 'tiny-llama.F32.gguf'), join(several, 'a.gguf'));
  await assert.rejects(filesOf(several), {
    code: 'INVALID_MODEL',
    message: /Expected one \.gguf file in the folder, 2 came \(a\.gguf, tiny-llama\.F32\.gguf\)/,
  });
});
