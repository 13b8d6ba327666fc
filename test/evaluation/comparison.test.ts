/** Comparisons over scripted engines: what reaches them, what comes back, and that nothing is kept or runs on. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type ComparisonRequest, prepareComparison, type Variant } from '../../src/evaluation/comparison.ts';
import { RougeScorer } from '../../src/evaluation/rouge/rouge.ts';
import { WorkTurns } from '../../src/evaluation/work.ts';
import type { AdapterRegistry } from '../../src/runtime/adapters/adapter-registry.ts';
import { EngineTextGenerator } from '../../src/runtime/engine-text-generator.ts';
import { RuntimeError } from '../../src/runtime/errors.ts';
import type { ModelDirectory } from '../../src/runtime/models/served-model.ts';
import { TemplateSummarizer } from '../../src/runtime/template-summarizer.ts';
import { refuses } from '../support/refuses.ts';
import { openAdapters } from '../support/scripted-adapters.ts';
import { directoryOf, gistMini, type Script, ScriptedEngine } from '../support/scripted-engine.ts';

const TEXT = '#Person1#: At six?\n#Person2#: At six.';
const REFERENCE = 'They agree to meet at six.';
const MANY = 32;

/** Two models that answer by script, `first` (the default) with adapters `a1` and `a2`, and `second`. */
async function setUp(
  t: TestContext,
  scripts: Partial<Record<'first' | 'second', Partial<Script>>> = {},
  budgetBytes = 100,
) {
  const { tokenizer } = await gistMini();
  const engineOf = async (text: string, script: Partial<Script> = {}): Promise<ScriptedEngine> =>
    new ScriptedEngine({ sequences: [await tokenizer.encode(text)], ...script });
  const first = await engineOf('They will meet at six.', scripts.first);
  const second = await engineOf('Six it is.', scripts.second);
  const models = join(await directoryOf(first, { id: 'first' }), await directoryOf(second, { id: 'second' }));
  const { registry, reader } = await openAdapters(t, { budgetBytes });
  for (const model of models.list()) await registry.modelLoaded(model);
  for (const mark of [1, 2]) {
    await reader.write(`x${mark}`, { memoryBytes: 10, mark });
    await registry.load({ id: `a${mark}`, modelId: 'first', source: `dir:x${mark}` });
  }
  const summarizer = new TemplateSummarizer(models, new EngineTextGenerator(models, registry));
  const parts = { summarizer, models, rouge: new RougeScorer(new WorkTurns()) };
  return {
    ...parts,
    first,
    second,
    registry,
    prepare: (request: ComparisonRequest) => prepareComparison(parts, request),
  };
}

/** One directory of the models of both; the default is the first's. */
function join(one: ModelDirectory, other: ModelDirectory): ModelDirectory {
  return {
    ...one,
    list: () => [...one.list(), ...other.list()],
    get: (id) => (other.find(id ?? '') === undefined ? one.get() : other.get()),
    find: (id) => one.find(id) ?? other.find(id),
  };
}

function ask(variants: readonly Variant[], reference: string | null = null): ComparisonRequest {
  return { text: TEXT, references: reference === null ? [] : [reference], variants };
}

const base: Variant = { label: 'base', adapters: [] };
const adapted: Variant = { label: 'adapted', adapters: [{ id: 'a1' }] };
const blended: Variant = { label: 'blended', adapters: [{ id: 'a1', weight: 0.5 }, { id: 'a2' }] };
const beams: Variant = { label: 'beams', decoding: { numBeams: 4 }, templateId: 'plain' };
const elsewhere: Variant = { label: 'elsewhere', modelId: 'second' };
const all = [base, adapted, blended, beams, elsewhere];

/** Resolves only when no request has an adapter any more. */
async function assertFree(registry: AdapterRegistry): Promise<void> {
  for (const { id } of registry.list()) assert.equal(await registry.unload(id), true);
}

test('all variants reach the engine of their model in one tick, as they are asked', async (t) => {
  const { prepare, first, second, registry } = await setUp(t);
  const prepared = await prepare(ask(all));
  assert.deepEqual([first.requests.length, second.requests.length], [0, 0]);
  const running = prepared.run();
  assert.deepEqual([first.requests.length, second.requests.length], [4, 1]);
  await running;
  assert.deepEqual(
    first.requests.map(({ adapters, params }) => [adapters.map(({ key, weight }) => [key, weight]), params.numBeams]),
    [
      [[], 1],
      [[['a1', 1]], 1],
      [
        [
          ['a1', 0.5],
          ['a2', 1],
        ],
        1,
      ],
      [[], 4],
    ],
  );
  await assertFree(registry);
});

