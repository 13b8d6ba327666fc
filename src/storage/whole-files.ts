/** Files and folders that are there whole or not at all, whenever the process ends or the power goes. */
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** Beside the place where it will be; nothing lists names that begin with a dot. */
function temporaryName(path: string): string {
  return join(dirname(path), `.${basename(path)}.${process.pid}.part`);
}

/** Makes new names last; systems that cannot open a folder keep names by themselves. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => undefined);
  try {
    await handle?.sync();
  } finally {
    await handle?.close();
  }
}

/** Gives a file or folder that is whole and synced its name, for good. */
export async function publish(temporary: string, path: string): Promise<void> {
  await rename(temporary, path);
  await syncFolder(dirname(path));
}

/** Writes a file through `write` and puts it in the place of what was there. */
export async function writeWholeFile(path: string, write: (handle: FileHandle) => Promise<void>): Promise<void> {
  const temporary = temporaryName(path);
  try {
    const handle = await open(temporary, 'w');
    try {
      await write(handle);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await publish(temporary, path);
  } catch (error) {
    // what went wrong first is what is told
    await rm(temporary, { force: true }).catch(() => {});
    throw error;
  }
}

/** Makes a folder that `fill` writes whole files into. Rejects when something is in its place. */
export async function writeWholeFolder(path: string, fill: (folder: string) => Promise<void>): Promise<void> {
  const temporary = temporaryName(path);
  await rm(temporary, { recursive: true, force: true });
  await mkdir(temporary, { recursive: true });
  try {
    await fill(temporary);
    await syncFolder(temporary);
    await publish(temporary, path);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
}
