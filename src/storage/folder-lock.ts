/**
 * Keeps a folder for one process. The lock is a socket that the owner listens on: the system closes it with the process,
 * however that ends, so whether it is held is asked of the system and not guessed from process ids, which other
 * containers have too.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { link, rename, rm } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { relative } from 'node:path';
import { StorageError, TakenError } from './storage-error.ts';

/** Bytes of a socket's address that every system takes. */
const MOST_PATH_BYTES = 100;

/** What else than taking another folder a person may do about a database. */
const DATABASE_WAYS = ['let both use a PostgreSQL (DATABASE_URL)'];

export class FolderLock {
  private constructor(private readonly server: Server) {}

  /**
   * Takes the lock at `path`, a file that is made; throws TakenError when a living process has it. `ways`: what else
   * than stopping that or taking another folder a person may do then.
   */
  static async take(path: string, ways: readonly string[] = DATABASE_WAYS): Promise<FolderLock> {
    const address = shortest(path);
    for (;;) {
      const server = await listen(address);
      if (server !== undefined) return new FolderLock(server);
      if (await isAlive(address)) throw held(path, ways);
      await removeDead(address, path, ways);
    }
  }

  async release(): Promise<void> {
    // closing removes the file
    this.server.close();
    await once(this.server, 'close');
  }
}

function held(path: string, ways: readonly string[]): TakenError {
  const all = ['Stop it', 'set GISTQL_DATA_DIR to another folder', ...ways];
  const last = all.pop();
  return new TakenError(
    `Expected a data folder of this process's own, another one holds ${path}. ${all.join(', ')}, or ${last}.`,
  );
}

function shortest(path: string): string {
  const fromHere = relative(process.cwd(), path);
  const address = Buffer.byteLength(fromHere) < Buffer.byteLength(path) ? fromHere : path;
  if (Buffer.byteLength(address) <= MOST_PATH_BYTES) return address;
  throw new StorageError(
    'name',
    `Expected a path of at most ${MOST_PATH_BYTES} bytes for the lock ${path}, it has ${Buffer.byteLength(address)}. Set GISTQL_DATA_DIR to a shorter one.`,
  );
}

/** Returns undefined when the file is there already. */
async function listen(address: string): Promise<Server | undefined> {
  const server = createServer((socket) => socket.destroy());
  // the lock alone keeps no process running
  server.unref();
  server.listen(address);
  try {
    await once(server, 'listening');
    return server;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'EADDRINUSE') return undefined;
    const advice = 'Set GISTQL_DATA_DIR to a folder of a local disk that this user may write.';
    throw new StorageError('invalid', `Expected to lock ${address}, it cannot be made (${code}). ${advice}`, { cause });
  }
}

async function isAlive(address: string): Promise<boolean> {
  const socket = connect(address);
  try {
    await once(socket, 'connect');
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ECONNREFUSED' || code === 'ENOENT') return false;
    // a file that is no socket, or one of another user, is nobody's to remove
    throw new StorageError('invalid', `Expected ${address} to be a lock of GistQL, it is none (${code}). Remove it.`);
  } finally {
    socket.destroy();
  }
}

/** Of two processes that find the same dead lock one may be late, and move the other's living one: it puts that back. */
async function removeDead(address: string, path: string, ways: readonly string[]): Promise<void> {
  const aside = `${address}.${randomUUID().slice(0, 8)}`;
  try {
    await rename(address, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  try {
    if (!(await isAlive(aside))) return;
    await link(aside, address);
    throw held(path, ways);
  } finally {
    await rm(aside, { force: true });
  }
}