test('summaries come in the order of their variants, scored as ROUGE scores them, stems as words', async (t) => {
  const { prepare, summarizer, rouge } = await setUp(t);
  const comparison = await (await prepare(ask(all, REFERENCE))).run();
  assert.deepEqual([comparison.text, comparison.references], [TEXT, [REFERENCE]]);
  assert.deepEqual(
    comparison.summaries.map(({ label }) => label),
    all.map(({ label }) => label),
  );
  for (const [index, compared] of comparison.summaries.entries()) {
    const { label, ...variant } = all[index] ?? base;
    const alone = await summarizer.summarize({ text: TEXT, onOverflow: 'truncate', ...variant });
    assert.equal(compared.summary.text, alone.text, label);
    assert.equal(compared.summary.generation.prompt, alone.generation.prompt, label);
    const scores = rouge.score({ prediction: alone.text, references: [REFERENCE], useStemmer: true });
    assert.deepEqual(compared.rouge, scores, label);
    assert.ok(scores.rouge1.fmeasure > 0);
  }
});

test('without a reference nothing is scored; an empty one is scored', async (t) => {
  const { prepare } = await setUp(t);
  const without = await (await prepare(ask(all))).run();
  assert.deepEqual(new Set(without.summaries.map(({ rouge }) => rouge)), new Set([null]));
  const empty = await (await prepare(ask([base], ''))).run();
  assert.equal(empty.summaries[0]?.rouge?.warnings.length, 1);
});

test('a variant that is refused refuses all: the error names it, nothing runs, nothing is kept', async (t) => {
  const { prepare, first, second, registry } = await setUp(t);
  const wrong: readonly (readonly [Partial<Variant>, string, string | undefined])[] = [
    [{ decoding: { temperature: 2 } }, 'UNSUPPORTED_ARGUMENT', 'temperature'],
    [{ decoding: { topK: -1 } }, 'BAD_USER_INPUT', 'topK'],
    [{ adapters: [{ id: 'none' }] }, 'NOT_FOUND', 'adapters'],
    [{ templateId: 'none' }, 'NOT_FOUND', 'template'],
    [{ shots: [{ dialogue: 'word '.repeat(2000), summary: 'x' }] }, 'INPUT_TOO_LONG', 'shots'],
  ];
  for (const [change, code, argument] of wrong) {
    await assert.rejects(prepare(ask([adapted, { ...blended, ...change, label: 'the "odd" one' }, beams])), (error) => {
      assert.ok(error instanceof RuntimeError);
      assert.match(error.message, /^Variant "the \\"odd\\" one": \S/);
      assert.deepEqual([error.code, error.details.argument, error.details.variant], [code, argument, 'the "odd" one']);
      return true;
    });
  }
  assert.deepEqual([first.requests.length, second.requests.length], [0, 0]);
  await assertFree(registry);
});

test('of several refused variants the first is named', async (t) => {
  const { prepare } = await setUp(t);
  const odd = (label: string): Variant => ({ label, templateId: 'none' });
  await assert.rejects(prepare(ask([base, odd('b'), odd('a')])), /^RuntimeError: Variant "b": /);
});

test('labels are there, short, and told apart; variants are at least one and not too many', async (t) => {
  const { prepare } = await setUp(t);
  const named = (...labels: readonly string[]) => prepare(ask(labels.map((label) => ({ ...base, label }))));
  const many = Array.from({ length: MANY }, (_, index) => `variant ${index}`);
  await assert.rejects(named(), refuses('BAD_USER_INPUT', /1 to 32 variants, none came/));
  await assert.rejects(named(...many, 'one more'), refuses('BAD_USER_INPUT', /1 to 32 variants, 33 came/));
  for (const blank of ['', ' \n'])
    await assert.rejects(named('a', blank), refuses('BAD_USER_INPUT', /a blank one came/));
  await assert.rejects(named('x'.repeat(101)), refuses('BAD_USER_INPUT', /1 to 100 characters, one of 101 came/));
  await assert.rejects(named('a', 'b', 'a'), refuses('BAD_USER_INPUT', /"a" came twice/));
  const { summaries } = await (await named(...many)).run();
  assert.equal(summaries.length, MANY);
});

test('many variants that listen to one signal are not taken for a leak', async (t) => {
  const { prepare } = await setUp(t, { first: { waitsAfter: 1 } });
  const warnings: Error[] = [];
  const note = (warning: Error): unknown => warnings.push(warning);
  process.on('warning', note);
  t.after(() => process.off('warning', note));
  const leaving = new AbortController();
  const variants = Array.from({ length: MANY }, (_, index) => ({ ...base, label: `variant ${index}` }));
  const running = (await prepare(ask(variants))).run({ signal: leaving.signal });
  for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
  leaving.abort();
  await running;
  await new Promise(setImmediate);
  assert.deepEqual(warnings, []);
});

