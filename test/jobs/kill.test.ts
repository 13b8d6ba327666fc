/** SIGKILL at any moment: what was said to be stored is stored, and the run goes on by itself, with nothing twice. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { Notifications } from '../../src/jobs/notifications.ts';
import { JobQueue } from '../../src/jobs/queue.ts';
import { systemClock } from '../../src/runtime/engine/clock.ts';
import { startWorker } from '../../src/runtime/start-worker.ts';
import { Database } from '../../src/storage/database.ts';
import { EvaluationStore } from '../../src/storage/evaluation-store.ts';
import { newEvaluation, newSample } from '../support/evaluations.ts';
import { repositoryPath } from '../support/oracle.ts';
import { seededNumbers } from '../support/seeded-numbers.ts';
import { settle } from '../support/settle.ts';
import { type DatabasePlace, databaseTest } from '../support/test-database.ts';
import { temporaryFolder } from '../support/tiny-model.ts';

const SEED = 47;
const KILLS = 10;
const SAMPLES = 400;

/** A process under test, and what it says. */
class WorkingProcess {
  private readonly child: ChildProcess;
  private readonly lines: AsyncIterator<string>;

  constructor({ folder, url = '' }: DatabasePlace, seed: number) {
    const file = repositoryPath('test/support/working-process.ts');
    this.child = spawn(process.execPath, ['--import', 'tsx', file, folder, url, String(seed)], {
      cwd: repositoryPath(''),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    assert.ok(this.child.stdout !== null);
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  /** Its next line; undefined when it has ended. */
  async line(): Promise<string | undefined> {
    const { done, value } = await this.lines.next();
    return done === true ? undefined : value;
  }

  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exit = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await exit;
  }
}

async function startRun(place: DatabasePlace): Promise<string> {
  const database = await Database.open({ ...place, startWorker, onError: () => {} });
  const onError = (error: unknown): void => assert.fail(String(error));
  const notifications = await Notifications.open(database, { clock: systemClock, onError });
  const queue = await JobQueue.open(database, { notifications, clock: systemClock, queues: ['evaluation'], onError });
  const { run: evaluation } = await new EvaluationStore(database).create(
    newEvaluation({ samplesTotal: SAMPLES }),
    (connection, id) => queue.send(connection, 'evaluation', id),
  );
  await queue.close();
  await notifications.close();
  await database.close();
  return evaluation.id;
}

databaseTest(
  'killed ten times at random moments, a run ends with every sample once, and none that was acknowledged is lost',
  async (t, { make, open, isEmbedded }) => {
    const place = await make();
    const id = await startRun(place);
    const random = seededNumbers(SEED);
    const acknowledged = new Map<number, number>();
    const watcher = isEmbedded ? undefined : await open(place);
    for (let kills = 0, finished = false; !finished; kills++) {
      const worker = new WorkingProcess(place, kills);
      t.after(() => worker.kill());
      // some are killed while they open the database, most while they store
      let left = kills >= KILLS ? Number.POSITIVE_INFINITY : Math.floor(random() * 40);
      for (;;) {
        const line = await worker.line();
        if (line === undefined) break;
        const [word, index, sequence] = line.split(' ');
        assert.notEqual(word, 'error', line);
        finished ||= word === 'finished';
        if (word === 'stored') acknowledged.set(Number(index), Number(sequence));
        if (finished || left-- <= 0) await worker.kill();
      }
      // as if the lease of the killed process had run out
      await watcher?.query("update gistql_jobs.job set started_on = now() - interval '1 hour' where state = 'active'");
    }
    const store = new EvaluationStore(watcher ?? (await open(place)));
    const run = await store.get(id);
    assert.equal(run?.status, 'succeeded');
    assert.deepEqual(run?.summary, { scored: SAMPLES });
    const samples = (await store.samplesSince(id, 0, SAMPLES + 1))?.samples ?? [];
    assert.deepEqual(
      samples.map(({ sequence }) => sequence),
      Array.from({ length: SAMPLES }, (_, n) => n + 1),
    );
    assert.equal(new Set(samples.map(({ index }) => index)).size, SAMPLES);
    for (const { index, sequence, outputs } of samples) {
      assert.equal(acknowledged.get(index) ?? sequence, sequence);
      assert.deepEqual(outputs, newSample(index).outputs);
    }
  },
);

test('killed while it makes its database, a process leaves none that is half made', async (t) => {
  const folder = await temporaryFolder(t);
  const worker = new WorkingProcess({ folder }, SEED);
  t.after(() => worker.kill());
  await settle(() => existsSync(join(folder, 'database.new', 'PG_VERSION')));
  await worker.kill();
  assert.ok(!existsSync(join(folder, 'database')));
  const database = await Database.open({ folder, startWorker, onError: () => {} });
  assert.equal(await new EvaluationStore(database).count(), 0);
  await database.close();
});
