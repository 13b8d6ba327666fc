/** A server with the tiny model, two adapters and a dataset of its own, and what tests ask of its evaluations. */
import assert from 'node:assert/strict';
import type { ServiceHooks } from '../../src/services.ts';
import {
  EvaluationEventsDocument,
  type EvaluationEventsSubscription,
  EvaluationSamplesDocument,
  type EvaluationSamplesQuery,
  EvaluationTableDocument,
  LoadAdapterDocument,
  StartEvaluationDocument,
  type StartEvaluationInput,
} from '../generated/operations.ts';
import { type Cleanup, lastFirst } from './cleanup.ts';
import { type DatasetFiles, writeDataset } from './dataset-files.ts';
import { seededNumbers } from './seeded-numbers.ts';
import { startTestServer, type TestConnection, type TestServer } from './start-server.ts';
import { copyDatabase } from './test-database.ts';
import { writeTinyAdapter } from './tiny-adapter.ts';
import { temporaryFolder, writeTinyModel } from './tiny-model.ts';

export type RunEvent = EvaluationEventsSubscription['evaluationEvents'];

export const STEPS = 6;
export const decoding = { minNewTokens: STEPS, maxNewTokens: STEPS };
export const template = 'plain';

/** Three ways for the tiny model to answer, each with other tokens. */
export const variants: StartEvaluationInput['variants'] = [
  { label: 'base', adapters: [], template, decoding },
  { label: 'adapter', adapters: [{ id: 'one' }], template, decoding },
  { label: 'beams', adapters: [{ id: 'two' }], template, decoding: { ...decoding, numBeams: 2 } },
];

/** Rows whose words the tiny model knows, with two references. */
export function tinyRows(count: number, seed = 1): readonly object[] {
  const random = seededNumbers(seed);
  const words = (length: number): string => Array.from({ length }, () => `t${3 + Math.floor(random() * 57)}`).join(' ');
  return Array.from({ length: count }, (_, row) => ({
    fname: `row_${row}`,
    dialogue: words(4 + (row % 5)),
    summary1: words(12),
    summary2: words(14),
  }));
}

export interface EvaluationPlace {
  readonly environment: Readonly<Record<string, string>>;
  readonly modelsDir: string;
  readonly adaptersDir: string;
  readonly datasetsDir: string;
  readonly dataDir: string;
}

/** Everything that a server needs, in folders of its own: servers that are started one after the other share them. */
export async function makePlace(t: Cleanup, files: DatasetFiles): Promise<EvaluationPlace> {
  const { parent } = await writeTinyModel(t);
  const [adaptersDir, datasetsDir, dataDir] = [
    await temporaryFolder(t),
    await temporaryFolder(t),
    await temporaryFolder(t),
  ];
  await writeTinyAdapter(adaptersDir, 'one', { seed: 1, spread: 1 });
  await writeTinyAdapter(adaptersDir, 'two', { seed: 2, spread: 0.7, rank: 2 });
  await writeDataset(datasetsDir, 'tiny', files);
  await copyDatabase(dataDir);
  const environment = {
    GISTQL_MODEL: 'dir:tiny',
    GISTQL_MODELS_DIR: parent,
    GISTQL_ADAPTERS_DIR: adaptersDir,
    GISTQL_DATASETS_DIR: datasetsDir,
    GISTQL_DATA_DIR: dataDir,
  };
  return { environment, modelsDir: parent, adaptersDir, datasetsDir, dataDir };
}

export async function loadAdapters(server: TestServer): Promise<void> {
  for (const id of ['one', 'two']) {
    await server.data(LoadAdapterDocument, { input: { id, model: 'tiny', source: `dir:${id}` } });
  }
}

/** A server over rows of the split `test`, with both adapters. */
export async function setUp(
  t: Cleanup,
  {
    rows = tinyRows(12),
    environment = {},
    hooks = {},
  }: {
    readonly rows?: readonly object[];
    readonly environment?: Readonly<Record<string, string>>;
    readonly hooks?: ServiceHooks;
  } = {},
): Promise<{ readonly server: TestServer; readonly place: EvaluationPlace }> {
  const cleanups = lastFirst(t);
  const place = await makePlace(cleanups, { 'test.jsonl': rows });
  const server = await startTestServer(cleanups, { ...place.environment, ...environment }, hooks);
  await loadAdapters(server);
  return { server, place };
}

