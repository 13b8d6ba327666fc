/** What a screened head says is what the whole head says: the same ids in the same order, or it says nothing. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { RowNeeds } from '../../../src/runtime/decoding/decoding-strategy.ts';
import type { ModelRunner } from '../../../src/runtime/engine/model-runner.ts';
import { HeadScreen, type WantedLogits } from '../../../src/runtime/output-head/head-screen.ts';
import { OutputHead } from '../../../src/runtime/output-head/output-head.ts';
import { quantizeRows, WEIGHT_RANGES } from '../../../src/runtime/quantization/quantize-rows.ts';
import { EngineHarness, loadRunner } from '../../support/engine-harness.ts';
import { repositoryPath } from '../../support/oracle.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const SEED = 20261124;
const [VOCABULARY, SIZE, ROWS] = [3000, 48, 40];
const NO_IDS: ReadonlySet<number> = new Set();

/** Asks for so many of the highest logits of each row. */
function highestOf(counts: readonly number[]): readonly WantedLogits[] {
  return counts.map((count) => ({ count, banned: NO_IDS }));
}

/** Sums of uniform draws, near enough to normal. */
function normals(count: number, next: () => number): Float32Array {
  return Float32Array.from({ length: count }, () => next() + next() + next() + next() - 2);
}

/** Ids by falling logit in float64, the lower id first among equals. */
function ranking(head: Float32Array, state: Float32Array): readonly number[] {
  const logits = Array.from({ length: head.length / SIZE }, (_, id) =>
    state.reduce((sum, value, index) => sum + value * (head[id * SIZE + index] as number), 0),
  );
  return [...logits.keys()].sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b);
}

async function withScreen(head: Float32Array, use: (screen: HeadScreen) => Promise<void>): Promise<void> {
  const screen = await HeadScreen.create(head, SIZE, 1);
  try {
    await use(screen);
  } finally {
    await screen.dispose();
  }
}

test('most rows of a head without structure are proven, and every one is right', async () => {
  const next = seededNumbers(SEED);
  const head = normals(VOCABULARY * SIZE, next);
  const states = normals(ROWS * SIZE, next);
  const counts = Array.from({ length: ROWS }, (_, row) => 1 + (row % 3));
  await withScreen(head, async (screen) => {
    const answers = await screen.highest(states, highestOf(counts));
    for (const [row, answer] of answers.entries()) {
      if (answer === undefined) continue;
      const expected = ranking(head, states.subarray(row * SIZE, (row + 1) * SIZE)).slice(0, counts[row]);
      assert.deepEqual(answer.ids, expected, `row ${row}`);
    }
    assert.ok(answers.filter((answer) => answer !== undefined).length > 0.8 * ROWS);
  });
});

test('outliers in states and weights, zero rows and huge rows: whatever is answered is right', async () => {
  const next = seededNumbers(SEED + 1);
  const head = normals(VOCABULARY * SIZE, next);
  for (let id = 0; id < VOCABULARY; id++) head[id * SIZE + 5] = 20 * next();
  head.fill(0, 7 * SIZE, 9 * SIZE);
  const states = normals(ROWS * SIZE, next);
  for (let row = 0; row < ROWS; row++) states[row * SIZE + (row % SIZE)] = 30 * (next() - 0.5);
  await withScreen(head, async (screen) => {
    for (const [row, answer] of (await screen.highest(states, highestOf(Array(ROWS).fill(2)))).entries()) {
      if (answer === undefined) continue;
      const expected = ranking(head, states.subarray(row * SIZE, (row + 1) * SIZE)).slice(0, 2);
      assert.deepEqual(answer.ids, expected, `row ${row}`);
    }
  });
});

