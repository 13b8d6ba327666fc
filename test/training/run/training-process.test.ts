/** A training in its own process: killed at any time it goes on, and what ends it is told apart. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { constants, getPriority } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { RuntimeError } from '../../../src/runtime/errors.ts';
import type { TrainingProgress } from '../../../src/training/run/trainer-protocol.ts';
import { runTraining } from '../../../src/training/run/training-process.ts';
import { type Cleanup, lastFirst } from '../../support/cleanup.ts';
import { temporaryFolder } from '../../support/tiny-model.ts';
import {
  elsewhere,
  eventsOf,
  type TinyTraining,
  tinyTraining,
  weightsOf,
  withoutTimes,
} from '../../support/tiny-training.ts';

/** The processes of trainings that this one started. */
function trainers(): readonly number[] {
  const lines = execFileSync('ps', ['-o', 'pid=,args=', '--ppid', String(process.pid)], { encoding: 'utf8' });
  return lines
    .split('\n')
    .filter((line) => line.includes('trainer-process'))
    .map((line) => Number.parseInt(line, 10));
}

interface Watch {
  /** Stores events as a database would: each once. */
  readonly stored: Map<string, TrainingProgress>;
  readonly onEvent?: (event: TrainingProgress) => void;
  readonly signal?: AbortSignal;
}

function run({ plan, places }: TinyTraining, { stored, onEvent, signal }: Watch): Promise<'finished' | 'stopped'> {
  return runTraining(plan, places, {
    signal: signal ?? new AbortController().signal,
    onProgress: async (events) => {
      for (const event of events) {
        const key = event.type === 'prepared' ? event.type : `${event.type} ${event.step}`;
        if (!stored.has(key)) stored.set(key, event);
        onEvent?.(event);
      }
    },
  });
}

test('killed again and again it ends with the events and the bits of a run that was not', async (t) => {
  const undisturbed = await tinyTraining(t, { optimization: { epochs: 4 }, lora: { dropout: 0.1 } });
  const whole = new Map<string, TrainingProgress>();
  assert.equal(await run(undisturbed, { stored: whole }), 'finished');

  const killed = await elsewhere(t, undisturbed);
  const stored = new Map<string, TrainingProgress>();
  for (const last of [1, 9, 20]) {
    const kill = (event: TrainingProgress): void => {
      if (event.type === 'step' && event.step >= last) for (const pid of trainers()) process.kill(pid, 'SIGKILL');
    };
    await assert.rejects(run(killed, { stored, onEvent: kill }), (error: Error) => {
      assert.ok(!(error instanceof RuntimeError));
      assert.match(error.message, /it ended by SIGKILL/);
      return true;
    });
  }
  assert.equal(await run(killed, { stored }), 'finished');
  assert.deepEqual(withoutTimes([...stored.values()]), withoutTimes([...whole.values()]));
  assert.deepEqual(await weightsOf(killed), await weightsOf(undisturbed));
});

test('its process has the lowest priority; told to stop it leaves a checkpoint', async (t) => {
  const training = await tinyTraining(t, { optimization: { maxSteps: 100_000 } });
  const stop = new AbortController();
  const priorities: number[] = [];
  const onEvent = (event: TrainingProgress): void => {
    if (event.type !== 'step' || priorities.length > 0) return;
    priorities.push(...trainers().map((pid) => getPriority(pid)));
    stop.abort();
  };
  const stored = new Map<string, TrainingProgress>();
  assert.equal(await run(training, { stored, onEvent, signal: stop.signal }), 'stopped');
  assert.deepEqual(priorities, [constants.priority.PRIORITY_LOW]);
  assert.deepEqual(trainers(), []);
  const steps = eventsOf([...stored.values()], 'step');
  const resumed = new AbortController();
  const later = new Map<string, TrainingProgress>();
  const end = run(training, { stored: later, onEvent: () => resumed.abort(), signal: resumed.signal });
  assert.equal(await end, 'stopped');
  assert.equal(eventsOf([...later.values()], 'prepared')[0]?.step, steps.at(-1)?.step);
});

test('what cannot be carried out is told by its code', async (t) => {
  const training = await tinyTraining(t, { data: { dataset: 'others' } });
  await assert.rejects(run(training, { stored: new Map() }), { name: 'RuntimeError', code: 'NOT_FOUND' });
});

test('events that cannot be stored end the run, and it can be run again', async (t) => {
  const training = await tinyTraining(t);
  const broken = new Error('no database');
  const failing = runTraining(training.plan, training.places, {
    signal: new AbortController().signal,
    onProgress: () => Promise.reject(broken),
  });
  await assert.rejects(failing, broken);
  assert.deepEqual(trainers(), []);
  assert.equal(await run(training, { stored: new Map() }), 'finished');
});

test('a folder that cannot be written fails the run with the reason, and its checkpoint stays', async (t) => {
  const training = await tinyTraining(t, { optimization: { maxSteps: 2 } });
  // a file where the folder of adapters should be
  await mkdir(dirname(dirname(training.places.output)), { recursive: true });
  await writeFile(dirname(training.places.output), '');
  await assert.rejects(run(training, { stored: new Map() }), { name: 'RuntimeError', message: /ENOTDIR|EEXIST/ });
});

/** A file system of so many kibibytes; undefined where this user may not make one. */
async function smallDisk(t: Cleanup, kibibytes: number): Promise<string | undefined> {
  const folder = await temporaryFolder(t);
  const made = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${kibibytes}k`, 'tmpfs', folder]);
  if (made.status !== 0) return undefined;
  t.after(() => spawnSync('umount', [folder]));
  return folder;
}

test('a full disk fails the run and says so; with room it goes on from its last checkpoint', async (t) => {
  const cleanup = lastFirst(t);
  const training = await tinyTraining(cleanup, { full: true, optimization: { maxSteps: 300 } });
  // room for one checkpoint, and not for the next beside it
  const disk = await smallDisk(cleanup, 150);
  if (disk === undefined) return t.skip('needs to mount a small file system (root)');
  const small = { ...training, places: { ...training.places, checkpoints: join(disk, 'checkpoints') } };
  await assert.rejects(run(small, { stored: new Map() }), { name: 'RuntimeError', message: /the disk is full/ });
  spawnSync('mount', ['-o', 'remount,size=1m', disk]);
  const stored = new Map<string, TrainingProgress>();
  assert.equal(await run(small, { stored }), 'finished');
  assert.ok((eventsOf([...stored.values()], 'prepared')[0]?.step ?? 0) >= 1);
});
