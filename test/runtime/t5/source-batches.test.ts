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

/** An encoder that remembers the lengths of each run, and fails where `fails` says so. */
function scripted(fails: (lengths: readonly number[], adapters: AdapterCombination) => boolean) {
  const runs: (readonly number[])[] = [];
  const encoder = {
    encodeTogether: async (sources: readonly (readonly number[])[], adapters: AdapterCombination) => {
      const lengths = sources.map(({ length }) => length);
      runs.push(lengths);
      if (fails(lengths, adapters)) throw new Error('no');
      return sources.map(({ length }) => ({ length, parts: [] }));
    },
  };
  return { runs, batches: new SourceBatches(encoder as unknown as SourceEncoder) };
}

const [own, others, wide] = [{ unitCount: 1 }, { unitCount: 1 }, { unitCount: 2 }] as unknown as [
  AdapterCombination,
  AdapterCombination,
  AdapterCombination,
];
const source = (length: number): readonly number[] => new Array(length).fill(5);

test('one run for those of the same adapters; a run that fails is theirs alone', async () => {
  const { runs, batches } = scripted((_, adapters) => adapters === others);
  const ends = await Promise.allSettled([
    batches.encode(source(1), own),
    batches.encode(source(2), others),
    batches.encode(source(3), own),
    // of more ranks than a unit has
    batches.encode(source(4), wide),
    batches.encode(source(5), wide),
  ]);
  assert.deepEqual(
    ends.map((end) => (end.status === 'fulfilled' ? end.value.length : String(end.reason))),
    [1, 'Error: no', 3, 4, 5],
  );
  assert.deepEqual(runs, [[1, 3], [2], [4], [5]]);
});

test('a long source does not make the others as long: what is read together is bounded by its pairs of tokens', async () => {
  const { runs, batches } = scripted(() => false);
  const lengths = [4096, 300, 512, 300, 2048];
  const sources = await Promise.all(lengths.map((length) => batches.encode(source(length), own)));
  assert.deepEqual(
    sources.map(({ length }) => length),
    lengths,
  );
  assert.deepEqual(runs, [[300, 300, 512, 2048], [4096]]);
  for (const run of runs) assert.ok(run.length === 1 || run.length * Math.max(...run) ** 2 <= 2 ** 24);
});

test('sources that fail together are tried one by one', async () => {
  const { runs, batches } = scripted((lengths) => lengths.length > 1 || lengths[0] === 7);
  const ends = await Promise.allSettled([6, 7, 8].map((length) => batches.encode(source(length), own)));
  assert.deepEqual(
    ends.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  );
  assert.deepEqual(runs, [[6, 7, 8], [6], [7], [8]]);
});
