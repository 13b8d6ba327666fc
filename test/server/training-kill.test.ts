/** SIGKILL while it trains: the run goes on by itself, and what comes out is that of one that was let live, in every bit. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import type { StartTrainingInput } from '../generated/operations.ts';
import { lastFirst } from '../support/cleanup.ts';
import { readTensors } from '../support/read-tensors.ts';
import { seededNumbers } from '../support/seeded-numbers.ts';
import { ServerProcess } from '../support/server-process.ts';
import {
  followTraining,
  makeTrainingPlace,
  measuredOf,
  startTraining,
  TRAINING_ROWS,
  type TrainingEvent,
  trainingEventsOf,
  trainingOf,
} from '../support/training-server.ts';

const SEED = 59;
const KILLS = 3;
const EPOCHS = 40;
const STEPS = (EPOCHS * TRAINING_ROWS) / 4;
const settings: Partial<StartTrainingInput> = {
  epochs: EPOCHS,
  evaluateEverySteps: 60,
  lora: { rank: 2, alpha: 4, dropout: 0.2 },
};

/** Reads on until so many more events have come, or the run is over. */
async function readSome(server: ServerProcess, id: string, events: TrainingEvent[], most: number): Promise<void> {
  const connection = server.connect();
  try {
    let left = most;
    for await (const event of trainingEventsOf(connection, id, events.at(-1)?.cursor)) {
      events.push(event);
      left--;
      if (left <= 0) return;
    }
  } finally {
    connection.terminate();
    await connection.close();
  }
}

test('killed again and again, a training ends with the events and the weights of one that was let live', async (t) => {
  const cleanups = lastFirst(t);
  const random = seededNumbers(SEED);
  t.diagnostic(`seed ${SEED}`);
  const place = await makeTrainingPlace(cleanups);
  // checkpoints as often as writing them allows
  const environment = { ...place.environment, GISTQL_CHECKPOINT_MS: '0', GISTQL_THREADS: '1' };
  let server = await ServerProcess.start(cleanups, environment);
  const id = await startTraining(server, { ...settings, outputId: 'killed' });
  const events: TrainingEvent[] = [];
  for (let kills = 0; kills < KILLS; kills++) {
    await readSome(server, id, events, 1 + Math.floor((random() * STEPS) / (2 * KILLS)));
    await server.kill();
    assert.notEqual(events.at(-1)?.__typename, 'TrainingFinished', `the run was over before kill ${kills}`);
    server = await ServerProcess.start(cleanups, environment);
  }
  t.diagnostic(`${events.length} events at the last kill`);
  await readSome(server, id, events, Number.POSITIVE_INFINITY);
  const killed = await trainingOf(server, id);
  assert.deepEqual([killed.status, killed.step], ['SUCCEEDED', STEPS], killed.error ?? '');
  const whole = await followTraining(server, await startTraining(server, { ...settings, outputId: 'whole' }));
  assert.equal(whole.at(-1)?.training.status, 'SUCCEEDED');
  assert.deepEqual(measuredOf(events), measuredOf(whole));
  const weights = (name: string) => readTensors(join(place.adaptersDir, name, 'adapter_model.safetensors'));
  assert.deepEqual(await weights('killed'), await weights('whole'));
  await server.close();
});
