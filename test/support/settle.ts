/** Waits, a turn of the event loop at a time, for what another process or a database brings about. */
import assert from 'node:assert/strict';

const LONGEST_MS = 30_000;

export async function settle(condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + LONGEST_MS;
  while (!(await condition())) {
    assert.ok(performance.now() < end, 'it never came about');
    await new Promise(setImmediate);
  }
}
