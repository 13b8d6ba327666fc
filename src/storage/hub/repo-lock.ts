/** Lets one at a time fetch files of a repository: whoever comes later finds them here. */
import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { FolderLock } from '../folder-lock.ts';
import { StorageError, TakenError } from '../storage-error.ts';
import { type HubClock, pause } from './hub-settings.ts';
import type { RepoCache } from './repo-cache.ts';

interface LockOptions {
  readonly clock: HubClock;
  readonly signal: AbortSignal;
  /** Called once where another process has to be waited for. */
  readonly onWait: () => void;
}

const LOOK_EVERY_MS = 250;
const NAME_DIGITS = 16;
/** Those of this process, by the repository's folder: they need not ask the system. */
const queues = new Map<string, Promise<unknown>>();

export async function withRepoLock<T>(cache: RepoCache, options: LockOptions, work: () => Promise<T>): Promise<T> {
  const before = queues.get(cache.folder) ?? Promise.resolve();
  const run = async (): Promise<T> => {
    options.signal.throwIfAborted();
    const lock = await takeLock(cache, options);
    try {
      return await work();
    } finally {
      await lock.release();
    }
  };
  const turn = before.then(run, run);
  queues.set(cache.folder, turn);
  try {
    return await turn;
  } finally {
    if (queues.get(cache.folder) === turn) queues.delete(cache.folder);
  }
}

async function takeLock(cache: RepoCache, { clock, signal, onWait }: LockOptions): Promise<FolderLock> {
  let hasWaited = false;
  for (;;) {
    try {
      return await takeAnywhere(cache);
    } catch (error) {
      if (!(error instanceof TakenError)) throw error;
    }
    if (!hasWaited) onWait();
    hasWaited = true;
    await pause(clock, LOOK_EVERY_MS, signal);
  }
}

/** In the cache, for others that share it; where that takes no lock, or its path is too long for one, beside it. */
async function takeAnywhere({ cacheDir, folder }: RepoCache): Promise<FolderLock> {
  const locks = join(cacheDir, '.locks');
  await mkdir(locks, { recursive: true });
  try {
    return await FolderLock.take(join(locks, `gistql-${digestOf(basename(folder))}`), []);
  } catch (error) {
    if (!(error instanceof StorageError) || error instanceof TakenError) throw error;
    return FolderLock.take(join(tmpdir(), `gistql-${digestOf(folder)}`), []);
  }
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, NAME_DIGITS);
}
