import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkChoice, selectIndexes, selectReferences } from '../../../src/runtime/datasets/sample-selection.ts';
import { refuses } from '../../support/refuses.ts';

const all = { limit: null, sampleSeed: null };

function indexesOf(count: number, limit: number | null, sampleSeed: number | null): readonly number[] {
  return [...selectIndexes(count, { limit, sampleSeed })];
}

test('without a limit all are taken, with one the first, and no more than there are', () => {
  assert.deepEqual(indexesOf(4, null, null), [0, 1, 2, 3]);
  assert.deepEqual(indexesOf(4, 2, null), [0, 1]);
  assert.deepEqual(indexesOf(4, 9, null), [0, 1, 2, 3]);
  assert.deepEqual(indexesOf(4, 9, 7), [0, 1, 2, 3]);
});

test('a seed draws what it drew when runs were recorded with it', () => {
  assert.deepEqual(indexesOf(12_460, 3, 5), [7172, 7536, 7891]);
  assert.deepEqual(indexesOf(10, 4, 0), [1, 2, 4, 6]);
  assert.deepEqual(indexesOf(10, 4, -1), [0, 1, 2, 4]);
});

test('drawn indexes ascend, none comes twice, and each is as likely', () => {
  const [count, limit, rounds] = [12, 5, 6000];
  const times = new Array<number>(count).fill(0);
  for (let seed = 0; seed < rounds; seed++) {
    const indexes = indexesOf(count, limit, seed);
    assert.equal(indexes.length, limit);
    for (const [at, index] of indexes.entries()) {
      assert.ok(index < count && index > (indexes[at - 1] ?? -1), `${seed}: ${indexes}`);
      times[index] = (times[index] ?? 0) + 1;
    }
  }
  const expected = (rounds * limit) / count;
  const deviation = Math.sqrt(expected * (1 - limit / count));
  for (const [index, time] of times.entries()) {
    assert.ok(Math.abs(time - expected) < 4.5 * deviation, `${index} came ${time} times, ${expected} are expected`);
  }
});

for (const [choice, message] of [
  [{ ...all, limit: 0 }, /limit to be a whole number from 1 on, 0 came/],
  [{ ...all, limit: -3 }, /limit to be a whole number from 1 on, -3 came/],
  [{ ...all, limit: 1.5 }, /limit to be a whole number from 1 on, 1.5 came/],
  [{ ...all, limit: Number.NaN }, /limit to be a whole number from 1 on, NaN came/],
  [{ limit: 2, sampleSeed: 0.5 }, /sampleSeed to be a whole number, 0.5 came/],
  [{ ...all, sampleSeed: 1 }, /a limit beside sampleSeed, none came/],
] as const) {
  test(`a choice of limit ${choice.limit} and seed ${choice.sampleSeed} is BAD_USER_INPUT`, () => {
    assert.throws(() => checkChoice(choice), refuses('BAD_USER_INPUT', message));
  });
}

test('references are named by index, in any order, and all by default', () => {
  const columns = ['summary1', 'summary2', 'summary3'];
  assert.deepEqual(selectReferences(columns, null), [0, 1, 2]);
  assert.deepEqual(selectReferences(columns, [2, 0]), [0, 2]);
  for (const [indexes, message] of [
    [[3], /0 \(summary1\), 1 \(summary2\), 2 \(summary3\), 3 came/],
    [[-1], /-1 came/],
    [[0.5], /0.5 came/],
    [[1, 1], /1 twice came/],
    [[], /none came/],
  ] as const) {
    assert.throws(() => selectReferences(columns, indexes), refuses('BAD_USER_INPUT', message));
  }
});
