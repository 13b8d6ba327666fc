/** The samples of a run as a file. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, get, type IncomingMessage, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { parse } from 'csv-parse/sync';
import { sendExport, stream } from '../../src/server/evaluation-export.ts';
import { InFlight } from '../../src/server/in-flight.ts';
import { EvaluationStore } from '../../src/storage/evaluation-store.ts';
import {
  CancelEvaluationDocument,
  EvaluationSamplesDocument,
  type EvaluationSamplesQuery,
} from '../generated/operations.ts';
import { eventsOf, follow, makePlace, setUp, startRun, tinyRows, variants } from '../support/evaluation-server.ts';
import { newSample, startRun as startStoredRun } from '../support/evaluations.ts';
import { startTestServer, type TestServer } from '../support/start-server.ts';
import { databaseTest } from '../support/test-database.ts';

type Sample = NonNullable<EvaluationSamplesQuery['evaluation']>['samples']['edges'][number]['node'];

/** Texts that are hard to put into a line, or that a spreadsheet would run. */
const hardTexts = [
  't3, t4; "t5"',
  't3\nt4\r\nt5\rt6',
  '=HYPERLINK("http://127.0.0.1")',
  '+1',
  '-1',
  '@SUM(A1)',
  "'tis t7",
  '\tt8',
  '＝t9',
  't10\u2028t11 é 🦆',
  '""',
  ',',
];

async function graphqlSamples(server: TestServer, id: string): Promise<readonly Sample[]> {
  const { evaluation } = await server.data(EvaluationSamplesDocument, { id, first: 100 });
  assert.ok(evaluation);
  return evaluation.samples.edges.map(({ node }) => node);
}

function exportUrl(server: TestServer, id: string, extension: string): string {
  return `${server.url}/evaluations/${id}/samples.${extension}`;
}

async function readJsonLines(server: TestServer, id: string): Promise<readonly Sample[]> {
  const body = await (await fetch(exportUrl(server, id, 'jsonl'))).text();
  return body
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Sample);
}

