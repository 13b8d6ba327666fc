/** Workers of a supervised engine that start, answer and end when the test says so. */
import assert from 'node:assert/strict';
import type { WorkerConnection } from '../../src/runtime/engine/engine-client.ts';
import type { GenerationRequest } from '../../src/runtime/engine/generation-request.ts';
import {
  SupervisedEngine,
  type SupervisorEvent,
  type SupervisorOptions,
  type WorkerLife,
} from '../../src/runtime/engine/supervised-engine.ts';
import { ManualClock } from './manual-clock.ts';

/** Milliseconds that the first start takes. */
export const START_MS = 200;
/** A fake worker answers without a look at it. */
export const REQUEST = {} as GenerationRequest;

/** One start of a worker. */
interface Start extends WorkerLife {
  readonly succeed: () => void;
  readonly fail: (cause: Error) => void;
  /** Adapters that came and went once it was in service: `+key`, `-key`. */
  readonly adapterLog: string[];
  closed: boolean;
}

export class FakeWorkers {
  readonly starts: Start[] = [];
  /** Until it resolves, closed workers have something left to answer. */
  draining: Promise<void> = Promise.resolve();

  get closedCount(): number {
    return this.starts.filter(({ closed }) => closed).length;
  }

  readonly start = (life: WorkerLife): Promise<{ client: WorkerConnection; facts: string }> =>
    new Promise((resolve, reject) => {
      const number = this.starts.length + 1;
      const adapterLog: string[] = [];
      const client: WorkerConnection = {
        pendingCount: 1,
        generate: () => Promise.reject(new Error(`answered by worker ${number}`)),
        embed: async () => [],
        addAdapter: (key) => void adapterLog.push(`+${key}`),
        dropAdapter: (key) => void adapterLog.push(`-${key}`),
        close: () => {
          started.closed = true;
          return this.draining;
        },
      };
      life.signal.addEventListener('abort', () => reject(new Error('aborted')));
      const succeed = () => resolve({ client, facts: 'facts' });
      const started: Start = { ...life, adapterLog, succeed, fail: reject, closed: false };
      this.starts.push(started);
    });

  get last(): Start {
    const start = this.starts.at(-1);
    assert.ok(start !== undefined);
    return start;
  }
}

/** An engine whose first worker is in service. */
export async function startOverFakeWorkers(options: Pick<SupervisorOptions<string>, 'adaptedAlways'> = {}) {
  const clock = new ManualClock();
  const workers = new FakeWorkers();
  const events: SupervisorEvent[] = [];
  const stopping = new AbortController();
  const { signal } = stopping;
  const started = SupervisedEngine.start({
    start: workers.start,
    onEvent: (event) => events.push(event),
    stopping: signal,
    clock,
    ...options,
  });
  await clock.advance(START_MS);
  workers.last.succeed();
  const { engine, facts } = await started;
  assert.equal(facts, 'facts');
  return { clock, workers, events, stopping, engine };
}
