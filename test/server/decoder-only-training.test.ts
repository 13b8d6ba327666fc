/** A GPT-2 and a Llama are trained, come into service, and answer what they have learnt by heart. */
import assert from 'node:assert/strict';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { LoadModelDocument, SummarizeDocument } from '../generated/operations.ts';
import { tinyGpt2, tinyLlama, writeTinyDecoderOnly } from '../support/tiny-decoder-only.ts';
import { tinyRows } from '../support/tiny-training.ts';
import { setUpTraining, startTraining, trainingAtEnd } from '../support/training-server.ts';

/** Enough that four samples are known by heart. */
const BY_HEART = { dataset: 'alone', epochs: 40, learningRate: 0.01, batchSize: 4, weightDecay: 0 };
const rows = tinyRows(4);

for (const [id, config] of [
  ['gpt2', tinyGpt2],
  ['llama', tinyLlama],
] as const) {
  test(`${id}: a LoRA adapter and a model come into service, and answer what they have learnt`, async (t) => {
    const { server, place } = await setUpTraining(t);
    const { folder } = await writeTinyDecoderOnly(t, config);
    await cp(folder, join(place.modelsDir, id), { recursive: true });
    await server.data(LoadModelDocument, { input: { id, source: `dir:${id}` } });
    const lora = { rank: 8, alpha: 16, targetModules: ['all-linear'] };
    for (const changes of [
      { method: 'LORA', outputId: 'lora', lora },
      { method: 'FULL', outputId: 'full' },
    ] as const) {
      const training = await trainingAtEnd(server, await startTraining(server, { ...BY_HEART, model: id, ...changes }));
      assert.equal(training.status, 'SUCCEEDED', training.error ?? '');
    }
    const answers = async (input: object): Promise<readonly string[]> => {
      const asked = rows.map(async ({ dialogue: text }) => {
        const common = { text, template: 'plain', decoding: { maxNewTokens: 8 } };
        return (await server.data(SummarizeDocument, { input: { ...common, ...input } })).summarize.text;
      });
      return Promise.all(asked);
    };
    const learnt = rows.map(({ summary }) => summary);
    assert.notDeepEqual(await answers({ model: id }), learnt);
    assert.deepEqual(await answers({ model: id, adapters: [{ id: 'lora' }] }), learnt);
    assert.deepEqual(await answers({ model: 'full' }), learnt);
  });
}