test('what cannot be told apart is left to the whole head: equal rows, zero states, states that are not finite', async () => {
  const next = seededNumbers(SEED + 2);
  const head = normals(VOCABULARY * SIZE, next);
  const twin = head.slice(0, SIZE).map((weight) => weight * 4);
  head.set(twin, 11 * SIZE);
  head.set(twin, 600 * SIZE);
  const states = new Float32Array(4 * SIZE);
  states.set(twin);
  states[2 * SIZE] = Number.NaN;
  states[3 * SIZE] = Number.POSITIVE_INFINITY;
  await withScreen(head, async (screen) => {
    assert.deepEqual(await screen.highest(states, highestOf([1, 1, 1, 1])), [
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });
});

test('sums as large as they get: weights and states at their extremes, of every sign', async () => {
  const next = seededNumbers(SEED + 5);
  const sign = () => (next() < 0.5 ? -1 : 1);
  const states = Float32Array.from({ length: ROWS * SIZE }, (_, index) => (index < SIZE ? 1 : sign()));
  // one row of the head is a state itself, others nearly are, in all columns or in half of them
  const head = Float32Array.from({ length: VOCABULARY * SIZE }, (_, index) => {
    const [id, column] = [Math.floor(index / SIZE), index % SIZE];
    const weight = states[(id % ROWS) * SIZE + column] as number;
    if (id < ROWS) return weight;
    const kept = [true, column % 2 === 0, column % 2 === 1, column % 4 < 2][Math.floor(id / ROWS) % 4];
    return kept ? weight * (0.9 - 0.02 * next()) : 0.005 * next();
  });
  await withScreen(head, async (screen) => {
    const answers = await screen.highest(states, highestOf(Array(ROWS).fill(1)));
    for (const [row, answer] of answers.entries()) {
      if (answer === undefined) continue;
      const expected = ranking(head, states.subarray(row * SIZE, (row + 1) * SIZE)).slice(0, 1);
      assert.deepEqual(answer.ids, expected, `row ${row}`);
    }
    assert.ok(answers.filter((answer) => answer !== undefined).length > 0.8 * ROWS);
  });
});

test('banned ids are passed over, wherever they rank', async () => {
  const next = seededNumbers(SEED + 6);
  const head = normals(VOCABULARY * SIZE, next);
  const states = normals(ROWS * SIZE, next);
  const rankings = Array.from({ length: ROWS }, (_, row) =>
    ranking(head, states.subarray(row * SIZE, (row + 1) * SIZE)),
  );
  const banned = rankings.map((ids, row) => new Set([ids[row % 3], ids[1], ids[900]] as number[]));
  await withScreen(head, async (screen) => {
    const answers = await screen.highest(
      states,
      banned.map((ids) => ({ count: 2, banned: ids })),
    );
    for (const [row, answer] of answers.entries()) {
      if (answer === undefined) continue;
      const expected = rankings[row]?.filter((id) => !banned[row]?.has(id)).slice(0, 2);
      assert.deepEqual(answer.ids, expected, `row ${row}`);
    }
    assert.ok(answers.filter((answer) => answer !== undefined).length > 0.8 * ROWS);
    const everything = new Set(Array(VOCABULARY).keys());
    assert.deepEqual(await screen.highest(states.subarray(0, SIZE), [{ count: 1, banned: everything }]), [undefined]);
  });
});

test('a head that proves little is not screened for a while', async () => {
  await withScreen(new Float32Array(VOCABULARY * SIZE), async (screen) => {
    assert.equal(screen.pays(1), true);
    await screen.highest(new Float32Array(64 * SIZE).fill(1), highestOf(Array(64).fill(1)));
    assert.equal(screen.pays(1), false);
    for (let rows = 1; rows < 4096; rows++) screen.pays(1);
    assert.equal(screen.pays(1), true);
  });
});

test('rows of all needs in one call get what each gets alone, screened or not', async () => {
  const next = seededNumbers(SEED + 3);
  const head = normals(VOCABULARY * SIZE, next);
  const states = normals(ROWS * SIZE, next);
  const kinds: readonly RowNeeds[] = [
    { topCount: 1, askedIds: [], allLogits: false, orderOnly: true },
    { topCount: 4, askedIds: [], allLogits: false, orderOnly: false },
    { topCount: 2, askedIds: [5, 2999], allLogits: false, orderOnly: false },
    { topCount: 1, askedIds: [], allLogits: true, orderOnly: false },
    { topCount: 40, askedIds: [], allLogits: false, orderOnly: true },
    { topCount: 5, askedIds: [], allLogits: false, orderOnly: true, banned: new Set([5, 6, 7, 8]) },
  ];
  const needs = Array.from({ length: ROWS }, (_, row) => kinds[row % kinds.length] as RowNeeds);
  const screened = await OutputHead.create(head, SIZE, { threadCount: 1, screened: true });
  const whole = await OutputHead.create(head, SIZE, { threadCount: 1, screened: false });
  try {
    const together = await screened.score(states, needs);
    for (const [row, need] of needs.entries()) {
      const [expected] = await whole.score(states.slice(row * SIZE, (row + 1) * SIZE), [need]);
      const came = together[row];
      assert.ok(expected !== undefined && came !== undefined);
      const { topCount, banned = NO_IDS } = need;
      const ids = (scores: typeof expected) =>
        Array.from(scores.topIds)
          .filter((id) => !banned.has(id))
          .slice(0, topCount - banned.size);
      assert.deepEqual(ids(came), ids(expected), `row ${row}`);
      if (need.orderOnly) continue;
      assert.equal(came.logSumExp, expected.logSumExp);
      assert.deepEqual(Array.from(came.askedLogits), Array.from(expected.askedLogits));
      assert.deepEqual(came.logits, expected.logits);
    }
  } finally {
    await screened.dispose();
    await whole.dispose();
  }
});

test('a head that is read in place: a row gets the same bits whatever the number of rows, and nearly those of a packed one', async () => {
  const next = seededNumbers(SEED + 5);
  for (const size of [SIZE, 576]) {
    const head = normals(VOCABULARY * size, next);
    const rows = 21;
    const states = normals(rows * size, next);
    const needs = Array.from({ length: rows }, () => ({
      topCount: 1,
      askedIds: [],
      allLogits: true,
      orderOnly: false,
    }));
    const inPlace = await OutputHead.create(head, size, { threadCount: 2, screened: true, isShared: true });
    const packed = await OutputHead.create(head, size, { threadCount: 2, screened: true });
    try {
      assert.deepEqual([inPlace.isInPlace, packed.isInPlace], [true, false]);
      const together = await inPlace.score(states, needs);
      const ofPacked = await packed.score(states, needs);
      for (const count of [1, 2, 3, 7, 15, 16]) {
        for (let row = 0; row + count <= rows; row += count) {
          const part = await inPlace.score(states.slice(row * size, (row + count) * size), needs.slice(0, count));
          for (const [index, scores] of part.entries()) {
            assert.deepEqual(scores.logits, together[row + index]?.logits, `${count} rows of ${size} from ${row}`);
          }
        }
      }
      // a row that the screen settles leaves one that needs the whole head
      const order = { topCount: 1, askedIds: [], allLogits: false, orderOnly: true };
      const [, second] = await inPlace.score(states.slice(0, 2 * size), [order, needs[1] as RowNeeds]);
      assert.deepEqual(second?.logits, together[1]?.logits);
      const sixteen = await inPlace.logits(states.slice(0, 16 * size));
      assert.deepEqual(sixteen.slice(0, VOCABULARY), together[0]?.logits);
      for (const [row, { logits }] of together.entries()) {
        const others = ofPacked[row]?.logits;
        assert.ok(logits?.every((logit, id) => Math.abs(logit - (others?.[id] ?? Number.NaN)) < 1e-3));
      }
    } finally {
      await inPlace.dispose();
      await packed.dispose();
    }
  }
});

for (const rowBytes of [1, 2] as const) {
  test(`an 8-bit head says of states that are no numbers that there are none: rows in ${rowBytes} bytes`, async (t) => {
    const next = seededNumbers(SEED + 6);
    const matrix = quantizeRows(normals(VOCABULARY * SIZE, next), SIZE, WEIGHT_RANGES[2]);
    const integer = await OutputHead.createInteger({ matrix, rowBytes }, { threadCount: 1 });
    t.after(() => integer.dispose());
    const states = normals(4 * SIZE, next);
    for (const [row, value] of [Number.NaN, Number.POSITIVE_INFINITY].entries()) states[(row + 1) * SIZE + 3] = value;
    const needs = Array.from({ length: 4 }, () => ({ topCount: 1, askedIds: [], allLogits: false, orderOnly: true }));
    const scores = await integer.score(states, needs);
    assert.deepEqual(
      scores.map(({ topLogits }) => Number.isFinite(topLogits[0])),
      [true, false, false, true],
    );
  });
}

describe('an engine whose greedy rows are screened', () => {
  let screened: ModelRunner;
  let whole: ModelRunner;
  const options = [
    { maxNewTokens: 24 },
    { maxNewTokens: 24, minNewTokens: 24, noRepeatNgramSize: 2 },
    { maxNewTokens: 24, repetitionPenalty: 1.3 },
    { maxNewTokens: 12, doSample: true, seed: 5, topK: 20 },
    { maxNewTokens: 12, numBeams: 3 },
  ];
  const next = seededNumbers(SEED + 4);
  const requests = Array.from({ length: 20 }, (_, index) => ({
    id: `r${index}`,
    promptTokenIds: Array.from({ length: 3 + Math.floor(next() * 60) }, () => 3 + Math.floor(next() * 115)),
    options: options[index % options.length] ?? {},
  }));

  before(async () => {
    const fixtures = repositoryPath('test/fixtures');
    ({ runner: screened } = await loadRunner(fixtures, 't5-gated-untied', { screened: true }));
    ({ runner: whole } = await loadRunner(fixtures, 't5-gated-untied', { screened: false }));
  });
  after(async () => {
    await screened.dispose();
    await whole.dispose();
  });

  test('makes the tokens of the whole head, whether log-probabilities are asked for or not', async () => {
    const expected = await EngineHarness.runAll(whole, requests);
    const asked = requests.map((request) => ({ ...request, logprobs: false }));
    const mixed = requests.map((request, index) => ({ ...request, logprobs: index % 2 === 0 }));
    for (const variant of [asked, mixed]) {
      const came = await EngineHarness.runAll(screened, variant);
      for (const { id } of requests) assert.deepEqual(came.tokenIds(id), expected.tokenIds(id), id);
    }
  });

  test('reports log-probabilities wherever they are asked for', async () => {
    const came = await EngineHarness.runAll(screened, requests);
    const expected = await EngineHarness.runAll(whole, requests);
    for (const { id } of requests)
      assert.deepEqual(came.outputs.get(id)?.sequences, expected.outputs.get(id)?.sequences);
  });
});
