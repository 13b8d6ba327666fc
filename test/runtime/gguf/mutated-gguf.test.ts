/** Changed copies of a good file: each is read whole, with finite values, or refused; none hangs or takes more memory. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { GgufModel } from '../../../src/runtime/gguf/gguf-model.ts';
import { BoundedFile } from '../../../src/storage/bounded-file.ts';
import { StorageError } from '../../../src/storage/storage-error.ts';
import { writeGguf } from '../../support/gguf-bytes.ts';
import { repositoryPath } from '../../support/oracle.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const SEED = 20_261_128;
const ROUNDS = 800;
const LONGEST_MESSAGE = 1200;
/** Lengths, counts and types that a header may claim. */
const LIES = [0n, 1n, 2n, 13n, 64n, 255n, 2n ** 16n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n];

type Next = (below: number) => number;

/** Positions of counts, lengths, types and offsets: the fields that steer the parser, found by small numbers. */
function fieldsOf(bytes: Buffer, headerEnd: number): readonly number[] {
  const places = [8, 16];
  for (let at = 24; at < headerEnd - 8; at++) if (bytes.readUInt32LE(at + 4) === 0) places.push(at);
  return places;
}

function mutate(good: Buffer, headerEnd: number, fields: readonly number[], next: Next): Buffer {
  const bytes = Buffer.from(good);
  const kind = next(8);
  const place = next(headerEnd);
  if (kind === 0) return bytes.subarray(0, next(good.length));
  if (kind === 1)
    return Buffer.concat([bytes.subarray(0, place), Buffer.alloc(1 + next(40), next(256)), bytes.subarray(place)]);
  if (kind === 2) return Buffer.concat([bytes.subarray(0, place), bytes.subarray(place + 1 + next(40))]);
  if (kind < 5) bytes.writeBigUInt64LE(LIES[next(LIES.length)] ?? 0n, fields[next(fields.length)] ?? 8);
  else if (kind === 5) bytes[next(24)] = next(256);
  else if (kind === 6) bytes[headerEnd + next(good.length - headerEnd)] = next(256);
  else bytes[place] = (bytes[place] ?? 0) ^ (1 << next(8));
  return bytes;
}

/** Reads everything that a model takes of its file. */
async function readAll(path: string): Promise<void> {
  const model = await GgufModel.open(path);
  try {
    JSON.parse(model.tokenizerJson());
    for (const name of model.names()) assert.ok((await model.read(name)).every(Number.isFinite));
  } finally {
    await model.close();
  }
}

function assertRefusal(error: unknown, round: number): void {
  assert.ok(error instanceof StorageError, `round ${round}: ${error instanceof Error ? error.stack : error}`);
  assert.match(error.message, /expected|Expected|ended/);
  assert.ok(error.message.length < LONGEST_MESSAGE, `a message of ${error.message.length} characters`);
}

test(`${ROUNDS} changed copies are read with finite values or refused`, async (t) => {
  const good = await readFile(repositoryPath('test/fixtures/gguf/tiny-llama/model.gguf'));
  const path = await writeGguf(t, good);
  await readAll(path);
  const original = await GgufModel.open(path);
  const headerEnd = Math.min(...original.names().map((name) => original.info(name)?.offset ?? good.length));
  await original.close();
  const readInto = t.mock.method(BoundedFile.prototype, 'readInto');
  t.diagnostic(`seed ${SEED}`);
  const random = seededNumbers(SEED);
  const next: Next = (below) => Math.floor(random() * below);
  const fields = fieldsOf(good, headerEnd);
  const outcomes = { read: 0, refused: 0 };
  let largest = 0;
  for (let round = 0; round < ROUNDS; round++) {
    await writeFile(path, mutate(good, headerEnd, fields, next));
    try {
      await readAll(path);
      outcomes.read++;
    } catch (error) {
      assertRefusal(error, round);
      outcomes.refused++;
    }
    for (const {
      arguments: [target],
    } of readInto.mock.calls)
      largest = Math.max(largest, target?.length ?? 0);
    readInto.mock.resetCalls();
  }
  t.diagnostic(JSON.stringify(outcomes));
  assert.ok(outcomes.read > ROUNDS / 20 && outcomes.refused > ROUNDS / 2, JSON.stringify(outcomes));
  // buffers are made to the measure of the file, not of what it claims
  assert.ok(largest > 0 && largest <= good.length + 40, `${largest} bytes at once`);
});