/** A cell as it was before its ' was put in front. */
function plain(cell: string): string {
  return cell.replace(/^'/, '');
}

const METRICS = ['rouge1', 'rouge2', 'rougeL', 'rougeLsum'] as const;

/** The rows that a reader of CSV should get of samples, all cells as values. */
function rowsOf(samples: readonly Sample[]): readonly unknown[] {
  return samples.flatMap(({ index, sampleId, text, references, outputs }) =>
    outputs.map(({ label, summary, completionTokens, latencyMs, truncated, rouge }) => ({
      ...{ index, sampleId, label },
      scores: METRICS.flatMap((metric) => [rouge[metric].precision, rouge[metric].recall, rouge[metric].fmeasure]),
      ...{
        completionTokens,
        latencyMs,
        truncated: String(truncated),
        warnings: rouge.warnings,
        summary,
        references,
        text,
      },
    })),
  );
}

function readRows(csv: string): readonly unknown[] {
  const records = parse(csv, { columns: true, relax_quotes: false, record_delimiter: '\r\n' });
  return (records as readonly Record<string, string>[]).map((row) => {
    const cell = (name: string): string => row[name] ?? assert.fail(name);
    return {
      index: Number(cell('index')),
      sampleId: plain(cell('sampleId')),
      label: plain(cell('label')),
      scores: METRICS.flatMap((metric) =>
        ['Precision', 'Recall', 'Fmeasure'].map((part) => Number(cell(`${metric}${part}`))),
      ),
      completionTokens: Number(cell('completionTokens')),
      latencyMs: Number(cell('latencyMs')),
      truncated: cell('truncated'),
      warnings: JSON.parse(cell('warnings')) as unknown,
      summary: plain(cell('summary')),
      references: JSON.parse(cell('references')) as unknown,
      text: plain(cell('text')),
    };
  });
}

test('exports of a run', async (t) => {
  const rows = tinyRows(hardTexts.length).map((row, index) => ({
    ...row,
    fname: hardTexts[index],
    dialogue: hardTexts[index],
    summary2: hardTexts[index],
  }));
  const { server } = await setUp(t, { rows });
  const labels = ['=1+1', 'a "quoted", label', "'"];
  const labelled = variants.map((variant, index) => ({ ...variant, label: labels[index] ?? '' }));
  const id = await startRun(server, { variants: labelled });
  await follow(server, id);

  await t.test('both files hold what the samples of GraphQL hold, however hard the texts are', async () => {
    const samples = await graphqlSamples(server, id);
    assert.equal(samples.length, hardTexts.length);
    assert.ok(samples.some(({ outputs }) => outputs.some(({ rouge }) => rouge.warnings.length > 0)));
    assert.deepEqual(await readJsonLines(server, id), samples);
    const csv = await (await fetch(exportUrl(server, id, 'csv'))).text();
    assert.deepEqual(readRows(csv), rowsOf(samples));
    const cells = (parse(csv) as readonly (readonly string[])[]).flat();
    assert.deepEqual(
      cells.filter((cell) => /^[=+\-@\t\r\n＝＋－＠]/.test(cell)),
      [],
    );
  });

  await t.test('the head says what the file is; HEAD gives it alone; other methods are refused', async () => {
    const types = { jsonl: 'application/jsonl; charset=utf-8', csv: 'text/csv; charset=utf-8; header=present' };
    for (const [extension, type] of Object.entries(types)) {
      for (const method of ['GET', 'HEAD']) {
        const response = await fetch(exportUrl(server, id.toUpperCase(), extension), { method });
        assert.equal(response.status, 200);
        assert.equal(response.headers.get('content-type'), type);
        const disposition = `attachment; filename="evaluation-${id}.${extension}"`;
        assert.equal(response.headers.get('content-disposition'), disposition);
        assert.equal((await response.text()) === '', method === 'HEAD');
      }
    }
    const response = await fetch(exportUrl(server, id, 'csv'), { method: 'POST', body: 'x' });
    assert.deepEqual([response.status, response.headers.get('allow')], [405, 'GET, HEAD']);
  });

  await t.test('what is not there is NOT_FOUND, in the form of every error', async () => {
    const unknown = '00000000-0000-4000-8000-000000000000';
    const paths: readonly (readonly [string, RegExp])[] = [
      [`/evaluations/${unknown}/samples.csv`, /^Expected the id of an evaluation, there is none of "0{8}-/],
      ['/evaluations/x%22%0d%0a/samples.jsonl', /^Expected the id of an evaluation/],
      [
        `/evaluations/${id}/samples.xlsx`,
        /^Expected \/evaluations\/ID\/samples\.jsonl or \/evaluations\/ID\/samples\.csv, /,
      ],
      [`/evaluations/${id}/samples.constructor`, /^Expected \/evaluations\/ID\/samples/],
      [`/evaluations/${id}/samples`, /^Expected \/evaluations\/ID\/samples/],
      [`/evaluations/${id}`, /^Expected \/evaluations\/ID\/samples/],
      ['/evaluations/', /^Expected \/evaluations\/ID\/samples/],
    ];
    for (const [path, message] of paths) {
      const response = await fetch(`${server.url}${path}`);
      assert.equal(response.status, 404, path);
      assert.equal(response.headers.get('content-type'), 'application/json');
      const { errors } = (await response.json()) as { errors: { message: string; extensions: { code: string } }[] };
      assert.deepEqual(
        errors.map(({ extensions }) => extensions.code),
        ['NOT_FOUND'],
      );
      assert.match(errors[0]?.message ?? '', message);
    }
  });
});

test('while a run goes on, the file has what there is', async (t) => {
  const { server } = await setUp(t, { rows: tinyRows(2000) });
  const id = await startRun(server);
  const connection = server.connect();
  const events = eventsOf(connection, id);
  await events.next();
  const exported = await readJsonLines(server, id);
  await server.data(CancelEvaluationDocument, { id });
  assert.ok(exported.length > 0 && exported.length < 2000, String(exported.length));
  const indexes = exported.map(({ index }) => index);
  assert.deepEqual(
    indexes,
    [...new Set(indexes)].sort((a, b) => a - b),
  );
  for (const { outputs } of exported) assert.equal(outputs.length, variants.length);
  for await (const _ of events);
  await connection.close();
});

const BIG_SAMPLES = 300;
const BIG_TEXT = 'A dialogue. '.repeat(4000);

databaseTest('a server that stops lets exports end, and refuses new ones', async (t, { make, open, isEmbedded }) => {
  const place = await make();
  const database = await open(place);
  const store = new EvaluationStore(database);
  const id = await startStoredRun(store, { samplesTotal: BIG_SAMPLES });
  for (let index = 0; index < BIG_SAMPLES; index++) await store.addSample(id, newSample(index, { text: BIG_TEXT }));
  await store.cancel(id, { sampleCount: 0, variants: [], comparisons: [] });
  await database.close();

  const { environment } = await makePlace(t, { 'test.jsonl': tinyRows(1) });
  const server = await startTestServer(t, {
    ...environment,
    GISTQL_DATA_DIR: place.folder,
    DATABASE_URL: isEmbedded ? '' : (place.url ?? ''),
  });
  // more than the system keeps for a reader: it is still being written when the stop begins
  const response = await fetch(exportUrl(server, id, 'jsonl'));
  const closed = server.close();
  const refused = await fetch(exportUrl(server, id, 'csv'));
  assert.equal(refused.status, 503);
  const { errors } = (await refused.json()) as { errors: { extensions: unknown }[] };
  assert.deepEqual(errors[0]?.extensions, { code: 'OVERLOADED', retryAfterMs: 1000 });
  const lines = (await response.text()).trimEnd().split('\n');
  assert.deepEqual(
    lines.map((line) => (JSON.parse(line) as Sample).index),
    [...Array(BIG_SAMPLES).keys()],
  );
  await closed;
});

/** A server of one listener; returns the answer to a GET, its body not yet read. */
async function ask(t: TestContext, listener: RequestListener): Promise<IncomingMessage> {
  const server = createServer(listener);
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const request = get({ host: '127.0.0.1', port: (server.address() as AddressInfo).port, agent: false });
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  response.on('error', () => {});
  return response;
}

const CHUNK = 'x'.repeat(64 * 1024);
/** Far more than any system keeps for a reader that does not read: 64 MiB. */
const MOST_CHUNKS = 1024;

class Endless {
  madeCount = 0;
  ended = false;

  async *chunks(): AsyncGenerator<string, void, void> {
    try {
      for (; this.madeCount < MOST_CHUNKS; this.madeCount++) yield CHUNK;
    } finally {
      this.ended = true;
    }
  }
}

test('a client that reads nothing costs what the system keeps for it, and is left in the end', async (t) => {
  const endless = new Endless();
  let streamed: Promise<void> = Promise.resolve();
  await ask(t, (_, response) => {
    streamed = stream(endless.chunks(), response, 200);
  });
  await streamed;
  assert.ok(endless.ended);
  assert.ok(endless.madeCount < MOST_CHUNKS, String(endless.madeCount));
});

test('a client that leaves ends the reading', async (t) => {
  const endless = new Endless();
  let streamed: Promise<void> = Promise.resolve();
  const response = await ask(t, (_, out) => {
    streamed = stream(endless.chunks(), out, 60_000);
  });
  await once(response, 'data');
  response.destroy();
  await streamed;
  assert.ok(endless.ended);
  assert.ok(endless.madeCount < MOST_CHUNKS, String(endless.madeCount));
});

test('a file that breaks off in the middle does not look whole', async (t) => {
  async function* broken(): AsyncGenerator<string, void, void> {
    yield CHUNK;
    throw new Error('no more');
  }
  let streamed: Promise<void> = Promise.resolve();
  const response = await ask(t, (_, out) => {
    streamed = stream(broken(), out, 60_000);
    streamed.catch(() => {});
  });
  const read = once(response.resume(), 'end');
  await assert.rejects(Promise.race([read, once(response, 'close').then(() => assert.ok(response.complete))]));
  await assert.rejects(streamed, /no more/);
});

test('a stopping server opens no database for an export', async (t) => {
  const options = {
    createContext: () => assert.fail('it is stopping'),
    isDraining: () => true,
    inFlight: new InFlight(),
  };
  const response = await ask(t, (request, out) => {
    void sendExport(request, out, '/evaluations/x/samples.csv', options);
  });
  assert.equal(response.statusCode, 503);
});
