/** Copies of heads: those in use stay, however little is kept. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { AdapterCombination } from '../../../src/runtime/lora/adapter-combination.ts';
import { defaultAdapterMemory } from '../../../src/runtime/lora/adapter-memory.ts';
import { AdapterUnits } from '../../../src/runtime/lora/adapter-units.ts';
import { AdaptedHead } from '../../../src/runtime/output-head/adapted-head.ts';
import { OutputHead } from '../../../src/runtime/output-head/output-head.ts';
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