/** Starts a run of `variants` over the split `test` and returns its id. */
export async function startRun(server: TestServer, changes: Partial<StartEvaluationInput> = {}): Promise<string> {
  const input = { dataset: 'tiny', variants, ...changes };
  return (await server.data(StartEvaluationDocument, { input })).startEvaluation.id;
}

export async function* eventsOf(
  connection: TestConnection,
  id: string,
  after: string | null = null,
): AsyncGenerator<RunEvent, void, void> {
  for await (const { data, errors } of connection.subscribe(EvaluationEventsDocument, { id, after })) {
    assert.deepEqual(errors ?? [], []);
    assert.ok(data);
    yield data.evaluationEvents;
  }
}

/** All events of a run until its end. */
export async function follow(
  server: TestServer,
  id: string,
  after: string | null = null,
): Promise<readonly RunEvent[]> {
  const connection = server.connect();
  try {
    const events: RunEvent[] = [];
    for await (const event of eventsOf(connection, id, after)) events.push(event);
    return events;
  } finally {
    await connection.close();
  }
}

/** Resolves with the run's table when it is over. */
export async function tableAtEnd(server: TestServer, id: string) {
  await follow(server, id);
  return await tableOf(server, id);
}

export async function tableOf(server: TestServer, id: string) {
  const { evaluation } = await server.data(EvaluationTableDocument, { id });
  assert.ok(evaluation);
  return evaluation;
}

export type Table = Awaited<ReturnType<typeof tableOf>>;

/** What of a table does not depend on when and how fast it came about. */
export function comparable({ variants: rows, comparisons, signature, status, samplesDone, samplesTotal }: Table) {
  const plain = rows.map(({ tokensPerSecond: _, ...row }) => row);
  return { variants: plain, comparisons, signature, status, samplesDone, samplesTotal };
}

/** All samples of a run, a page at a time, without how long they took. */
export async function samplesOf(server: TestServer, id: string, first = 5) {
  const samples: Sample[] = [];
  let after: string | null = null;
  do {
    const { evaluation }: EvaluationSamplesQuery = await server.data(EvaluationSamplesDocument, { id, first, after });
    assert.ok(evaluation);
    const { edges, pageInfo }: NonNullable<EvaluationSamplesQuery['evaluation']>['samples'] = evaluation.samples;
    samples.push(...edges.map(({ node }) => node));
    after = pageInfo.hasNextPage ? pageInfo.endCursor : null;
  } while (after !== null);
  return samples.map(withoutTimes);
}

type Sample = NonNullable<EvaluationSamplesQuery['evaluation']>['samples']['edges'][number]['node'];

export function withoutTimes(sample: Sample) {
  return { ...sample, outputs: sample.outputs.map(({ latencyMs: _, ...output }) => output) };
}

/** The indexes of the samples told, in the order of telling. */
export function sampleIndexes(events: readonly RunEvent[]): readonly number[] {
  return events.flatMap((event) => (event.__typename === 'SampleScored' ? [event.sample.index] : []));
}

/** Events of a run from a server that may end, or may not be there, at any moment; `cursor` is that of the last one. */
export class ResumingSubscriber {
  readonly events: RunEvent[] = [];
  cursor: string | null = null;

  constructor(private readonly id: string) {}

  get isOver(): boolean {
    return this.events.at(-1)?.__typename === 'EvaluationFinished';
  }

  /** Reads on until the connection ends, the run does, or `isEnough` says so of an event. */
  async readOn(server: TestServer, isEnough: (event: RunEvent) => boolean = () => false): Promise<void> {
    const connection = server.connect();
    try {
      for await (const event of eventsOf(connection, this.id, this.cursor)) {
        this.events.push(event);
        this.cursor = event.cursor;
        if (isEnough(event)) return;
      }
    } catch (error) {
      // a socket that closed; an answer that is wrong is an AssertionError
      if (error instanceof Error && error.name === 'AssertionError') throw error;
    } finally {
      connection.terminate();
      await connection.close();
    }
  }
}

/** Each sample once, numbered by its cursor without a gap; then the end, which is told once. */
export function assertWhole(events: readonly RunEvent[], count: number): void {
  const samples = events.filter(({ __typename }) => __typename === 'SampleScored');
  assert.deepEqual(
    samples.map(({ cursor }) => Number(cursor)),
    Array.from({ length: count }, (_, index) => index + 1),
  );
  assert.equal(new Set(sampleIndexes(events)).size, count);
  assert.deepEqual(
    events.filter(({ __typename }) => __typename === 'EvaluationFinished'),
    events.slice(-1),
  );
}
