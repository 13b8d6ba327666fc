import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfidenceSequence } from '../../../src/evaluation/statistics/confidence-sequence.ts';
import { oracleTest, readJsonFile } from '../../support/oracle.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

type Ends = readonly [number, number];

function endsOf(sequence: ConfidenceSequence): Ends {
  return [sequence.interval.low, sequence.interval.high];
}

/** Looks after every value. */
function looks(values: readonly number[], sequence = new ConfidenceSequence()): readonly Ends[] {
  return values.map((value) => {
    sequence.add(value);
    return endsOf(sequence);
  });
}

function assertEnds(ends: Ends | undefined, [low, high]: Ends, name: string): void {
  assert.ok(ends !== undefined && Math.abs(ends[0] - low) <= 1e-9 && Math.abs(ends[1] - high) <= 1e-9, name);
}

/** The paper's formulas, value by value and m by m; the intersection of all looks so far, found by halving. */
function plainLooks(values: readonly number[], alpha: number): readonly Ends[] {
  const bets: number[] = [];
  let [sum, squares] = [0, 0];
  for (const [index, x] of values.entries()) {
    const t = index + 1;
    bets.push(Math.sqrt((2 * Math.log(2 / alpha)) / (((0.25 + squares) / t) * t * Math.log(1 + t))));
    sum += x;
    squares += (x - (0.5 + sum) / (t + 1)) ** 2;
  }
  const logCapital = (sign: 1 | -1, m: number, count: number): number => {
    const limit = 0.5 / (sign === 1 ? m : 1 - m);
    const factors = values.slice(0, count).map((x, index) => 1 + sign * Math.min(bets[index] ?? 0, limit) * (x - m));
    return factors.reduce((total, factor) => total + Math.log(factor), 0);
  };
  const end = (sign: 1 | -1, count: number): number => {
    let [outer, inner] = sign === 1 ? [0, 1] : [1, 0];
    if (logCapital(sign, outer, count) < Math.log(2 / alpha)) return outer;
    for (let halving = 0; halving < 45; halving++) {
      const middle = (outer + inner) / 2;
      if (logCapital(sign, middle, count) >= Math.log(2 / alpha)) outer = middle;
      else inner = middle;
    }
    return outer;
  };
  let [low, high] = [0, 1];
  return values.map((_, index) => {
    [low, high] = [Math.max(low, end(1, index + 1)), Math.min(high, end(-1, index + 1))];
    return [low, high] as const;
  });
}

const laws: Readonly<Record<string, (random: () => number) => number>> = {
  'squares of uniform values': (random) => random() ** 2,
  'zeros and ones': (random) => (random() < 0.3 ? 1 : 0),
  'narrow values': (random) => 0.4 + 0.1 * random(),
  'rare ones': (random) => (random() < 0.02 ? 1 : 0),
};

function valuesOf(law: (random: () => number) => number, count: number, seed: number): readonly number[] {
  const random = seededNumbers(seed);
  return Array.from({ length: count }, () => law(random));
}

test('the interval is that of the formulas at every look', () => {
  for (const [name, law] of Object.entries(laws)) {
    const values = valuesOf(law, 120, 21);
    const expected = plainLooks(values, 0.05);
    for (const [index, ends] of looks(values).entries()) {
      assertEnds(ends, expected[index] ?? [0, 0], `${name}, seed 21, look ${index + 1}: [${ends}]`);
    }
  }
});

test('before the first value and after a single one it is everything', () => {
  const sequence = new ConfidenceSequence();
  assert.deepEqual(sequence.interval, { low: 0, high: 1, confidence: 0.95 });
  for (const value of [0, 0.3, 1]) assert.deepEqual(looks([value]), [[0, 1]]);
  assert.equal(sequence.count, 0);
});

test('it never widens, and equal values narrow it without end but never to a point', () => {
  for (const value of [0, 0.25, 1]) {
    let [lastLow, lastHigh] = [0, 1];
    for (const [low, high] of looks(new Array(2000).fill(value))) {
      assert.ok(lastLow <= low && high <= lastHigh && low < high, `${value}: [${low}, ${high}]`);
      assert.ok(low <= value && value <= high, `${value}: [${low}, ${high}]`);
      [lastLow, lastHigh] = [low, high];
    }
    assert.ok(lastHigh - lastLow < 0.005, `${value}: [${lastLow}, ${lastHigh}]`);
  }
});

test('mirrored values have the mirrored interval', () => {
  const values = valuesOf((random) => random() ** 2, 300, 22);
  const plain = looks(values);
  for (const [index, [low, high]] of looks(values.map((value) => 1 - value)).entries()) {
    assertEnds(plain[index], [1 - high, 1 - low], `look ${index + 1}`);
  }
});

test('values with other bounds have the interval of the values mapped to 0..1, mapped back', () => {
  const differences = valuesOf((random) => random() - random() + 0.1 * random(), 300, 23).map((d) => d / 2);
  const mapped = looks(differences.map((difference) => (difference + 1) / 2));
  for (const [index, ends] of looks(differences, new ConfidenceSequence({ lowest: -1, highest: 1 })).entries()) {
    const [low, high] = mapped[index] ?? [0, 0];
    assertEnds(ends, [2 * low - 1, 2 * high - 1], `look ${index + 1}`);
  }
});

test('more confidence is a wider interval', () => {
  const values = valuesOf((random) => random(), 200, 24);
  const [low, high] = looks(values).at(-1) ?? [0, 0];
  const wide = looks(values, new ConfidenceSequence({ confidence: 0.99 })).at(-1) ?? [0, 0];
  assert.ok(wide[0] < low && high < wide[1], `[${wide}], [${low}, ${high}]`);
});

test('a value beyond the bounds is our own fault', () => {
  for (const value of [-0.01, 1.01, Number.NaN]) assert.throws(() => new ConfidenceSequence().add(value), /invariant/);
});

test('once looks contradict each other the interval is everything', () => {
  const random = seededNumbers(25);
  const sequence = new ConfidenceSequence();
  for (let index = 0; index < 400; index++) sequence.add(0.5 + 0.4 * random());
  const { low, high } = sequence.interval;
  assert.ok(low < 0.7 && 0.7 < high && high - low < 0.1, `seed 25: [${low}, ${high}]`);
  for (let index = 0; index < 800; index++) sequence.add(0.1 + 0.4 * random());
  assert.deepEqual(sequence.interval, { low: 0, high: 1, confidence: 0.95 });
  assert.equal(sequence.count, 1200);
});

oracleTest("the oracle's running intervals of hedged capital", 'oracle/statistics/statistics.json', (path) => {
  interface Case {
    readonly name: string;
    readonly values: readonly number[];
    readonly alpha: number;
    readonly at: readonly { readonly n: number; readonly hedgedCapitalRunning: Ends }[];
  }
  const oracle = readJsonFile<{ readonly confidenceSequences: readonly Case[] }>(path);
  for (const { name, values, alpha, at } of oracle.confidenceSequences) {
    const all = looks(values, new ConfidenceSequence({ confidence: 1 - alpha }));
    for (const { n, hedgedCapitalRunning } of at) assertEnds(all[n - 1], hedgedCapitalRunning, `${name} at ${n}`);
  }
});
