/** Trainings of GPT-2s and Llamas from their plan to their folder. */
import assert from 'node:assert/strict';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { parseConfig } from '../../../src/runtime/models/parse-config.ts';
import { readAdapter } from '../../../src/runtime/peft/read-adapter.ts';
import { repositoryPath } from '../../support/oracle.ts';
import { tinyGpt2, tinyLlama } from '../../support/tiny-decoder-only.ts';
import {
  elsewhere,
  eventsOf,
  readObject,
  type TinyTraining,
  tinyDecoderOnlyTraining,
  trainHere,
  weightsOf,
  withoutTimes,
} from '../../support/tiny-training.ts';

const MODELS = { 'GPT-2': tinyGpt2, Llama: tinyLlama };

for (const [name, config] of Object.entries(MODELS)) {
  for (const full of [false, true]) {
    const method = full ? 'FULL' : 'LORA';

    test(`${name}, ${method}: the loss falls, on what is trained on and on what is not`, async (t) => {
      const training = await tinyDecoderOnlyTraining(t, config, { full, optimization: { epochs: 8 } });
      const { events } = await trainHere(training);
      const losses = eventsOf(events, 'step').map(({ loss }) => loss);
      const mean = (some: readonly number[]): number => some.reduce((sum, loss) => sum + loss, 0) / some.length;
      assert.ok(mean(losses.slice(-8)) < 0.9 * mean(losses.slice(0, 8)), `${losses}`);
      const looks = eventsOf(events, 'validation').map(({ validationLoss }) => validationLoss);
      assert.ok(Math.min(...looks) < (looks[0] ?? 0), `${looks}`);
    });

    test(`${name}, ${method}: told to leave off and taken up again, it ends with the same bits`, async (t) => {
      const lora = full ? {} : { lora: { dropout: 0.2 } };
      const undisturbed = await tinyDecoderOnlyTraining(t, config, {
        full,
        optimization: { epochs: 1, gradientAccumulation: 2, labelSmoothing: 0.1 },
        evaluateEverySteps: 2,
        ...lora,
      });
      const whole = (await trainHere(undisturbed)).events;
      const disturbed = await elsewhere(t, undisturbed);
      const parts = [await trainHere(disturbed, ['step', 1]), await trainHere(disturbed, ['step', 3])];
      const events = [...parts, await trainHere(disturbed)].flatMap((part) => part.events);
      assert.deepEqual(withoutTimes(events), withoutTimes(whole));
      assert.deepEqual(await weightsOf(disturbed), await weightsOf(undisturbed));
    });
  }

  test(`${name}: a LoRA folder is one for causal models, and all of it is read`, async (t) => {
    const lora = { targetModules: ['all-linear'] };
    const training = await tinyDecoderOnlyTraining(t, config, { lora, optimization: { maxSteps: 1 } });
    await trainHere(training);
    const written = await readObject(join(training.places.output, 'adapter_config.json'));
    assert.deepEqual([written.task_type, written.fan_in_fan_out], ['CAUSAL_LM', name === 'GPT-2']);
    const base = {
      modelFolder: training.model.folder,
      config: parseConfig(training.model.config),
      modelSource: training.plan.modelSource,
    };
    const { report } = (await readAdapter(training.places.output, base, { maxRank: 16 })).facts;
    const names = [...(await weightsOf(training)).keys()];
    assert.deepEqual(
      [[...report.matchedTensors].sort(), report.unmatchedTensors, report.warnings],
      [names.sort(), [], []],
    );
    assert.ok(!names.some((tensor) => tensor.includes('lm_head')));
  });

  test(`${name}: a full folder has the tensors of the one that it was made from`, async (t) => {
    const training = await tinyDecoderOnlyTraining(t, config, { full: true, optimization: { maxSteps: 1 } });
    await trainHere(training);
    const written = await weightsOf(training);
    assert.deepEqual([...written.keys()].sort(), [...training.model.tensors.keys()].sort());
    for (const [tensor, { data }] of training.model.tensors) assert.equal(written.get(tensor)?.length, data.length);
  });
}

test('prompts and summaries share the positions of the model: what does not fit is cut and told of', async (t) => {
  const training = await tinyDecoderOnlyTraining(
    t,
    { ...tinyGpt2, n_positions: 12 },
    { optimization: { maxSteps: 1 }, data: { maxTargetTokens: 100 } },
  );
  const [prepared] = eventsOf((await trainHere(training)).events, 'prepared');
  assert.match(prepared?.warnings[0] ?? '', /^\d+ of 32 texts are cut/);
  assert.equal(prepared?.warnings.length, 1);
});

async function ggufTraining(t: TestContext, full: boolean): Promise<TinyTraining> {
  const training = await tinyDecoderOnlyTraining(t, tinyLlama, { full, optimization: { maxSteps: 2 } });
  const { folder } = training.model;
  await rm(folder, { recursive: true });
  await mkdir(folder);
  const file = await readFile(repositoryPath('test/fixtures/gguf/tiny-qwen2/model.gguf'));
  await writeFile(join(folder, 'model.gguf'), file);
  return training;
}

test('a GGUF file is adapted; to train every weight of it, its folder of Hugging Face is asked for', async (t) => {
  const adapter = await ggufTraining(t, false);
  const steps = eventsOf((await trainHere(adapter)).events, 'step');
  assert.ok(steps.every(({ loss }) => Number.isFinite(loss)) && steps.length === 2);
  assert.ok((await weightsOf(adapter)).size > 0);
  const full = await ggufTraining(t, true);
  await assert.rejects(trainHere(full), { code: 'UNSUPPORTED_ARGUMENT', message: /GGUF/ });
});
