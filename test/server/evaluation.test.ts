/** A run from its start to its end: what it tells, what it scores, and what its table says. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { FINAL_EFFORT, flipsFor, RunStatistics } from '../../src/evaluation/statistics/run-statistics.ts';
import { finish } from '../../src/evaluation/work.ts';
import { EvaluationsDocument, RougeDocument, SummarizeDocument } from '../generated/operations.ts';
import {
  assertWhole,
  comparable,
  eventsOf,
  follow,
  sampleIndexes,
  samplesOf,
  setUp,
  startRun,
  tableAtEnd,
  tableOf,
  tinyRows,
  variants,
  withoutTimes,
} from '../support/evaluation-server.ts';

const ROWS = 12;
const { server } = await setUp({ after });

function upTo(count: number): readonly number[] {
  return Array.from({ length: count }, (_, index) => index);
}

test('a run tells every sample once and in order, then its scores, then its end; whoever comes, whenever', async () => {
  const id = await startRun(server);
  const [first, second] = await Promise.all([follow(server, id), follow(server, id)]);
  const late = await follow(server, id);
  for (const events of [first, second, late]) {
    assertWhole(events, ROWS);
    const [scores, end] = events.slice(-2);
    assert.ok(scores?.__typename === 'ScoresUpdated');
    const { variants: rows, comparisons } = await tableOf(server, id);
    assert.deepEqual({ rows: scores.variants, comparisons: scores.comparisons }, { rows, comparisons });
    assert.equal(end?.evaluation.status, 'SUCCEEDED');
    assert.equal(end.evaluation.samplesDone, ROWS);
  }
  assert.deepEqual(sampleIndexes(late), sampleIndexes(first));
});

test('from any cursor on a run tells exactly the rest; from its end on, nothing', async () => {
  const id = await startRun(server);
  const all = await follow(server, id);
  const whole = sampleIndexes(all);
  for (const [place, { cursor, __typename }] of all.entries()) {
    const rest = await follow(server, id, cursor);
    const told = sampleIndexes(all.slice(0, place + 1)).length;
    assert.deepEqual(sampleIndexes(rest), whole.slice(told));
    assert.equal(rest.at(-1)?.__typename, __typename === 'EvaluationFinished' ? undefined : 'EvaluationFinished');
  }
});

test('a sample is scored as summarize and rouge answer it alone', async () => {
  const id = await startRun(server, { useStemmer: false });
  const told = (await follow(server, id)).flatMap((event) => ('sample' in event ? [withoutTimes(event.sample)] : []));
  const samples = await samplesOf(server, id);
  assert.deepEqual(
    told.sort((left, right) => left.index - right.index),
    samples,
  );
  const rows = tinyRows(ROWS) as readonly { fname: string; dialogue: string; summary1: string; summary2: string }[];
  assert.equal(samples.length, ROWS);
  for (const [index, { sampleId, text, references, outputs, ...sample }] of samples.entries()) {
    const { fname, dialogue, summary1, summary2 } = rows[index] ?? assert.fail();
    assert.deepEqual([sample.index, sampleId, text, references], [index, fname, dialogue, [summary1, summary2]]);
    for (const [place, { label: asked, ...variant }] of variants.entries()) {
      const { summarize } = await server.data(SummarizeDocument, { input: { text, ...variant } });
      const { rouge } = await server.data(RougeDocument, {
        input: { prediction: summarize.text, references, useStemmer: false },
      });
      assert.deepEqual(outputs[place], {
        label: asked,
        summary: summarize.text,
        completionTokens: summarize.generation.usage.completionTokens,
        truncated: false,
        rouge,
      });
    }
    assert.ok(new Set(outputs.map(({ summary }) => summary)).size > 1);
  }
});

test('the table is what the scores of the samples say', async () => {
  const table = await tableAtEnd(server, await startRun(server));
  const samples = await samplesOf(server, table.id);
  const statistics = new RunStatistics({ labels: variants.map(({ label }) => label), sampleCount: ROWS });
  for (const { index, outputs } of samples) {
    statistics.add(
      index,
      outputs.map(({ rouge }) => rouge),
    );
  }
  const expected = finish(statistics.summarize({ ...FINAL_EFFORT, flipCount: flipsFor(variants.length) }));
  // GraphQL writes a metric's name in capitals
  const named = <Row extends { readonly metric: string }>(row: Row) => ({ ...row, metric: row.metric.toUpperCase() });
  assert.deepEqual(table.comparisons, expected.comparisons.map(named));
  for (const [place, { metrics, samplesScored, meanSummaryTokens, label }] of table.variants.entries()) {
    assert.deepEqual(metrics, expected.variants[place]?.metrics.map(named));
    assert.deepEqual([label, samplesScored], [variants[place]?.label, ROWS]);
    const tokens = samples.map(({ outputs }) => outputs[place]?.completionTokens ?? 0);
    assert.equal(meanSummaryTokens, tokens.reduce((sum, count) => sum + count, 0) / ROWS);
  }
});

test('equal requests have equal signatures and tables; a run can be drawn by seed; runs are listed newest first', async () => {
  const first = await tableAtEnd(server, await startRun(server));
  const second = await tableAtEnd(server, await startRun(server));
  assert.deepEqual(comparable(second), comparable(first));
  const drawn = await tableAtEnd(server, await startRun(server, { limit: 4, sampleSeed: 7, references: [1] }));
  assert.equal(drawn.samplesTotal, 4);
  const rows = tinyRows(ROWS) as readonly { fname: string; summary2: string }[];
  const samples = await samplesOf(server, drawn.id);
  assert.deepEqual(
    samples.map(({ index }) => index),
    upTo(4),
  );
  for (const { sampleId, references } of samples) {
    assert.deepEqual(references, [rows.find(({ fname }) => fname === sampleId)?.summary2]);
  }
  const { evaluations } = await server.data(EvaluationsDocument, { first: 2 });
  assert.deepEqual(
    evaluations.edges.map(({ node }) => node.id),
    [drawn.id, second.id],
  );
  const { totalCount, pageInfo } = evaluations;
  assert.ok(totalCount >= 3);
  assert.equal(pageInfo.hasNextPage, true);
  const rest = (await server.data(EvaluationsDocument, { first: 500, after: pageInfo.endCursor })).evaluations;
  assert.equal(rest.edges[0]?.node.id, first.id);
  assert.deepEqual([rest.edges.length, rest.pageInfo.hasNextPage], [totalCount - 2, false]);
});

test('while a run goes on it says how far it is and when it will end', async (t) => {
  const { server } = await setUp(t, { rows: tinyRows(120) });
  const connection = server.connect();
  t.after(() => connection.close());
  let wasEstimated = false;
  for await (const { evaluation, __typename } of eventsOf(connection, await startRun(server))) {
    const { status, samplesDone, etaSeconds } = evaluation;
    if (status !== 'RUNNING' || samplesDone === 0) assert.equal(etaSeconds, null);
    else {
      wasEstimated = true;
      assert.ok(etaSeconds !== null && etaSeconds >= 0);
    }
    if (__typename === 'EvaluationFinished') assert.equal(samplesDone, 120);
  }
  assert.ok(wasEstimated);
});
