/** Copies of heads: those in use stay, however little is kept, and count by the weights of their adapters. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { AdapterCombination } from '../../../src/runtime/lora/adapter-combination.ts';
import { defaultAdapterMemory } from '../../../src/runtime/lora/adapter-memory.ts';
import { AdapterUnits } from '../../../src/runtime/lora/adapter-units.ts';
import { AdaptedHead } from '../../../src/runtime/output-head/adapted-head.ts';
import { OutputHead } from '../../../src/runtime/output-head/output-head.ts';
import { quantizeRows, WEIGHT_RANGES } from '../../../src/runtime/quantization/quantize-rows.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const [VOCABULARY, SIZE] = [40, 8];
const next = seededNumbers(20261128);
const numbers = (length: number): Float32Array => Float32Array.from({ length }, () => next() - 0.5);

async function openHead(t: TestContext): Promise<AdaptedHead> {
  const head = numbers(VOCABULARY * SIZE);
  const own = await OutputHead.create(head, SIZE, { threadCount: 1 });
  // less than one head, less than one unit
  const memory = { ...defaultAdapterMemory, headBytes: 1, factorBytes: 1 };
  const adapted = new AdaptedHead(own, head.length / SIZE, SIZE, { threadCount: 1, memory });
  t.after(async () => {
    await adapted.dispose();
    await own.dispose();
  });
  return adapted;
}

/** One adapter alone: factors of the head, or a head of its own. */
function combinationWith(kind: 'factors' | 'head'): AdapterCombination {
  const factors = {
    module: 'lm_head',
    rank: 16,
    a: numbers(16 * SIZE),
    b: numbers(16 * VOCABULARY),
    gainChange: undefined,
  };
  const weights =
    kind === 'factors' ? { factors: [factors], head: undefined } : { factors: [], head: numbers(VOCABULARY * SIZE) };
  return new AdapterCombination([{ weight: 1, adapter: new AdapterUnits(weights) }]);
}

function bringIn(head: AdaptedHead, combination: AdapterCombination, running: readonly AdapterCombination[]): number {
  let pieces = 0;
  while (head.prepare(combination, running) > 0) pieces++;
  return pieces;
}

for (const kind of ['factors', 'head'] as const) {
  test(`what rows that run have of the head stays when others come, and goes when they have ended: ${kind}`, async (t) => {
    const head = await openHead(t);
    const [first, second] = [combinationWith(kind), combinationWith(kind)];
    assert.ok(bringIn(head, first, []) > 0);
    assert.ok(bringIn(head, second, [first]) > 0);
    assert.equal(bringIn(head, first, [second]), 0, 'it is there still');
    assert.ok(bringIn(head, combinationWith(kind), [second]) > 0);
    assert.ok(bringIn(head, first, [second]) > 0, 'it had gone, since none of those that run has it');
  });
}

for (const precision of ['float32', 'int8'] as const) {
  test(`heads of adapters count by their weights, and the own head by the rest: ${precision}`, async (t) => {
    const head = numbers(VOCABULARY * SIZE);
    const matrix = quantizeRows(head, SIZE, WEIGHT_RANGES[2]);
    const own =
      precision === 'float32'
        ? await OutputHead.create(head, SIZE, { threadCount: 1 })
        : await OutputHead.createInteger({ matrix, rowBytes: 2 }, { threadCount: 1 });
    const adapted = new AdaptedHead(own, VOCABULARY, SIZE, { threadCount: 1, memory: defaultAdapterMemory });
    t.after(async () => {
      await adapted.dispose();
      await own.dispose();
    });
    const [rows, tolerance] = precision === 'float32' ? [3, 1e-6] : [3, 0.02];
    const states = numbers(rows * SIZE);
    const needs = Array.from({ length: rows }, () => ({
      topCount: 1,
      askedIds: [],
      allLogits: true,
      orderOnly: false,
    }));
    for (const weights of [[1], [0.5], [1.5, -0.25], [0.7, 0.3], [-1, 0.5]]) {
      const parts = weights.map((weight) => ({ weight, theirs: numbers(VOCABULARY * SIZE) }));
      const combination = new AdapterCombination(
        parts.map(({ weight, theirs }) => ({ weight, adapter: new AdapterUnits({ factors: [], head: theirs }) })),
      );
      const scores = await adapted.score(states, [...needs.keys()], needs, combination);
      for (const [row, { logits }] of scores.entries()) {
        for (let id = 0; id < VOCABULARY; id++) {
          let expected = 0;
          for (let index = 0; index < SIZE; index++) {
            const place = id * SIZE + index;
            const mine = head[place] as number;
            const blended = parts.reduce(
              (sum, { weight, theirs }) => sum + weight * ((theirs[place] as number) - mine),
              mine,
            );
            expected += blended * (states[row * SIZE + index] as number);
          }
          const difference = Math.abs((logits?.[id] ?? Number.NaN) - expected);
          assert.ok(difference <= tolerance, `${weights}, row ${row}, id ${id}: ${difference}`);
        }
      }
    }
  });
}