test('a comparison that is discarded keeps nothing', async (t) => {
  const { prepare, first, registry } = await setUp(t);
  (await prepare(ask(all))).discard();
  assert.equal(first.requests.length, 0);
  await assertFree(registry);
});

test('a variant that fails while it runs ends the others: its error, named, when all have ended', async (t) => {
  const failure = new RuntimeError('TIMEOUT', 'Expected an answer.', { limit: 'GISTQL_REQUEST_TIMEOUT_MS' });
  const { prepare, first, second, registry } = await setUp(t, { first: { waitsAfter: 3 }, second: { failure } });
  await assert.rejects((await prepare(ask(all, REFERENCE))).run(), (error) => {
    assert.ok(error instanceof RuntimeError);
    assert.deepEqual([error.code, error.details], [failure.code, { ...failure.details, variant: 'elsewhere' }]);
    assert.equal(error.message, 'Variant "elsewhere": Expected an answer.');
    return true;
  });
  assert.deepEqual([first.pendingCount, second.pendingCount], [0, 0]);
  const outputs = await Promise.all(first.answers);
  for (const { sequences } of outputs) assert.equal(sequences[0]?.finishReason, 'cancelled');
  await assertFree(registry);
});

test('a fault of ours while a variant runs is not given to the caller as one of its variants', async (t) => {
  const failure = new TypeError('a bug');
  const { prepare, registry } = await setUp(t, { second: { failure } });
  await assert.rejects((await prepare(ask(all))).run(), failure);
  await assertFree(registry);
});

test('a reference that is too long for what is asked is refused before anything is generated', async (t) => {
  const { prepare, first, second, registry } = await setUp(t);
  const reference = 'a b\n'.repeat(300_000);
  const longest: Variant = { label: 'longest', decoding: { maxNewTokens: 4000 } };
  await assert.rejects(prepare(ask([adapted, longest, elsewhere], reference)), (error) => {
    assert.ok(error instanceof RuntimeError);
    assert.deepEqual([error.code, error.details], ['BAD_USER_INPUT', { argument: 'reference' }]);
    assert.match(error.message, /^Expected texts/);
    return true;
  });
  assert.deepEqual([first.requests.length, second.requests.length], [0, 0]);
  await assertFree(registry);
});

test('a reference that turns out to take too long is refused by its own name', async (t) => {
  const { tokenizer } = await gistMini();
  const long = await tokenizer.encode('six '.repeat(4000));
  const { prepare, registry } = await setUp(t, { second: { sequences: [long] } });
  const reference = 'a b\n'.repeat(300_000);
  // asked for less than the engine gives
  const short: Variant = { ...elsewhere, decoding: { maxNewTokens: 1 } };
  await assert.rejects((await prepare(ask([short], reference))).run(), (error) => {
    assert.ok(error instanceof RuntimeError);
    assert.deepEqual([error.code, error.details], ['BAD_USER_INPUT', { argument: 'reference', variant: 'elsewhere' }]);
    assert.match(error.message, /^Variant "elsewhere": Expected texts/);
    return true;
  });
  // a run does not end for that
  const comparison = await (await prepare({ ...ask([short], reference), onTooLong: 'warn' })).run();
  const { rouge } = comparison.summaries[0] ?? assert.fail();
  const zero = { precision: 0, recall: 0, fmeasure: 0 };
  assert.deepEqual([rouge?.rouge1, rouge?.rougeLsum], [zero, zero]);
  assert.match(rouge?.warnings.join() ?? '', /too long to be compared/);
  await assertFree(registry);
});

test('who leaves gets what there is, as cancelled and not scored', async (t) => {
  const { prepare, registry } = await setUp(t, { first: { waitsAfter: 2 }, second: { waitsAfter: 1 } });
  const leaving = new AbortController();
  const running = (await prepare(ask(all, REFERENCE))).run({ signal: leaving.signal });
  leaving.abort();
  const { summaries } = await running;
  assert.equal(summaries.length, all.length);
  for (const { summary, rouge } of summaries) {
    assert.equal(summary.generation.sequences[0]?.finishReason, 'cancelled');
    assert.equal(rouge, null);
  }
  await assertFree(registry);
});

test('variants whose adapters do not fit in memory together are answered all the same', async (t) => {
  const { prepare, registry } = await setUp(t, {}, 10);
  const other: Variant = { label: 'other', adapters: [{ id: 'a2' }] };
  const { summaries } = await (await prepare(ask([adapted, other, base, elsewhere]))).run();
  assert.deepEqual(
    summaries.map(({ summary }) => summary.generation.adapters.map(({ id }) => id)),
    [['a1'], ['a2'], [], []],
  );
  await assertFree(registry);
});
