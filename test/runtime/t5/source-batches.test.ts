/** Sources that are asked for at once are encoded in one run, and each is what it is alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AdapterCombination } from '../../../src/runtime/lora/adapter-combination.ts';
import { SourceBatches } from '../../../src/runtime/t5/source-batches.ts';
import type { SourceEncoder } from '../../../src/runtime/t5/source-encoder.ts';
import { loadRunner } from '../../support/engine-harness.ts';
import { repositoryPath } from '../../support/oracle.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

test('sources of many lengths, together and alone: the same bits', async (t) => {
  const { runner } = await loadRunner(repositoryPath('test/fixtures'), 't5-gated-untied', { decodeLoop: true });
  t.after(() => runner.dispose());
  const next = seededNumbers(3);
  const sources = [3, 16, 17, 100, 33, 5].map((length) => Array.from({ length }, () => 3 + Math.floor(next() * 100)));
  const none = runner.combine([]);
  const together = await Promise.all(sources.map((ids) => runner.prefill(ids, none).advance()));
  for (const [index, ids] of sources.entries()) {
    const alone = await runner.prefill(ids, none).advance();
    assert.deepEqual(together[index], alone);
    assert.equal(alone?.length, Math.ceil(ids.length / 16) * 16);
  }
});

test('one run for those of the same adapters; a run that fails is theirs alone', async () => {
  const [own, others, wide] = [{ unitCount: 1 }, { unitCount: 1 }, { unitCount: 2 }] as AdapterCombination[];
  const runs: number[] = [];
  const encoder = {
    encodeTogether: async (sources: readonly (readonly number[])[], adapters: AdapterCombination) => {
      runs.push(sources.length);
      if (adapters === others) throw new Error('no');
      return sources.map(([id = 0]) => ({ length: id, parts: [] }));
    },
  };
  const batches = new SourceBatches(encoder as unknown as SourceEncoder);
  const asked = [
    batches.encode([1], own as AdapterCombination),
    batches.encode([2], others as AdapterCombination),
    batches.encode([3], own as AdapterCombination),
    // of more ranks than a unit has
    batches.encode([4], wide as AdapterCombination),
    batches.encode([5], wide as AdapterCombination),
  ];
  const ends = await Promise.allSettled(asked);
  assert.deepEqual(
    ends.map((end) => (end.status === 'fulfilled' ? end.value.length : String(end.reason))),
    [1, 'Error: no', 3, 4, 5],
  );
  assert.deepEqual(runs, [2, 1, 1, 1]);
});
