/** The same tests on both databases: the embedded one, always, and a real PostgreSQL, where there is one. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import PgBoss from 'pg-boss';
import { startWorker } from '../../src/runtime/start-worker.ts';
import { Database } from '../../src/storage/database.ts';
import { JOBS_SCHEMA } from '../../src/storage/migrations.ts';
import { repositoryPath } from './oracle.ts';
import { PostgresServer } from './postgres-server.ts';

/** What a process needs to open a database. */
export interface DatabasePlace {
  readonly folder: string;
  readonly url?: string;
}

export interface TestDatabase {
  readonly isEmbedded: boolean;
  /** One without runs, open, which the test must not close. */
  empty(): Promise<Database>;
  /** A new one, its tables made, which is not open. */
  make(): Promise<DatabasePlace>;
  /** Opens it; it is closed when the test ends, unless it was before. */
  open(place: DatabasePlace): Promise<Database>;
}

const open = (place: DatabasePlace): Promise<Database> => Database.open({ ...place, startWorker, onError: () => {} });

const TEMPLATES = repositoryPath('node_modules/.cache/gistql-test-databases');
/** The files that say what is in a new database. */
const MAKERS = [
  'src/storage/database.ts',
  'src/storage/migrations.ts',
  'src/storage/pglite-worker.ts',
  'test/support/test-database.ts',
  'node_modules/@electric-sql/pglite/package.json',
  'node_modules/pg-boss/package.json',
];

let server: Promise<PostgresServer | string> | undefined;
let shared: Promise<Database> | undefined;
let template: Promise<string> | undefined;
const cleanups: (() => Promise<void>)[] = [];

after(async () => {
  for (const clean of cleanups.reverse()) await clean();
});

export function databaseTest(name: string, run: (t: TestContext, database: TestDatabase) => Promise<void>): void {
  test(`${name} (embedded)`, (t) => run(t, testDatabase(t, copyTemplate)));
  test(`${name} (PostgreSQL)`, async (t) => {
    server ??= startServer();
    const started = await server;
    if (typeof started === 'string') return t.skip(started);
    const make = async () => ({ folder: await temporary(t), url: await started.createDatabase() });
    await run(t, testDatabase(t, make));
  });
}

function testDatabase(t: TestContext, make: (t: TestContext) => Promise<DatabasePlace>): TestDatabase {
  const openHere = async (place: DatabasePlace): Promise<Database> => {
    const database = await open(place);
    t.after(() => database.close());
    return database;
  };
  const isEmbedded = make === copyTemplate;
  return {
    isEmbedded,
    empty: async () => (isEmbedded ? await openShared() : await openHere(await make(t))),
    make: () => make(t),
    open: openHere,
  };
}

/** Opening an embedded database takes most of a second: the tests of a file that close none have one together. */
async function openShared(): Promise<Database> {
  if (shared === undefined) {
    const folder = await mkdtemp(join(tmpdir(), 'gistql-database-'));
    shared = copyDatabase(folder).then(open);
    cleanups.push(async () => {
      await (await shared)?.close();
      await rm(folder, { recursive: true, force: true });
    });
  }
  const database = await shared;
  await database.query('truncate gistql.evaluations, gistql.trainings cascade');
  await database.query('drop schema if exists gistql_jobs cascade');
  return database;
}

async function copyTemplate(t: TestContext): Promise<DatabasePlace> {
  return await copyDatabase(await temporary(t));
}

/** Puts an embedded database without runs into a data folder: making one takes seconds, copying it does not. */
export async function copyDatabase(folder: string): Promise<DatabasePlace> {
  template ??= makeTemplate();
  await cp(await template, folder, { recursive: true });
  return { folder };
}

/**
 * Made once for all test files, and again when what makes it has changed: beside the installed packages, which are as old.
 * With the tables of the job queue.
 */
async function makeTemplate(): Promise<string> {
  const place = join(TEMPLATES, await digestOfMakers());
  if (existsSync(place)) return place;
  await mkdir(TEMPLATES, { recursive: true });
  const folder = await mkdtemp(join(TEMPLATES, 'new-'));
  const database = await open({ folder });
  await new PgBoss({
    db: { executeSql: (sql: string, values?: unknown[]) => database.query(sql, values) },
    schema: JOBS_SCHEMA,
    supervise: false,
    schedule: false,
  }).start();
  await database.close();
  try {
    await rename(folder, place);
  } catch (error) {
    // another test file was as fast
    if (!existsSync(place)) throw error;
    await rm(folder, { recursive: true });
  }
  return place;
}

async function digestOfMakers(): Promise<string> {
  const hash = createHash('sha256');
  for (const path of MAKERS) hash.update(await readFile(repositoryPath(path)));
  return hash.digest('hex').slice(0, 16);
}

async function temporary(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'gistql-database-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function startServer(): Promise<PostgresServer | string> {
  const started = await PostgresServer.start();
  if (typeof started !== 'string') cleanups.push(() => started.close());
  return started;
}
