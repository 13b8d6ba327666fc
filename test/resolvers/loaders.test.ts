import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GenerationLoader } from '../../src/resolvers/loaders.ts';

test('many generations that listen to the signal of their request are not taken for a leak', async (t) => {
  const warnings: Error[] = [];
  const note = (warning: Error): unknown => warnings.push(warning);
  process.on('warning', note);
  t.after(() => process.off('warning', note));
  const leaving = new AbortController();
  const loader = new GenerationLoader(leaving.signal);
  const generations = Array.from({ length: 12 }, () =>
    loader.load(async () => ({
      run: ({ signal } = {}) => new Promise((resolve) => signal?.addEventListener('abort', resolve, { once: true })),
      discard: () => {},
    })),
  );
  // loaded, prepared, run
  for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
  leaving.abort();
  await Promise.all(generations);
  await new Promise(setImmediate);
  assert.deepEqual(warnings, []);
});
