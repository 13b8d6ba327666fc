/** The inference workers of this process, for tests in which they die. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { TestContext } from 'node:test';
import type { Worker } from 'node:worker_threads';
import type { FromWorker } from '../../src/runtime/engine/worker-messages.ts';

/** Every worker that is started from now on. */
export function watchWorkers(t: TestContext): Worker[] {
  const workers: Worker[] = [];
  const add = (worker: Worker) => void workers.push(worker);
  process.on('worker', add);
  t.after(() => process.off('worker', add));
  return workers;
}

export async function nextWorker(): Promise<Worker> {
  const [worker] = (await once(process, 'worker')) as [Worker];
  return worker;
}

/** Resolves when the worker has loaded its model. */
export async function inService(worker: Worker): Promise<void> {
  for (;;) {
    const [message] = (await once(worker, 'message')) as [FromWorker];
    if (message.type === 'ready') return;
  }
}

/**
 * Ends the thread between two calls of the model: what it cannot read is an error that nothing in it catches.
 * (Terminated inside a call, it would take the process with it.)
 */
export async function crash(worker: Worker | undefined): Promise<void> {
  assert.ok(worker !== undefined);
  // `once` would reject with the error that comes first
  const ended = new Promise((resolve) => worker.once('exit', resolve));
  worker.postMessage(null);
  await ended;
}
