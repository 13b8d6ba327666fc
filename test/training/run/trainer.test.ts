/** A training from its plan to its folder: what it learns, what it leaves, and that nothing on the way changes a bit. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { readAdapter } from '../../../src/runtime/peft/read-adapter.ts';
import type { TrainingProgress } from '../../../src/training/run/trainer-protocol.ts';
import { readTensors } from '../../support/read-tensors.ts';
import { parseT5Config } from '../../support/t5-config.ts';
import {
  elsewhere,
  eventsOf,
  readObject,
  tinyTraining,
  trainHere,
  weightsOf,
  withoutTimes,
} from '../../support/tiny-training.ts';

for (const full of [false, true]) {
  const method = full ? 'FULL' : 'LORA';

  test(`${method}: the loss falls, on what is trained on and on what is not`, async (t) => {
    const training = await tinyTraining(t, { full, optimization: { epochs: 12 } });
    const { end, events } = await trainHere(training);
    assert.equal(end, 'finished');
    const steps = eventsOf(events, 'step');
    assert.deepEqual(
      steps.map(({ step }) => step),
      Array.from({ length: 96 }, (_, step) => step + 1),
    );
    assert.equal(steps.at(-1)?.epoch, 12);
    const mean = (some: typeof steps): number => some.reduce((sum, { loss }) => sum + loss, 0) / some.length;
    assert.ok(mean(steps.slice(-8)) < 0.9 * mean(steps.slice(0, 8)));
    const looks = eventsOf(events, 'validation');
    assert.deepEqual(
      looks.map(({ step }) => step),
      Array.from({ length: 24 }, (_, look) => 4 * (look + 1)),
    );
    assert.ok(Math.min(...looks.map(({ validationLoss }) => validationLoss)) < (looks[0]?.validationLoss ?? 0));
  });

  test(`${method}: told to leave off anywhere and taken up again, it ends with the same bits`, async (t) => {
    const undisturbed = await tinyTraining(t, {
      full,
      optimization: { gradientAccumulation: 3, labelSmoothing: 0.1 },
      evaluateEverySteps: 2,
      ...(full ? {} : { lora: { dropout: 0.2 } }),
    });
    const whole = await trainHere(undisturbed);
    const disturbed = await elsewhere(t, undisturbed);
    const events: TrainingProgress[] = [];
    for (const stop of [
      ['step', 1],
      ['step', 2],
      ['validation', 2],
      ['step', 5],
    ] as const) {
      const part = await trainHere(disturbed, stop);
      assert.equal(part.end, 'stopped');
      events.push(...part.events);
    }
    const rest = await trainHere(disturbed);
    assert.equal(rest.end, 'finished');
    events.push(...rest.events);
    assert.deepEqual(
      eventsOf(events, 'prepared').map(({ step }) => step),
      [0, 1, 2, 2, 5],
    );
    assert.deepEqual(withoutTimes(events), withoutTimes(whole.events));
    assert.deepEqual(await weightsOf(disturbed), await weightsOf(undisturbed));
  });
}

test('the best weights on the validation samples are what comes out', async (t) => {
  // a rate that ruins what the first steps learned
  const training = await tinyTraining(t, {
    full: true,
    optimization: { learningRate: 0.2, schedule: 'constant', maxSteps: 8, epochs: 1, maxGradNorm: 0 },
    evaluateEverySteps: 1,
  });
  const looks = eventsOf((await trainHere(training)).events, 'validation');
  const best = looks.reduce((one, other) => (other.validationLoss < one.validationLoss ? other : one));
  assert.ok(best.step < 8, `the loss is least after step ${best.step}`);
  const { plan } = training;
  const shorter = await elsewhere(t, {
    ...training,
    plan: { ...plan, optimization: { ...plan.optimization, maxSteps: best.step } },
  });
  await trainHere(shorter);
  assert.deepEqual(await weightsOf(training), await weightsOf(shorter));
});

test('maxSteps goes on through as many epochs as it takes', async (t) => {
  const training = await tinyTraining(t, { optimization: { maxSteps: 11, epochs: 1 } });
  const steps = eventsOf((await trainHere(training)).events, 'step');
  assert.equal(steps.length, 11);
  assert.equal(steps.at(-1)?.epoch, 11 / 8);
});

test('without validation the last weights come out', async (t) => {
  const training = await tinyTraining(t, { data: { validation: null } });
  const { events } = await trainHere(training);
  assert.deepEqual(eventsOf(events, 'validation'), []);
  assert.equal((await weightsOf(training)).size, 2 * (2 * 2 + 2 * 2));
});

test('a LoRA folder has what PEFT writes, and says which modules all-linear stood for', async (t) => {
  const training = await tinyTraining(
    t,
    { lora: { targetModules: ['all-linear'], useRslora: true, dropout: 0.1 }, optimization: { maxSteps: 1 } },
    { gated: true },
  );
  await trainHere(training);
  const config = await readObject(join(training.places.output, 'adapter_config.json'));
  assert.deepEqual(config.target_modules, ['k', 'o', 'q', 'v', 'wi_0', 'wi_1', 'wo']);
  assert.deepEqual(
    [
      config.peft_type,
      config.r,
      config.lora_alpha,
      config.lora_dropout,
      config.use_rslora,
      config.base_model_name_or_path,
    ],
    ['LORA', 4, 8, 0.1, true, training.model.name],
  );
  const names = [...(await weightsOf(training)).keys()];
  assert.ok(names.every((name) => /^base_model\.model\..*\.lora_[AB]\.weight$/.test(name)));
  assert.ok(!names.some((name) => name.includes('lm_head')));
  const base = {
    modelFolder: training.model.folder,
    config: parseT5Config(training.model.config),
    modelSource: training.plan.modelSource,
  };
  const { facts } = await readAdapter(training.places.output, base, { maxRank: 16 });
  assert.deepEqual(
    [[...facts.report.matchedTensors].sort(), facts.report.unmatchedTensors, facts.report.warnings],
    [names.sort(), [], []],
  );
});

test('a full folder is a model of its own: float32, with the template it was trained with', async (t) => {
  const training = await tinyTraining(
    t,
    { full: true, optimization: { maxSteps: 1 } },
    { dtype: 'F16', config: { dtype: 'float16' } },
  );
  await trainHere(training);
  const { output } = training.places;
  assert.equal((await readObject(join(output, 'config.json'))).dtype, 'float32');
  const generation = await readObject(join(output, 'generation_config.json'));
  assert.deepEqual([generation.prompt_template, generation.max_new_tokens], ['plain', 16]);
  assert.deepEqual([...(await weightsOf(training)).keys()].sort(), [...training.model.tensors.keys()].sort());
  const tokenizer = await readFile(join(output, 'tokenizer.json'), 'utf8');
  assert.equal(tokenizer, await readFile(join(training.model.folder, 'tokenizer.json'), 'utf8'));
});

test('texts and summaries that are too long are cut, counted, and told of', async (t) => {
  const training = await tinyTraining(t, { data: { maxSourceTokens: 6, maxTargetTokens: 3 } });
  const [prepared] = eventsOf((await trainHere(training)).events, 'prepared');
  assert.match(prepared?.warnings[0] ?? '', /^\d+ of 32 texts are cut to 6 tokens\.$/);
  assert.equal(prepared?.warnings[1], '32 of 32 summaries are cut to 3 tokens.');
});

test('a folder that this plan has made is done; one that it has not made is in the way', async (t) => {
  const training = await tinyTraining(t, { optimization: { maxSteps: 2 } });
  await trainHere(training);
  assert.deepEqual(await trainHere(training), { end: 'finished', events: [] });
  const other = { ...training, plan: { ...training.plan, threadCount: 2 } };
  await assert.rejects(trainHere(other), { code: 'CONFLICT', message: /a folder made is there already/ });
});

test('a loss that is no number ends the run with the step and its samples; the last checkpoint stays', async (t) => {
  const training = await tinyTraining(t, {
    full: true,
    optimization: { learningRate: 1e30, schedule: 'constant', warmupSteps: 0, maxGradNorm: 0 },
  });
  const last = join(training.places.checkpoints, 'last.safetensors');
  await assert.rejects(trainHere(training), (error: { code: string; message: string }) => {
    assert.equal(error.code, 'BAD_USER_INPUT');
    assert.match(
      error.message,
      /step \d+ gave a (loss|gradient) of .* on samples row-\d+, row-\d+, row-\d+, row-\d+\./,
    );
    return true;
  });
  assert.ok((await readTensors(last)).size > 0);
});

test('a checkpoint of other data is not taken up', async (t: TestContext) => {
  const training = await tinyTraining(t);
  assert.equal((await trainHere(training, ['step', 2])).end, 'stopped');
  const file = join(training.places.datasets.datasets, 'words', 'train.jsonl');
  await writeFile(file, (await readFile(file, 'utf8')).replaceAll('t7', 't8'));
  await assert.rejects(trainHere(training), { code: 'CONFLICT', message: /others came since its last checkpoint/ });
});

test('modules that the model does not have are named, with those there are', async (t) => {
  const training = await tinyTraining(t, { lora: { targetModules: ['q', 'c_attn'] } });
  await assert.rejects(trainHere(training), {
    code: 'BAD_USER_INPUT',
    message: /\(q, k, v, o, wi, wo, lm_head\).*"c_attn" came/,
  });
});
