/** What a step reads of the stack is what its adapters hold, however they came, went and moved before. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AdaptedModule, LORA_UNIT } from '../../../src/runtime/graph/lora.ts';
import { AdapterCombination } from '../../../src/runtime/lora/adapter-combination.ts';
import { AdapterUnits } from '../../../src/runtime/lora/adapter-units.ts';
import { writeUnits } from '../../../src/runtime/lora/lora-weights.ts';
import { RunFactors } from '../../../src/runtime/lora/run-factors.ts';
import { type PlaceRange, UnitStack } from '../../../src/runtime/lora/unit-stack.ts';
import type { TensorValue } from '../../../src/runtime/tensor.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const SEED = 20261124;
const MODULES: readonly AdaptedModule[] = [
  { path: 'one', inSize: 5, outSize: 3, hasGain: false },
  { path: 'two', inSize: 2, outSize: 7, hasGain: true },
];
/** No limit that anything here would meet. */
const MANY_BYTES = 2 ** 26;
/** Bytes of one unit of both modules. */
const UNIT_BYTES = MODULES.reduce((sum, { inSize, outSize }) => sum + (inSize + outSize) * LORA_UNIT * 4, 0);

interface Known {
  readonly adapter: AdapterUnits;
  /** By module: A [rank, in] and B [rank, out]. */
  readonly rows: ReadonlyMap<string, { readonly rank: number; readonly a: Float32Array; readonly b: Float32Array }>;
  readonly gainChange: Float32Array;
}

function makeAdapter(seed: number, ranks: readonly number[]): Known {
  const next = seededNumbers(seed);
  const numbers = (length: number): Float32Array => Float32Array.from({ length }, () => next() - 0.5);
  const rows = new Map(
    MODULES.flatMap(({ path, inSize, outSize }, index) => {
      const rank = ranks[index] ?? 0;
      return rank === 0 ? [] : [[path, { rank, a: numbers(rank * inSize), b: numbers(rank * outSize) }] as const];
    }),
  );
  const gainChange = numbers(7);
  const factors = [...rows].map(([module, { rank, a, b }]) => {
    const units = new Float32Array(a.length);
    writeUnits(units, a, rank);
    return { module, rank, a: units, b, gainChange: module === 'two' ? gainChange : undefined };
  });
  return { adapter: new AdapterUnits({ factors, head: undefined }), rows, gainChange };
}

/** A [in, 16] and B [16, out] of one unit, from the plain factors. */
function unitOf({ rows }: Known, { path, inSize, outSize }: AdaptedModule, index: number): [number[], number[]] {
  const own = rows.get(path);
  const at = (values: Float32Array | undefined, rank: number, size: number, place: number): number =>
    own !== undefined && rank < own.rank ? (values?.[rank * size + place] as number) : 0;
  const a: number[] = [];
  for (let place = 0; place < inSize; place++) {
    for (let rank = 0; rank < LORA_UNIT; rank++) a.push(at(own?.a, index * LORA_UNIT + rank, inSize, place));
  }
  const b: number[] = [];
  for (let rank = 0; rank < LORA_UNIT; rank++) {
    for (let place = 0; place < outSize; place++) b.push(at(own?.b, index * LORA_UNIT + rank, outSize, place));
  }
  return [a, b];
}

function slice(feeds: Readonly<Record<string, TensorValue>>, name: string, place: number, size: number): number[] {
  const data = feeds[name]?.data as Float32Array;
  return [...data.subarray(place * size, (place + 1) * size)];
}

function assertHolds(stack: UnitStack, wanted: readonly Known[], range: PlaceRange): void {
  const feeds: Record<string, TensorValue> = {};
  stack.feed(feeds, range);
  const taken = new Set<number>();
  for (const known of wanted) {
    const places = stack.placesOf(known.adapter);
    assert.equal(places.length, known.adapter.unitCount);
    for (const [index, absolute] of places.entries()) {
      const place = absolute - range.first;
      assert.ok(place >= 0 && place < range.count && !taken.has(place), 'its own, among those that the step reads');
      taken.add(place);
      for (const module of MODULES) {
        const [a, b] = unitOf(known, module, index);
        assert.deepEqual(slice(feeds, `${module.path}.lora_a`, place, module.inSize * LORA_UNIT), a);
        assert.deepEqual(slice(feeds, `${module.path}.lora_b`, place, module.outSize * LORA_UNIT), b);
      }
      const change = index === 0 && known.rows.has('two') ? [...known.gainChange] : new Array(7).fill(0);
      assert.deepEqual(slice(feeds, 'two.lora_gain', place, 7), change);
    }
  }
}

function setOf(...known: readonly Known[]): ReadonlySet<AdapterUnits> {
  return new Set(known.map(({ adapter }) => adapter));
}

const RANKS = [[1, 1], [16, 3], [40, 2], [0, 17], [9, 0], [64, 64], [], [33, 16], [300, 1]] as const;
const known = RANKS.map((ranks, index) => makeAdapter(SEED + index, ranks));

