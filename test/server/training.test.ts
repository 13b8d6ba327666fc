/** Train, come into service, answer: with the real trainer on a tiny model. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { SummarizeDocument, TrainingsDocument } from '../generated/operations.ts';
import { tinyRows } from '../support/tiny-training.ts';
import {
  followTraining,
  setUpTraining,
  startTraining,
  TRAINING_ROWS,
  trainingAtEnd,
  trainingOf,
  VALIDATION_ROWS,
} from '../support/training-server.ts';

const decoding = { maxNewTokens: 6, minNewTokens: 6 };

test('a LoRA adapter is trained, told step by step, and answers when it is named', async (t) => {
  const { server, place } = await setUpTraining(t);
  const id = await startTraining(server, { epochs: 2, evaluateEverySteps: 5, warmupSteps: 3, learningRate: 0.05 });
  const waiting = await trainingOf(server, id);
  const events = await followTraining(server, id);
  const steps = events.filter((event) => event.__typename === 'TrainingStep');
  const stepsTotal = (2 * TRAINING_ROWS) / 4;
  assert.deepEqual([waiting.stepsTotal, waiting.adapter], [stepsTotal, null]);
  assert.deepEqual(
    steps.map(({ step }) => step),
    Array.from({ length: stepsTotal }, (_, index) => index + 1),
  );
  assert.deepEqual(
    events.flatMap((event) => (event.__typename === 'TrainingValidation' ? [event.step] : [])),
    [5, 10, 15, stepsTotal],
  );
  assert.ok((steps.at(-1)?.loss ?? 0) < (steps[0]?.loss ?? 0));
  const training = await trainingOf(server, id);
  assert.equal(training.status, 'SUCCEEDED', training.error ?? '');
  assert.deepEqual([training.step, training.epoch, training.method], [stepsTotal, 2, 'LORA']);
  assert.deepEqual(training.adapter, { id: 'tuned', source: 'dir:tuned', rank: 2, status: 'READY' });
  assert.equal(training.trainableParameters, waiting.trainableParameters);
  assert.equal(training.trainableShare, waiting.trainableShare);
  assert.ok(training.validationLoss !== null && training.bestValidationLoss !== null);
  assert.ok(training.bestValidationLoss <= training.validationLoss);
  assert.ok(!existsSync(join(place.dataDir, 'trainings', id)), 'checkpoints are left');
  const texts = tinyRows(VALIDATION_ROWS, 5).map(({ dialogue }) => dialogue);
  const answers = (adapters: { id: string }[]) =>
    Promise.all(
      texts.map(async (text) => {
        const input = { text, adapters, template: 'plain', decoding };
        return (await server.data(SummarizeDocument, { input })).summarize.text;
      }),
    );
  assert.notDeepEqual(await answers([{ id: 'tuned' }]), await answers([]));
});

test('a model is trained whole, comes into service beside its base, and the runs are listed newest first', async (t) => {
  const { server } = await setUpTraining(t);
  const first = await trainingAtEnd(
    server,
    await startTraining(server, { method: 'FULL', outputId: 'whole', maxSteps: 3 }),
  );
  assert.equal(first.status, 'SUCCEEDED', first.error ?? '');
  assert.deepEqual(
    [first.outputModel, first.adapter, first.trainableShare],
    [{ id: 'whole', source: 'dir:whole' }, null, 1],
  );
  const second = await trainingAtEnd(server, await startTraining(server, { maxSteps: 1, limit: 3 }));
  assert.deepEqual([second.status, second.step], ['SUCCEEDED', 1]);
  const { trainings } = await server.data(TrainingsDocument, {});
  assert.deepEqual(
    trainings.map(({ id }) => id),
    [second.id, first.id],
  );
});
