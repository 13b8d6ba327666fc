/** `compare` over HTTP: variants of one text in one batch, each as it would be alone. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import {
  CompareAndSummarizeDocument,
  CompareDocument,
  LoadAdapterDocument,
  LoadModelDocument,
  RougeDocument,
  SummarizeDocument,
  UnloadAdapterDocument,
  type VariantInput,
} from '../generated/operations.ts';
import { type Answer, startTestServer, type TestServer } from '../support/start-server.ts';
import { writeTinyAdapter } from '../support/tiny-adapter.ts';
import { temporaryFolder, writeTinyModel } from '../support/tiny-model.ts';

const TEXT = 't5 t17 t9 t30';
const REFERENCE = 't9 t17 t5 t21 t33';
const STEPS = 12;
const decoding = { minNewTokens: STEPS, maxNewTokens: STEPS };

const base: VariantInput = { label: 'base', adapters: [], decoding };
const variants: VariantInput[] = [
  base,
  { label: 'adapter', adapters: [{ id: 'one' }], decoding },
  { label: 'blend', adapters: [{ id: 'one', weight: 0.5 }, { id: 'two' }], decoding: { ...decoding, topLogprobs: 2 } },
  {
    label: 'one shot, beams',
    adapters: [{ id: 'two' }],
    template: 'plain',
    shots: [{ dialogue: 't8 t11', summary: 't40' }],
    decoding: { ...decoding, numBeams: 3, numReturnSequences: 2 },
  },
];

/** The tiny model with the adapters `one` and `two`. */
async function setUp(t: TestContext, changes: Readonly<Record<string, string>> = {}): Promise<TestServer> {
  const { parent } = await writeTinyModel(t);
  const adaptersDir = await temporaryFolder(t);
  await writeTinyAdapter(adaptersDir, 'one', { seed: 1, spread: 1 });
  const targets = ['q', 'k', 'v', 'o', 'wi', 'wo'];
  await writeTinyAdapter(adaptersDir, 'two', { seed: 2, spread: 0.7, rank: 2, targets });
  const server = await startTestServer(t, {
    GISTQL_MODEL: 'dir:tiny',
    GISTQL_MODELS_DIR: parent,
    GISTQL_ADAPTERS_DIR: adaptersDir,
    ...changes,
  });
  for (const id of ['one', 'two']) {
    await server.data(LoadAdapterDocument, { input: { id, model: 'tiny', source: `dir:${id}` } });
  }
  return server;
}

/** All of a generation but its id and how long it took. */
function answerOf<Made extends { readonly id: unknown; readonly timing: unknown }>({ id, timing, ...answer }: Made) {
  assert.ok(id !== undefined && timing !== undefined);
  return answer;
}

function assertError({ errors: [error] }: Answer<unknown>, code: string, argument?: string): void {
  assert.equal(error?.extensions.code, code, JSON.stringify(error));
  assert.equal(error.extensions.argument, argument);
}

test('base, adapter, blend and one shot with beams share every step, and answer as alone', async (t) => {
  const server = await setUp(t);
  const { compare } = await server.data(CompareDocument, { input: { text: TEXT, reference: REFERENCE, variants } });
  assert.deepEqual(
    server.traces.map(({ rows }) => rows.map(({ rowCount }) => rowCount)),
    // a beam search begins with one row
    [[1, 1, 1, 1], ...Array.from({ length: STEPS - 1 }, () => [1, 1, 1, 3])],
  );
  assert.deepEqual([compare.text, compare.reference], [TEXT, REFERENCE]);
  assert.equal(compare.summaries.length, variants.length);
  for (const [index, { label, summary, rouge }] of compare.summaries.entries()) {
    const { label: asked, ...variant } = variants[index] ?? base;
    assert.equal(label, asked);
    const { summarize } = await server.data(SummarizeDocument, { input: { text: TEXT, ...variant } });
    assert.equal(summary.text, summarize.text, label);
    assert.deepEqual(summary.alternatives, summarize.alternatives, label);
    const answer = answerOf(summary.generation);
    assert.deepEqual(answer, answerOf(summarize.generation), label);
    const scored = { prediction: summarize.text, references: [REFERENCE] };
    assert.deepEqual(rouge, (await server.data(RougeDocument, { input: scored })).rouge, label);
  }
  assert.equal(new Set(compare.summaries.map(({ summary }) => summary.text)).size, variants.length);
});