test('a thousand random batches read what their adapters hold; what lies scattered comes together', () => {
  const next = seededNumbers(SEED);
  const stack = new UnitStack(MODULES, 6 * UNIT_BYTES);
  for (let batch = 0; batch < 1000; batch++) {
    const share = next();
    const wanted = known.filter((_, index) => index === batch % known.length || next() < share);
    const adapters = setOf(...wanted);
    if (next() < 0.2) stack.forget(known[Math.floor(next() * known.length)]?.adapter as AdapterUnits);
    if (next() < 0.5) stack.prepare(adapters, new Set());
    let range = stack.arrange(adapters);
    assertHolds(stack, wanted, range);
    const units = wanted.reduce((sum, { adapter }) => sum + adapter.unitCount, 0);
    for (let step = 0; step < units; step++) range = stack.arrange(adapters);
    assert.ok(range.count <= 2 * units, `${range.count} places for ${units} units`);
    assertHolds(stack, wanted, range);
  }
});

test('preparing writes one unit at a time', () => {
  const stack = new UnitStack(MODULES, MANY_BYTES);
  const [, , wide] = known as [Known, Known, Known];
  for (const count of [1, 2, 3]) {
    assert.equal(stack.prepare(setOf(wide), new Set()), UNIT_BYTES);
    assert.equal(stack.placesOf(wide.adapter).length, count);
  }
  assert.equal(stack.prepare(setOf(wide), new Set()), 0);
});

test('what is prepared leaves the places of those that run alone', () => {
  const stack = new UnitStack(MODULES, MANY_BYTES);
  const [one, two, wide] = known as [Known, Known, Known];
  stack.arrange(setOf(one, two));
  while (stack.prepare(setOf(wide), setOf(two)) > 0);
  assert.deepEqual(stack.placesOf(two.adapter), [1]);
  assertHolds(stack, [two, wide], stack.arrange(setOf(two, wide)));
});

test('adapters have room within the limit, and always when nothing runs', () => {
  const stack = new UnitStack(MODULES, 4 * UNIT_BYTES);
  const [one, two, wide, other] = known as [Known, Known, Known, Known];
  assert.equal(stack.hasRoom(setOf(one), setOf(wide)), true);
  assert.equal(stack.hasRoom(setOf(wide), setOf(wide, two)), true, 'those that run already take no more');
  assert.equal(stack.hasRoom(setOf(other), setOf(wide)), false);
  assert.equal(stack.hasRoom(setOf(one, two, wide, other), new Set()), true);
});

test('adapters that take turns stay each at its place, and a step reads one of them', () => {
  const stack = new UnitStack(MODULES, MANY_BYTES);
  const turns = [0, 1, 4, 6].map((index) => known[index] as Known);
  const places = turns.map((one) => stack.arrange(setOf(one)).first);
  assert.equal(new Set(places).size, turns.length);
  for (const [index, one] of turns.entries()) {
    assert.equal(stack.prepare(setOf(one), new Set()), 0, 'nothing is missing');
    assert.deepEqual(stack.arrange(setOf(one)), { first: places[index], count: 1 });
  }
});

test('an adapter that comes back before its place was needed is still there', () => {
  const stack = new UnitStack(MODULES, MANY_BYTES);
  const [one, two] = known as [Known, Known];
  stack.arrange(setOf(one, two));
  stack.arrange(setOf(one));
  assert.deepEqual(stack.placesOf(two.adapter), [1]);
  stack.forget(two.adapter);
  assert.deepEqual(stack.placesOf(two.adapter), []);
});

test('the factors of a run are the units of its adapters side by side, b with its weight, and the blended gain', () => {
  const [one, , wide] = known as [Known, Known, Known];
  const blend = new AdapterCombination([
    { weight: 0.5, adapter: one.adapter },
    { weight: -2, adapter: wide.adapter },
  ]);
  const factors = new RunFactors(MODULES, MANY_BYTES);
  for (const left of [UNIT_BYTES, UNIT_BYTES, UNIT_BYTES, UNIT_BYTES, 0]) assert.equal(factors.prepare(blend), left);
  const feeds = factors.of(blend);
  assert.equal(factors.of(blend), feeds, 'kept');
  for (const [place, [owner, index, weight]] of (
    [
      [one, 0, 0.5],
      [wide, 0, -2],
      [wide, 1, -2],
      [wide, 2, -2],
    ] as const
  ).entries()) {
    for (const module of MODULES) {
      const [a, b] = unitOf(owner, module, index);
      const rows = Array.from({ length: module.inSize }, (_, row) => row);
      const columns = rows.flatMap((row) => slice(feeds, `${module.path}.lora_a`, row * 4 + place, LORA_UNIT));
      assert.deepEqual(columns, a);
      const scaled = b.map((value) => Math.fround(value * weight));
      assert.deepEqual(slice(feeds, `${module.path}.lora_b`, place, module.outSize * LORA_UNIT), scaled);
    }
  }
  for (const [out, value] of slice(feeds, 'two.lora_gain', 0, 7).entries()) {
    const expected = 1 + 0.5 * (one.gainChange[out] as number) - 2 * (wide.gainChange[out] as number);
    assert.ok(Math.abs(value - expected) < 1e-6);
  }
  factors.forget(one.adapter);
  assert.notEqual(factors.of(blend), feeds);
});
