/** What is wrong with a training is said before it is queued, and serving goes on. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import {
  CancelTrainingDocument,
  LoadAdapterDocument,
  LoadModelDocument,
  ResumeTrainingDocument,
  StartTrainingDocument,
  type StartTrainingInput,
  SummarizeDocument,
  TrainingDocument,
  TrainingEventsDocument,
  TrainingsDocument,
} from '../generated/operations.ts';
import { repositoryPath } from '../support/oracle.ts';
import { ScriptedTrainer } from '../support/scripted-trainer.ts';
import type { Answer } from '../support/start-server.ts';
import { writeTinyAdapter } from '../support/tiny-adapter.ts';
import { tinyGpt2, writeTinyDecoderOnly } from '../support/tiny-decoder-only.ts';
import { followTraining, setUpTraining, startTraining, trainingInput } from '../support/training-server.ts';
import { newStep } from '../support/trainings.ts';

const trainer = new ScriptedTrainer();
const { server, place } = await setUpTraining({ after }, { runTraining: trainer.run });

function assertError({ errors: [error] }: Answer<unknown>, code: string, argument?: string): void {
  assert.equal(error?.extensions.code, code, JSON.stringify(error));
  assert.equal(error.extensions.argument, argument, JSON.stringify(error));
}

async function refused(changes: Partial<StartTrainingInput>, code: string, argument?: string): Promise<string> {
  const answer = await server.ask(StartTrainingDocument, { input: trainingInput(changes) });
  assertError(answer, code, argument);
  return answer.errors[0]?.message ?? '';
}

test('numbers that cannot be are refused by name', async () => {
  const lora = (changes: object) => ({ lora: { rank: 2, ...changes } });
  const cases: readonly (readonly [Partial<StartTrainingInput>, string])[] = [
    [lora({ rank: 0 }), 'rank'],
    [lora({ rank: 257 }), 'rank'],
    [lora({ dropout: 1 }), 'dropout'],
    [lora({ dropout: -0.1 }), 'dropout'],
    [lora({ alpha: 0 }), 'alpha'],
    [{ learningRate: 0 }, 'learningRate'],
    [{ learningRate: -1e-3 }, 'learningRate'],
    [{ epochs: 0 }, 'epochs'],
    [{ epochs: -1 }, 'epochs'],
    [{ epochs: 1e12 }, 'epochs'],
    [{ maxSteps: 0 }, 'maxSteps'],
    [{ batchSize: 0 }, 'batchSize'],
    [{ batchSize: 5000 }, 'batchSize'],
    [{ gradientAccumulation: 0 }, 'gradientAccumulation'],
    [{ warmupSteps: -1 }, 'warmupSteps'],
    [{ weightDecay: -1 }, 'weightDecay'],
    [{ maxGradNorm: -1 }, 'maxGradNorm'],
    [{ labelSmoothing: 1 }, 'labelSmoothing'],
    [{ seed: -1 }, 'seed'],
    [{ limit: 0 }, 'limit'],
    [{ evaluateEverySteps: 0 }, 'evaluateEverySteps'],
    [{ validationSplit: 'test', validationLimit: 0 }, 'validationLimit'],
    [{ maxSourceTokens: 0 }, 'maxSourceTokens'],
    // the tiny model takes 64
    [{ maxSourceTokens: 65 }, 'maxSourceTokens'],
    [{ maxTargetTokens: 1 }, 'maxTargetTokens'],
    [{ template: 'summarize-conversation', maxSourceTokens: 4 }, 'maxSourceTokens'],
  ];
  for (const [change, argument] of cases) await refused(change, 'BAD_USER_INPUT', argument);
});

test('what is named must be there, and the message lists what is', async () => {
  assert.match(
    await refused({ lora: { targetModules: ['q', 'query'] } }, 'BAD_USER_INPUT', 'targetModules'),
    /\(.*q, k, v, o.*\).*"query" came/,
  );
  await refused({ lora: { targetModules: [] } }, 'BAD_USER_INPUT', 'targetModules');
  await refused({ lora: { targetModules: ['all-linear', 'q'] } }, 'BAD_USER_INPUT', 'targetModules');
  await refused({ lora: { targetModules: ['layer_norm'] } }, 'BAD_USER_INPUT', 'targetModules');
  assert.match(await refused({ model: 'none' }, 'NOT_FOUND', 'model'), /\(tiny\), "none" came/);
  assert.match(await refused({ dataset: 'none' }, 'NOT_FOUND', 'dataset'), /alone, everyday, words/);
  await refused({ dataset: '../words' }, 'BAD_USER_INPUT', 'dataset');
  assert.match(await refused({ split: 'none' }, 'NOT_FOUND', 'split'), /test, train, validation/);
  assert.match(
    await refused({ validationSplit: 'none' }, 'BAD_USER_INPUT', 'validationSplit'),
    /test, train, validation/,
  );
  await refused({ template: 'none' }, 'NOT_FOUND', 'template');
  await refused({ dataset: 'alone', split: 'empty' }, 'INVALID_DATASET');
  await refused({ idempotencyKey: ' ' }, 'BAD_USER_INPUT', 'idempotencyKey');
});

test('an argument that this training does not have is refused, not ignored', async () => {
  await refused({ method: 'FULL', lora: { rank: 2 } }, 'UNSUPPORTED_ARGUMENT', 'lora');
  await refused({ dataset: 'alone', evaluateEverySteps: 2 }, 'UNSUPPORTED_ARGUMENT', 'evaluateEverySteps');
  await refused({ dataset: 'alone', validationLimit: 2 }, 'UNSUPPORTED_ARGUMENT', 'validationLimit');
});

test('what a decoder-only model cannot be trained with is refused', async () => {
  const short = await writeTinyDecoderOnly({ after }, { ...tinyGpt2, n_positions: 6 });
  await cp(short.folder, join(place.modelsDir, 'short'), { recursive: true });
  await mkdir(join(place.modelsDir, 'gguf'));
  await cp(repositoryPath('test/fixtures/gguf/tiny-qwen2/model.gguf'), join(place.modelsDir, 'gguf/model.gguf'));
  for (const id of ['short', 'gguf']) await server.data(LoadModelDocument, { input: { id, source: `dir:${id}` } });
  const template = 'summarize-conversation';
  // a summary may take half of the positions, and leaves the template too few
  const message = await refused(
    { model: 'short', template, maxSourceTokens: 5, maxTargetTokens: 100 },
    'BAD_USER_INPUT',
    'maxTargetTokens',
  );
  assert.match(message, /alone takes \d+ of 3 tokens\. Lower it, or choose a shorter template/);
  await refused({ model: 'short', maxSourceTokens: 6 }, 'BAD_USER_INPUT', 'maxSourceTokens');
  assert.match(await refused({ model: 'gguf', method: 'FULL' }, 'UNSUPPORTED_ARGUMENT', 'method'), /GGUF/);
});

test('an output that is in use, or cannot be one, is refused', async () => {
  await writeTinyAdapter(place.adaptersDir, 'files');
  await server.data(LoadAdapterDocument, { input: { id: 'loaded', model: 'tiny', source: 'dir:files' } });
  await mkdir(join(place.modelsDir, 'folder'));
  await refused({ outputId: 'loaded' }, 'CONFLICT', 'outputId');
  await refused({ outputId: 'files' }, 'CONFLICT', 'outputId');
  await refused({ method: 'FULL', outputId: 'folder' }, 'CONFLICT', 'outputId');
  await refused({ method: 'FULL', outputId: 'tiny' }, 'CONFLICT', 'outputId');
  for (const outputId of ['', '.', '..', '../out', 'a/b', '.hidden', 'é', 'a'.repeat(129)]) {
    await refused({ outputId }, 'BAD_USER_INPUT', 'outputId');
  }
});

test('nothing of it was queued, and the server answers', async () => {
  assert.deepEqual((await server.data(TrainingsDocument, {})).trainings, []);
  assert.equal(trainer.count, 0);
  const input = { text: 't5 t6', template: 'plain', decoding: { maxNewTokens: 2 } };
  assert.ok((await server.data(SummarizeDocument, { input })).summarize.id);
});

test('a training that is not there is NOT_FOUND, and page sizes and cursors that cannot be are refused', async () => {
  for (const id of [randomUUID(), 'none', '']) {
    assert.equal((await server.data(TrainingDocument, { id })).training, null);
    assertError(await server.ask(CancelTrainingDocument, { id }), 'NOT_FOUND', 'id');
    assertError(await server.ask(ResumeTrainingDocument, { id }), 'NOT_FOUND', 'id');
    assert.deepEqual(await refusalOf(id, null), ['NOT_FOUND', 'id']);
  }
  for (const first of [0, -1, 501])
    assertError(await server.ask(TrainingsDocument, { first }), 'BAD_USER_INPUT', 'first');
  const id = await startTraining(server);
  const run = await trainer.next();
  await run.tell(newStep(1));
  await run.finish();
  await followTraining(server, id);
  for (const cursor of ['', 'x', '-1', '1.5', '2', '2:end', '1:END', '1e3']) {
    assert.deepEqual(await refusalOf(id, cursor), ['BAD_USER_INPUT', 'after'], cursor);
  }
});

/** The code and argument of the error that following a run ends with. */
async function refusalOf(id: string, cursor: string | null): Promise<readonly unknown[]> {
  const connection = server.connect();
  try {
    for await (const { errors } of connection.subscribe(TrainingEventsDocument, { id, after: cursor })) {
      if (errors !== undefined) return [errors[0]?.extensions?.code, errors[0]?.extensions?.argument];
    }
    return [];
  } catch (error) {
    const [first] = error as { extensions: { code: string; argument?: string } }[];
    return [first?.extensions.code, first?.extensions.argument];
  } finally {
    await connection.close();
  }
}
