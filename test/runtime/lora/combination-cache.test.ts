import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AdapterCombination } from '../../../src/runtime/lora/adapter-combination.ts';
import { AdapterUnits } from '../../../src/runtime/lora/adapter-units.ts';
import { CombinationCache } from '../../../src/runtime/lora/combination-cache.ts';

const VALUE_BYTES = 10;

function combinationOf(...adapters: readonly AdapterUnits[]): AdapterCombination {
  return new AdapterCombination(adapters.map((adapter) => ({ weight: 1, adapter })));
}

function makeAdapter(): AdapterUnits {
  return new AdapterUnits({ factors: [], head: undefined });
}

function makeCache(limitBytes: number) {
  const made: AdapterCombination[] = [];
  const cache = new CombinationCache(limitBytes, (combination) => {
    made.push(combination);
    return { byteLength: VALUE_BYTES };
  });
  return { cache, made };
}

test('what was used last stays within the limit', () => {
  const { cache, made } = makeCache(2 * VALUE_BYTES);
  const [one, two, three] = [combinationOf(makeAdapter()), combinationOf(makeAdapter()), combinationOf(makeAdapter())];
  for (const combination of [one, two, one, three]) cache.of(combination);
  assert.deepEqual([made, cache.byteLength], [[one, two, three], 3 * VALUE_BYTES]);
  cache.evict(new Set([three]));
  assert.equal(cache.byteLength, 2 * VALUE_BYTES);
  cache.of(one);
  assert.equal(made.length, 3, 'the one that was used again stayed');
  cache.of(two);
  assert.deepEqual(made, [one, two, three, two]);
});

test('what is needed stays, whatever the limit and however long ago it was used', () => {
  const { cache, made } = makeCache(VALUE_BYTES);
  const [old, other, recent] = [
    combinationOf(makeAdapter()),
    combinationOf(makeAdapter()),
    combinationOf(makeAdapter()),
  ];
  for (const combination of [old, other, recent]) cache.of(combination);
  cache.evict(new Set([old, recent]));
  assert.equal(cache.byteLength, 2 * VALUE_BYTES);
  for (const combination of [old, recent]) cache.of(combination);
  assert.equal(made.length, 3);
});

test('nothing of an adapter that was let go is kept, not even for a run that still has it', () => {
  const { cache, made } = makeCache(100 * VALUE_BYTES);
  const [gone, kept] = [makeAdapter(), makeAdapter()];
  const blend = combinationOf(kept, gone);
  for (const combination of [combinationOf(gone), blend, combinationOf(kept)]) cache.of(combination);
  cache.forget(gone);
  assert.equal(cache.byteLength, VALUE_BYTES);
  assert.equal(cache.of(blend).byteLength, VALUE_BYTES);
  assert.deepEqual([made.at(-1), cache.byteLength], [blend, VALUE_BYTES]);
});

test('what cannot be made leaves nothing', () => {
  const cache = new CombinationCache(VALUE_BYTES, () => {
    throw new RangeError('Array buffer allocation failed');
  });
  assert.throws(() => cache.of(combinationOf(makeAdapter())), RangeError);
  assert.equal(cache.byteLength, 0);
});
