import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readPullArguments } from '../../src/commands/pull-arguments.ts';
import { type PullProgress, pullViews } from '../../src/commands/pull-progress.ts';

test('a source is enough; a kind and the form of the answer may be said', () => {
  assert.deepEqual(readPullArguments(['hub:a/b']), { source: 'hub:a/b', kind: undefined, json: false });
  assert.deepEqual(readPullArguments(['--json', '--kind', 'dataset', 'hub:a/b@v1#x.csv']), {
    source: 'hub:a/b@v1#x.csv',
    kind: 'dataset',
    json: true,
  });
  assert.equal(readPullArguments(['--help', 'whatever']), undefined);
});

const refusals: readonly [readonly string[], RegExp][] = [
  [[], /Expected one hub:OWNER\/NAME, none came\. See gistql pull --help\./],
  [['hub:a/b', 'hub:c/d'], /hub:a\/b and hub:c\/d came/],
  [['a/b'], /Expected hub:OWNER\/NAME, "a\/b" came\. See/],
  [['dir:a'], /"dir:a" came/],
  [['hub:a'], /Expected hub:OWNER\/NAME, as in the hub's addresses, .* "hub:a" came/],
  [['hub:a/b', '--kind', 'space'], /Expected --kind to be model, adapter, dataset, "space" came/],
  [['hub:datasets/a/b', '--kind', 'model'], /a model, not of a dataset/],
  [['hub:a/b', '--force'], /--force.* See gistql pull --help\./s],
];
for (const [written, message] of refusals) {
  test(`pull ${written.join(' ')} is refused`, () => assert.throws(() => readPullArguments(written), message));
}

test('progress says how much has come, how fast, and how long the rest takes', () => {
  const half: PullProgress = {
    file: 'model.safetensors',
    bytesDone: 6 * 2 ** 20,
    bytesTotal: 10 * 2 ** 20,
    bytesBefore: 4 * 2 ** 20,
    elapsedMs: 2000,
  };
  assert.equal(pullViews.line(half), '6.0 MiB of 10.0 MiB, 1.0 MiB a second, 4 s left; model.safetensors');
  assert.deepEqual(pullViews.block(half), [
    `${'█'.repeat(18)}${'░'.repeat(12)} 6.0 MiB of 10.0 MiB, 1.0 MiB a second, 4 s left`,
    'model.safetensors',
  ]);
  assert.equal(pullViews.line({ ...half, bytesDone: half.bytesBefore }), '4.0 MiB of 10.0 MiB; model.safetensors');
});
