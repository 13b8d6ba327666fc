/** The registry over what is real: a model's engine in its worker, files read in a thread of their own. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import { readConfig } from '../../../src/config.ts';
import { AdapterRegistry } from '../../../src/runtime/adapters/adapter-registry.ts';
import { RuntimeError } from '../../../src/runtime/errors.ts';
import type { TextGenerator } from '../../../src/runtime/text-generation.ts';
import { defaultModelRequest, openServices } from '../../../src/services.ts';
import { MEBIBYTE } from '../../../src/storage/byte-size.ts';
import { GenerateDocument } from '../../generated/operations.ts';
import { GOOD_KINDS, mutate, readAdapterFiles, writeAdapterFiles } from '../../support/mutated-files.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';
import { startTestServer } from '../../support/start-server.ts';
import { writeTinyAdapter } from '../../support/tiny-adapter.ts';
import { temporaryFolder, writeTinyModel } from '../../support/tiny-model.ts';

const SEED = 43;
const ADAPTERS = 200;
/** So large that 20 of its adapters fill a mebibyte, and no 21st fits. */
const RANK = 58;
const IN_MEMORY = 20;
const PROMPT = 't5 t17 t9 t30';
/** Drawn, not chosen: small differences show soon. */
const DECODING = { maxNewTokens: 24, minNewTokens: 24, doSample: true, seed: 5 };

interface Environment {
  readonly adaptersDir: string;
  readonly settings: Readonly<Record<string, string>>;
}

async function writeEnvironment(t: TestContext): Promise<Environment> {
  const { parent } = await writeTinyModel(t);
  const adaptersDir = await temporaryFolder(t);
  const settings = {
    GISTQL_MODEL: 'dir:tiny',
    GISTQL_MODELS_DIR: parent,
    GISTQL_ADAPTERS_DIR: adaptersDir,
    GISTQL_DATA_DIR: await temporaryFolder(t),
    GISTQL_ADAPTERS_MEMORY_MB: '1',
    GISTQL_THREADS: '2',
  };
  return { adaptersDir, settings };
}

interface Running {
  readonly registry: AdapterRegistry;
  readonly generator: TextGenerator;
  close(): Promise<void>;
}

async function start(t: TestContext, { settings }: Environment): Promise<Running> {
  const config = readConfig(settings);
  const log = pino({ level: 'silent' });
  const { services, close } = await openServices(config, { log, hooks: {}, stopping: new AbortController().signal });
  t.after(close);
  await services.models.load(defaultModelRequest(config));
  const { adapters, generator } = services;
  assert.ok(adapters instanceof AdapterRegistry);
  return { registry: adapters, generator, close };
}

async function tokensOf({ generator }: Running, ...ids: readonly string[]): Promise<readonly number[]> {
  const adapters = ids.map((id) => ({ id }));
  const request = { prompt: PROMPT, adapters, decoding: DECODING, onOverflow: 'error' as const };
  return (await generator.generate(request)).sequences[0]?.tokenIds ?? [];
}

/** The same numbers in an order that the seed says. */
function shuffled(count: number, next: () => number): readonly number[] {
  const numbers = Array.from({ length: count }, (_, index) => index);
  for (let last = count - 1; last > 0; last--) {
    const other = Math.floor(next() * (last + 1));
    [numbers[last], numbers[other]] = [numbers[other] as number, numbers[last] as number];
  }
  return numbers;
}

test(`${ADAPTERS} adapters with room for ${IN_MEMORY}: the same tokens before they go out, when they come back and after restarts (seed ${SEED})`, async (t) => {
  const environment = await writeEnvironment(t);
  const first = await start(t, environment);
  const expected: (readonly number[])[] = [];
  for (let index = 0; index < ADAPTERS; index++) {
    const name = `a${index}`;
    await writeTinyAdapter(environment.adaptersDir, name, { seed: index + 1, rank: RANK, alpha: RANK, spread: 0.3 });
    const { facts } = await first.registry.load({ id: name, modelId: 'tiny', source: `dir:${name}` });
    assert.equal(Math.floor(MEBIBYTE / facts.memoryBytes), IN_MEMORY);
    expected.push(await tokensOf(first, name));
    assert.ok(first.registry.usedBytes <= MEBIBYTE);
  }
  // a mix-up shows
  const different = new Set(expected.map(String)).size;
  assert.ok(different > ADAPTERS * 0.9, `${different} different answers`);
  const next = seededNumbers(SEED);
  const askAll = async (running: Running): Promise<void> => {
    await Promise.all(
      shuffled(ADAPTERS, next).map(async (index) => {
        assert.deepEqual(await tokensOf(running, `a${index}`), expected[index], `a${index}`);
        assert.ok(running.registry.usedBytes <= MEBIBYTE);
      }),
    );
    const size = running.registry.find('a0')?.facts.memoryBytes ?? 0;
    assert.equal(running.registry.usedBytes, IN_MEMORY * size);
  };
  await askAll(first);
  await first.close();

  const second = await start(t, environment);
  assert.deepEqual([second.registry.list().length, second.registry.usedBytes], [ADAPTERS, 0]);
  await askAll(second);
  await second.close();

  const server = await startTestServer(t, environment.settings);
  for (const index of shuffled(ADAPTERS, next)) {
    const input = { prompt: PROMPT, adapters: [{ id: `a${index}` }], decoding: DECODING };
    const { generate } = await server.data(GenerateDocument, { input });
    assert.deepEqual(generate.sequences[0]?.tokenIds, expected[index], `a${index}`);
  }
});

test(`adapters that cannot be loaded take no memory and change no answer (seed ${SEED})`, async (t) => {
  const environment = await writeEnvironment(t);
  const { adaptersDir } = environment;
  await writeTinyAdapter(adaptersDir, 'kept', { seed: 9, spread: 1, dora: true, targets: 'all-linear' });
  const running = await start(t, environment);
  const { registry } = running;
  await registry.load({ id: 'kept', modelId: 'tiny', source: 'dir:kept' });
  const expected = [await tokensOf(running), await tokensOf(running, 'kept')];
  const { usedBytes } = registry;
  const next = seededNumbers(SEED);
  const refused = new Set<string>();
  for (const [kind, options] of Object.entries(GOOD_KINDS)) {
    const { folder } = await writeTinyAdapter(adaptersDir, kind, options);
    const good = await readAdapterFiles(folder);
    for (let round = 0; round < 100; round++) {
      await writeAdapterFiles(join(adaptersDir, kind), mutate(good, next));
      try {
        const { facts } = await registry.load({ id: kind, modelId: 'tiny', source: `dir:${kind}` });
        assert.equal(registry.usedBytes, usedBytes + facts.memoryBytes);
        await registry.unload(kind);
      } catch (error) {
        assert.ok(error instanceof RuntimeError, `${error}`);
        refused.add(error.code);
      }
      assert.equal(registry.usedBytes, usedBytes);
    }
  }
  assert.deepEqual([...refused].toSorted(), ['INCOMPATIBLE_ADAPTER', 'INVALID_ADAPTER']);
  assert.deepEqual([await tokensOf(running), await tokensOf(running, 'kept')], expected);
  assert.deepEqual(
    registry.list().map(({ id, status }) => [id, status]),
    [['kept', 'ready']],
  );
});
