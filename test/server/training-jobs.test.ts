/** What becomes of a training whose trainer does this or that: told, cancelled, resumed, restarted, failed. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { RuntimeError } from '../../src/runtime/errors.ts';
import {
  CancelTrainingDocument,
  ResumeTrainingDocument,
  StartTrainingDocument,
  SummarizeDocument,
} from '../generated/operations.ts';
import { ScriptedTrainer } from '../support/scripted-trainer.ts';
import type { Answer } from '../support/start-server.ts';
import {
  followTraining,
  setUpTraining,
  startTraining,
  trainingAtEnd,
  trainingInput,
  trainingOf,
} from '../support/training-server.ts';
import { newStep, newValidation } from '../support/trainings.ts';

const prepared = {
  type: 'prepared',
  stepsTotal: 4,
  trainableParameters: 100,
  totalParameters: 1000,
  step: 0,
  warnings: ['1 of 32 texts are cut to 32 tokens.'],
} as const;

const trainer = new ScriptedTrainer();
const { server, place } = await setUpTraining({ after }, { runTraining: trainer.run });

function assertError({ errors: [error] }: Answer<unknown>, code: string, argument?: string): void {
  assert.equal(error?.extensions.code, code, JSON.stringify(error));
  assert.equal(error.extensions.argument, argument);
}

test('what the trainer tells is what the run says and what its events tell', async () => {
  const id = await startTraining(server, {
    outputId: 'told',
    evaluateEverySteps: 2,
    epochs: 2.5,
    seed: 7,
    lora: { targetModules: ['wo'] },
  });
  const run = await trainer.next();
  const { plan, places } = run;
  assert.deepEqual(plan.data.validation, { split: 'validation', limit: null });
  assert.deepEqual(
    [plan.modelSource, plan.optimization.epochs, plan.optimization.seed, plan.lora?.targetModules, plan.lora?.rank],
    ['dir:tiny', 2.5, 7, ['wo'], 8],
  );
  assert.deepEqual(
    [places.output, places.checkpoints],
    [join(place.adaptersDir, 'told'), join(place.dataDir, 'trainings', id)],
  );
  assert.deepEqual([(await trainingOf(server, id)).stepsTotal, (await trainingOf(server, id)).etaSeconds], [20, null]);
  await run.tell(prepared, newStep(1), newStep(2), newValidation(2));
  const running = await trainingOf(server, id);
  assert.deepEqual([running.status, running.step, running.stepsTotal], ['RUNNING', 2, 4]);
  assert.deepEqual(running.warnings, prepared.warnings);
  assert.deepEqual([running.trainableParameters, running.trainableShare], [100, 0.1]);
  assert.ok(running.etaSeconds !== null && running.etaSeconds > 0);
  const following = followTraining(server, id, '1');
  await run.tell(newStep(3), newStep(4), newValidation(4, 9));
  await run.finish();
  const events = await following;
  assert.deepEqual(
    events.map((event) => [event.__typename, event.cursor, 'step' in event ? event.step : undefined]),
    [
      ['TrainingStep', '2', 2],
      ['TrainingValidation', '3', 2],
      ['TrainingStep', '4', 3],
      ['TrainingStep', '5', 4],
      ['TrainingValidation', '6', 4],
      ['TrainingFinished', '6:end', undefined],
    ],
  );
  const { type: _, epoch: _epoch, ...third } = newStep(3);
  const { __typename, cursor, training, ...told } = events[2] ?? assert.fail();
  assert.deepEqual(told, third);
  const ended = await trainingOf(server, id);
  assert.deepEqual([ended.status, ended.adapter?.id, ended.etaSeconds], ['SUCCEEDED', 'told', null]);
  assert.deepEqual([ended.validationLoss, ended.bestValidationLoss], [9, 1.5]);
  assert.deepEqual(await followTraining(server, id, '6:end'), []);
  assert.equal((await followTraining(server, id)).length, 7);
});

test('a cancelled run keeps its checkpoints and goes on when it is resumed, telling nothing twice', async () => {
  const id = await startTraining(server, { outputId: 'resumed' });
  const first = await trainer.next();
  await mkdir(first.places.checkpoints, { recursive: true });
  await writeFile(join(first.places.checkpoints, 'last.safetensors'), '');
  await first.tell(prepared, newStep(1), newStep(2));
  assertError(await server.ask(ResumeTrainingDocument, { id }), 'CONFLICT', 'id');
  await server.data(CancelTrainingDocument, { id });
  const events = await followTraining(server, id);
  assert.ok(first.isStopped);
  assert.equal(events.at(-1)?.training.status, 'CANCELLED');
  assert.ok(existsSync(join(first.places.checkpoints, 'last.safetensors')));
  const { resumeTraining } = await server.data(ResumeTrainingDocument, { id });
  assert.deepEqual([resumeTraining.finishedAt, resumeTraining.step], [null, 2]);
  const second = await trainer.next();
  assert.deepEqual([second.plan, second.places], [first.plan, first.places]);
  const rest = followTraining(server, id, events.at(-1)?.cursor);
  // the checkpoint was of step 1
  await second.tell({ ...prepared, step: 1 }, newStep(2), newStep(3), newStep(4));
  await second.finish();
  assert.deepEqual(
    (await rest).map(({ cursor }) => cursor),
    ['3', '4', '4:end'],
  );
  assert.equal((await trainingOf(server, id)).status, 'SUCCEEDED');
  assert.ok(!existsSync(first.places.checkpoints));
  assertError(await server.ask(ResumeTrainingDocument, { id }), 'CONFLICT', 'id');
});

test('one run at a time; one that waits is cancelled at once; an output is made by one run', async () => {
  const before = trainer.count;
  const running = await startTraining(server, { outputId: 'one' });
  const first = await trainer.next();
  assertError(
    await server.ask(StartTrainingDocument, { input: trainingInput({ outputId: 'one' }) }),
    'CONFLICT',
    'outputId',
  );
  const waiting = await startTraining(server, { outputId: 'next' });
  const { cancelTraining } = await server.data(CancelTrainingDocument, { id: waiting });
  assert.deepEqual([cancelTraining.status, cancelTraining.step], ['CANCELLED', 0]);
  const third = await startTraining(server, { outputId: 'third' });
  assert.equal((await trainingOf(server, third)).status, 'QUEUED');
  await first.finish();
  const next = await trainer.next();
  assert.equal((await trainingOf(server, running)).status, 'SUCCEEDED');
  assert.equal(next.plan.outputId, 'third');
  await server.data(CancelTrainingDocument, { id: third });
  assert.equal((await trainingAtEnd(server, third)).status, 'CANCELLED');
  assert.equal(trainer.count - before, 2);
});

test('the same key gives the same run, also at once; with another request it is refused', async () => {
  const input = trainingInput({ outputId: 'keyed', idempotencyKey: 'key' });
  const answers = await Promise.all([1, 2, 3].map(() => server.data(StartTrainingDocument, { input })));
  assert.equal(new Set(answers.map(({ startTraining: { id } }) => id)).size, 1);
  const other = { ...input, seed: 1 };
  assertError(await server.ask(StartTrainingDocument, { input: other }), 'CONFLICT', 'idempotencyKey');
  await (await trainer.next()).finish();
  await trainingAtEnd(server, answers[0]?.startTraining.id ?? '');
});

test('a process that ends is followed by another; three in a row without a new step end the run', async () => {
  const id = await startTraining(server, { outputId: 'dying' });
  const death = (): Error => new Error('it ended by SIGKILL');
  const before = trainer.count;
  for (const step of [1, 2, 3, 4]) {
    // two deaths in a row are survived, as often as there is a new step in between
    (await trainer.next()).fail(death());
    const next = await trainer.next();
    await next.tell(prepared, newStep(step));
    next.fail(death());
  }
  const last = await trainer.next();
  // what comes again is no progress
  await last.tell(newStep(4));
  last.fail(death());
  (await trainer.next()).fail(death());
  const { status, error, step } = await trainingAtEnd(server, id);
  assert.deepEqual([status, step], ['FAILED', 4]);
  assert.match(error ?? '', /ended 3 times in a row before a new step \(it ended by SIGKILL\)/);
  assert.equal(trainer.count - before, 10);
  await server.data(ResumeTrainingDocument, { id });
  await (await trainer.next()).finish();
  assert.equal((await trainingAtEnd(server, id)).status, 'SUCCEEDED');
});

test('a run that cannot be carried out fails with its message, and serving goes on', async () => {
  const id = await startTraining(server, { outputId: 'failing' });
  const run = await trainer.next();
  await run.tell(prepared, newStep(1));
  run.fail(new RuntimeError('BAD_USER_INPUT', 'Expected a finite loss, step 2 gave NaN on samples row-3.'));
  const events = await followTraining(server, id);
  assert.equal(events.at(-1)?.training.status, 'FAILED');
  assert.equal((await trainingOf(server, id)).error, 'Expected a finite loss, step 2 gave NaN on samples row-3.');
  const input = { text: 't5 t6', template: 'plain', decoding: { maxNewTokens: 2 } };
  assert.ok((await server.data(SummarizeDocument, { input })).summarize.id);
});

test('what cannot be brought into service fails by name; mended and resumed, it is only brought in', async () => {
  const id = await startTraining(server, { outputId: 'mended' });
  const output = join(place.adaptersDir, 'mended');
  await mkdir(output, { recursive: true });
  (await trainer.next()).say('finished');
  const failed = await trainingAtEnd(server, id);
  assert.equal(failed.status, 'FAILED');
  assert.match(failed.error ?? '', /Expected a file adapter_config\.json/);
  await rm(output, { recursive: true });
  await server.data(ResumeTrainingDocument, { id });
  await (await trainer.next()).finish();
  const ended = await trainingAtEnd(server, id);
  assert.deepEqual([ended.status, ended.adapter?.status], ['SUCCEEDED', 'READY']);
});
