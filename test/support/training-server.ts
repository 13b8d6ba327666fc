/** A server with the tiny model and a dataset to train it on, and what tests ask of its trainings. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { ServiceHooks } from '../../src/services.ts';
import {
  StartTrainingDocument,
  type StartTrainingInput,
  TrainingDocument,
  TrainingEventsDocument,
  type TrainingEventsSubscription,
} from '../generated/operations.ts';
import { type Cleanup, lastFirst } from './cleanup.ts';
import { writeDataset } from './dataset-files.ts';
import { startTestServer, type TestConnection, type TestServer } from './start-server.ts';
import { copyDatabase } from './test-database.ts';
import { temporaryFolder, writeTinyModel } from './tiny-model.ts';
import { tinyRows } from './tiny-training.ts';

export type TrainingEvent = TrainingEventsSubscription['trainingEvents'];

export interface TrainingPlace {
  readonly environment: Readonly<Record<string, string>>;
  readonly modelsDir: string;
  readonly adaptersDir: string;
  readonly datasetsDir: string;
  readonly dataDir: string;
}

export const TRAINING_ROWS = 32;
export const VALIDATION_ROWS = 8;

/** Everything that a server needs, in folders of its own: servers that are started one after the other share them. */
export async function makeTrainingPlace(t: Cleanup): Promise<TrainingPlace> {
  const { parent: modelsDir } = await writeTinyModel(t);
  const root = await temporaryFolder(t);
  const [adaptersDir, datasetsDir, dataDir] = [join(root, 'adapters'), join(root, 'datasets'), join(root, 'data')];
  await writeDataset(datasetsDir, 'words', {
    'train.jsonl': tinyRows(TRAINING_ROWS),
    'validation.jsonl': tinyRows(VALIDATION_ROWS, 2),
    'test.jsonl': tinyRows(VALIDATION_ROWS, 3),
  });
  await writeDataset(datasetsDir, 'alone', { 'train.jsonl': tinyRows(4), 'empty.jsonl': '' });
  await copyDatabase(dataDir);
  const environment = {
    GISTQL_MODEL: 'dir:tiny',
    GISTQL_MODELS_DIR: modelsDir,
    GISTQL_ADAPTERS_DIR: adaptersDir,
    GISTQL_DATASETS_DIR: datasetsDir,
    GISTQL_DATA_DIR: dataDir,
  };
  return { environment, modelsDir, adaptersDir, datasetsDir, dataDir };
}

export async function setUpTraining(
  t: Cleanup,
  hooks: ServiceHooks = {},
): Promise<{ readonly server: TestServer; readonly place: TrainingPlace }> {
  const cleanups = lastFirst(t);
  const place = await makeTrainingPlace(cleanups);
  return { place, server: await startTestServer(cleanups, place.environment, hooks) };
}

export function trainingInput(changes: Partial<StartTrainingInput> = {}): StartTrainingInput {
  const lora = { rank: 2, alpha: 4 };
  const common = { model: 'tiny', method: 'LORA', outputId: 'tuned', dataset: 'words', template: 'plain' } as const;
  const limits = { maxSourceTokens: 32, maxTargetTokens: 8, batchSize: 4, learningRate: 0.01 };
  return { ...common, ...limits, ...(changes.method === 'FULL' ? {} : { lora }), ...changes };
}

/** Starts a training and returns its id. */
export async function startTraining(server: TestServer, changes: Partial<StartTrainingInput> = {}): Promise<string> {
  return (await server.data(StartTrainingDocument, { input: trainingInput(changes) })).startTraining.id;
}

export async function trainingOf(server: TestServer, id: string) {
  const { training } = await server.data(TrainingDocument, { id });
  assert.ok(training);
  return training;
}

export async function* trainingEventsOf(
  connection: TestConnection,
  id: string,
  after: string | null = null,
): AsyncGenerator<TrainingEvent, void, void> {
  for await (const { data, errors } of connection.subscribe(TrainingEventsDocument, { id, after })) {
    assert.deepEqual(errors ?? [], []);
    assert.ok(data);
    yield data.trainingEvents;
  }
}

/** All events of a run until its end. */
export async function followTraining(
  server: TestServer,
  id: string,
  after: string | null = null,
): Promise<readonly TrainingEvent[]> {
  const connection = server.connect();
  try {
    const events: TrainingEvent[] = [];
    for await (const event of trainingEventsOf(connection, id, after)) events.push(event);
    return events;
  } finally {
    await connection.close();
  }
}

/** Resolves with the run when it is over. */
export async function trainingAtEnd(server: TestServer, id: string) {
  await followTraining(server, id);
  return await trainingOf(server, id);
}

/** The events as numbers, without what differs from run to run. */
export function measuredOf(events: readonly TrainingEvent[]): readonly unknown[] {
  return events.map(({ training: { status }, cursor, ...event }) => {
    if (event.__typename === 'TrainingFinished') return { cursor, status };
    if (event.__typename === 'TrainingValidation') return { cursor, ...event };
    const { tokensPerSecond: _, ...step } = event;
    return { cursor, ...step };
  });
}
