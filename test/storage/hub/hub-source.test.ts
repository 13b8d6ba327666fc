import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatHubSource, type HubKind, parseHubSource } from '../../../src/storage/hub/hub-source.ts';
import { hubRefuses } from '../../support/hub-place.ts';

test('a source names a repository, a revision and perhaps a file', () => {
  const cases: readonly [string, HubKind | undefined, ReturnType<typeof parseHubSource>][] = [
    [
      'hub:google/flan-t5-small',
      'model',
      { type: 'model', repo: 'google/flan-t5-small', revision: 'main', file: undefined },
    ],
    ['hub:a/b@v1.0', undefined, { type: 'model', repo: 'a/b', revision: 'v1.0', file: undefined }],
    ['hub:a/b@refs/pr/1', 'adapter', { type: 'model', repo: 'a/b', revision: 'refs/pr/1', file: undefined }],
    ['hub:a/b#x.gguf', 'model', { type: 'model', repo: 'a/b', revision: 'main', file: 'x.gguf' }],
    ['hub:a/b@v1#x.gguf', 'model', { type: 'model', repo: 'a/b', revision: 'v1', file: 'x.gguf' }],
    ['hub:datasets/a/b', undefined, { type: 'dataset', repo: 'a/b', revision: 'main', file: undefined }],
    ['hub:a/b', 'dataset', { type: 'dataset', repo: 'a/b', revision: 'main', file: undefined }],
  ];
  for (const [source, kind, expected] of cases) {
    const parsed = parseHubSource(source, kind);
    assert.deepEqual(parsed, expected, source);
    assert.deepEqual(parseHubSource(formatHubSource(parsed)), expected, source);
  }
});

for (const source of [
  'hub:',
  'hub:name',
  'hub:a/b/c',
  'hub:../b',
  'hub:a/..',
  'hub:a/.',
  'hub:.a/b',
  'hub:a//b',
  'hub:/a/b',
  'hub:a/b--c',
  'hub:a\\b/c',
  'hub:a/b\0',
  'hub:a/b\n',
  'hub:ä/b',
  'hub:a/b.git',
  `hub:a/${'b'.repeat(96)}`,
  'hub:a/b@',
  'hub:a/b@..',
  'hub:a/b@../../x',
  'hub:a/b@x/../y',
  'hub:a/b@/x',
  'hub:a/b@x/',
  'hub:a/b@.hidden',
  'hub:a/b@x@y',
  'hub:a/b@x y',
  `hub:a/b@${'x'.repeat(129)}`,
  'hub:a/b#',
  'hub:a/b#../x',
  'hub:a/b#x/y.gguf',
  'hub:a/b#.x',
  'dir:a/b',
]) {
  test(`${JSON.stringify(source.slice(0, 40))} is refused`, () => {
    assert.throws(() => parseHubSource(source), hubRefuses('name', /came\.$/));
  });
}

test('the source of a dataset is no model', () => {
  assert.throws(() => parseHubSource('hub:datasets/a/b', 'model'), hubRefuses('name', /a model, not of a dataset/));
  assert.throws(() => parseHubSource('hub:datasets/a/b', 'adapter'), hubRefuses('name', /an adapter, not of/));
});
