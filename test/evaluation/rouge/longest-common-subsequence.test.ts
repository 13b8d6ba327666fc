/** The bit-parallel tables against the plain ones, cell by cell. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LcsTables } from '../../../src/evaluation/rouge/longest-common-subsequence.ts';
import { finish, WorkMeter } from '../../../src/evaluation/work.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

/** [row][column] of the textbook. */
function plainTable(reference: Int32Array, prediction: Int32Array): readonly Uint16Array[] {
  const table = Array.from({ length: reference.length + 1 }, () => new Uint16Array(prediction.length + 1));
  const at = (row: number, column: number): number => table[row]?.[column] ?? 0;
  for (let row = 1; row <= reference.length; row++) {
    for (let column = 1; column <= prediction.length; column++) {
      const equal = reference[row - 1] === prediction[column - 1];
      const value = equal ? at(row - 1, column - 1) + 1 : Math.max(at(row - 1, column), at(row, column - 1));
      (table[row] as Uint16Array)[column] = value;
    }
  }
  return table;
}

/** Rows of the subsequence that the walk of the rule finds: match, else left where that is higher than up, else up. */
function plainWalk(reference: Int32Array, prediction: Int32Array): readonly number[] {
  const table = plainTable(reference, prediction);
  const rows: number[] = [];
  let [row, column] = [reference.length, prediction.length];
  while (row > 0 && column > 0) {
    if (reference[row - 1] === prediction[column - 1]) {
      rows.push(--row);
      column--;
    } else if ((table[row]?.[column - 1] ?? 0) > (table[row - 1]?.[column] ?? 0)) column--;
    else row--;
  }
  return rows;
}

const SEED = 2004;
const random = seededNumbers(SEED);
const whole = (below: number): number => Math.floor(random() * below);

function randomIds(length: number, idCount: number): Int32Array {
  return Int32Array.from({ length }, () => whole(idCount));
}

/** Lengths around the strips' edges, many and few equal tokens. */
function* randomPairs(count: number): Generator<{ reference: Int32Array; prediction: Int32Array; idCount: number }> {
  const lengths = [0, 1, 2, 31, 32, 33, 63, 64, 65, 96, 130];
  for (let index = 0; index < count; index++) {
    const idCount = [1, 2, 3, 8, 40, 500][index % 6] ?? 1;
    const length = (): number => (random() < 0.4 ? (lengths[whole(lengths.length)] ?? 0) : whole(140));
    yield { reference: randomIds(length(), idCount), prediction: randomIds(length(), idCount), idCount };
  }
}

test('lengths are those of the plain table', () => {
  for (const { reference, prediction, idCount } of randomPairs(600)) {
    const tables = new LcsTables(idCount, prediction.length, new WorkMeter());
    const expected = plainTable(reference, prediction)[reference.length]?.[prediction.length];
    const context = `seed ${SEED}: [${reference}] [${prediction}]`;
    assert.equal(finish(tables.length(reference, prediction)), expected, context);
    assert.equal(finish(tables.length(reference, prediction)), expected, `again, ${context}`);
  }
});

test('the marked tokens are those of the plain walk, united over sentences', () => {
  for (const { reference, prediction, idCount } of randomPairs(600)) {
    const cut = whole(prediction.length + 1);
    const sentences = [prediction.subarray(0, cut), prediction.subarray(cut)];
    const expected = new Uint8Array(reference.length);
    for (const sentence of sentences) for (const row of plainWalk(reference, sentence)) expected[row] = 1;
    const marked = new Uint8Array(reference.length);
    const tables = new LcsTables(idCount, prediction.length, new WorkMeter());
    finish(tables.markUnion(reference, sentences, marked));
    assert.deepEqual(marked, expected, `seed ${SEED}: [${reference}] [${prediction}] cut at ${cut}`);
  }
});

test('long texts: as many tokens are marked as the length says', () => {
  const tables = new LcsTables(50, 3000, new WorkMeter());
  const reference = randomIds(2500, 50);
  const prediction = randomIds(3000, 50);
  const marked = new Uint8Array(reference.length);
  finish(tables.markUnion(reference, [prediction], marked));
  const count = marked.reduce((sum, mark) => sum + mark, 0);
  assert.equal(count, finish(tables.length(reference, prediction)));
  assert.equal(count, finish(tables.length(prediction.slice().reverse(), reference.slice().reverse())));
});