test('a comparison meets the other fields of its document in one batch', async (t) => {
  const server = await setUp(t);
  const { compare } = await server.data(CompareAndSummarizeDocument, {
    comparison: { text: TEXT, variants },
    input: { text: TEXT, decoding },
  });
  assert.deepEqual(
    server.traces.map(({ rows }) => rows.length),
    Array.from({ length: STEPS }, () => variants.length + 1),
  );
  assert.deepEqual(new Set(compare.summaries.map(({ rouge }) => rouge)), new Set([null]));
});

test('variants of two models are answered by each, those of one in its own batch', async (t) => {
  const server = await setUp(t);
  await server.data(LoadModelDocument, { input: { id: 'other', source: 'dir:tiny' } });
  const both = [...variants, { ...base, label: 'other', model: 'other' }];
  const { compare } = await server.data(CompareDocument, { input: { text: TEXT, variants: both } });
  assert.deepEqual(
    compare.summaries.map(({ summary }) => summary.generation.model.id),
    ['tiny', 'tiny', 'tiny', 'tiny', 'other'],
  );
  const sizes = server.traces.map(({ rows }) => rows.length);
  for (const size of [1, variants.length]) assert.equal(sizes.filter((came) => came === size).length, STEPS);
  assert.equal(sizes.length, 2 * STEPS);
  // the same weights, the same summary
  assert.equal(compare.summaries.at(-1)?.summary.text, compare.summaries[0]?.summary.text);
});

test('one variant that is refused refuses all: nothing runs, and no adapter is kept', async (t) => {
  const server = await setUp(t);
  const cases: readonly (readonly [Partial<VariantInput>, string, string?])[] = [
    [{ decoding: { temperature: 2 } }, 'UNSUPPORTED_ARGUMENT', 'temperature'],
    [{ adapters: [{ id: 'none' }] }, 'NOT_FOUND', 'adapters'],
    [{ model: 'none' }, 'NOT_FOUND'],
    [{ template: 'none' }, 'NOT_FOUND', 'template'],
  ];
  for (const [change, code, argument] of cases) {
    const odd = { label: 'odd', ...change };
    const answer = await server.ask(CompareDocument, { input: { text: TEXT, variants: [...variants, odd] } });
    assertError(answer, code, argument);
    assert.match(answer.errors[0]?.message ?? '', /^Variant "odd": /);
    assert.equal(answer.errors[0]?.extensions.variant, 'odd');
    assert.equal(answer.data, null);
  }
  assertError(await server.ask(CompareDocument, { input: { text: TEXT, variants: [] } }), 'BAD_USER_INPUT', 'variants');
  const twice = { text: TEXT, variants: [base, base] };
  assertError(await server.ask(CompareDocument, { input: twice }), 'BAD_USER_INPUT', 'label');
  assert.equal(server.traces.length, 0);
  // it would wait for whoever has it
  assert.equal((await server.data(UnloadAdapterDocument, { id: 'one' })).unloadAdapter, true);
});

test('the tokens of every variant count against the limit of the document', async (t) => {
  const server = await setUp(t, { GISTQL_MAX_DOCUMENT_TOKENS: String(6 * STEPS) });
  const fits = await server.ask(CompareDocument, { input: { text: TEXT, variants } });
  assert.deepEqual(fits.errors, []);
  server.traces.length = 0;
  const more = [...variants, { ...base, label: 'more', decoding: { maxNewTokens: 1 } }];
  const answer = await server.ask(CompareDocument, { input: { text: TEXT, variants: more } });
  assertError(answer, 'QUERY_TOO_COSTLY');
  assert.equal(answer.errors[0]?.extensions.limit, 'GISTQL_MAX_DOCUMENT_TOKENS');
  assert.equal(server.traces.length, 0);
});
