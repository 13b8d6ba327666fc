/**
 * A process that works on evaluations until it is killed: what it says on a line is stored. Its waits are short, so that
 * a test need not sit out leases. Arguments: the folder, the address (or nothing) and the seed of its order.
 */
import { writeSync } from 'node:fs';
import { Notifications } from '../../src/jobs/notifications.ts';
import { JobQueue } from '../../src/jobs/queue.ts';
import type { Clock } from '../../src/runtime/engine/clock.ts';
import { startWorker } from '../../src/runtime/start-worker.ts';
import { Database } from '../../src/storage/database.ts';
import { EvaluationStore } from '../../src/storage/evaluation-store.ts';
import { newSample } from './evaluations.ts';
import { seededNumbers } from './seeded-numbers.ts';

const [folder = '', url = '', seed = '0'] = process.argv.slice(2);
const FASTER = 50;
const clock: Clock = {
  now: () => performance.now() * FASTER,
  after: (delayMs, run) => {
    const timer = setTimeout(run, delayMs / FASTER);
    return () => clearTimeout(timer);
  },
};

function say(line: string): void {
  // at once, not when the event loop gets to it
  writeSync(1, `${line}\n`);
}

function onError(error: unknown): void {
  say(`error ${error instanceof Error ? error.stack : error}`);
}

say('opening');
const database = await Database.open({ folder, ...(url === '' ? {} : { url }), startWorker, onError });
const store = new EvaluationStore(database);
const notifications = await Notifications.open(database, { clock, onError });
const queue = await JobQueue.open(database, { notifications, clock, queues: ['evaluation'], onError });
const random = seededNumbers(Number(seed));
queue.work('evaluation', async ({ id, signal }) => {
  const run = await store.begin(id);
  if (run === undefined) return;
  const done = await store.doneIndexes(id);
  const left = Array.from({ length: run.samplesTotal }, (_, index) => index).filter((index) => !done.has(index));
  say(`begun ${done.size}`);
  const lane = async (): Promise<void> => {
    while (left.length > 0 && !signal.aborted) {
      const [index = 0] = left.splice(Math.floor(random() * left.length), 1);
      const added = await store.addSample(id, newSample(index, { text: `${index} `.repeat(1000) }));
      if (added !== undefined) say(`stored ${index} ${added.sequence}`);
    }
  };
  await Promise.all([lane(), lane(), lane(), lane()]);
  if (signal.aborted) return;
  await store.finish(id, { scored: (await store.scoresSince(id, 0)).length });
  say('finished');
});
say('open');
