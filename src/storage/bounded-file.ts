/**
 * Opens files of a folder that nobody vouches for. A link that leads out of the folder, a pipe on which an open would
 * wait for ever, a file longer than it may be: each is a StorageError before a byte is read.
 */
import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, open, realpath } from 'node:fs/promises';
import { isAbsolute, join, relative, sep } from 'node:path';
import { isBlobOfSnapshot } from './hub/snapshot-links.ts';
import { quoted, StorageError } from './storage-error.ts';

/** One read asks for no more than this: the system takes lengths of 31 bits. */
const LARGEST_READ = 2 ** 30;
/** Absent on Windows, which has no pipes in folders. */
const NON_BLOCKING = constants.O_NONBLOCK ?? 0;
/** Bytes between which the event loop runs other work. */
const PIECE_BYTES = 2 ** 15;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Whether real path `path` lies below real path `root`. */
export function isInside(root: string, path: string): boolean {
  const way = relative(root, path);
  return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}

/**
 * Returns the real path of a file of the folder, undefined when there is none. Throws StorageError on a way out; the
 * links of a snapshot in Hugging Face's cache lead to where its files are.
 */
export async function findFile(folder: string, file: string): Promise<string | undefined> {
  let root: string;
  let path: string;
  try {
    root = await realpath(folder);
    path = await realpath(join(root, file));
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw new StorageError('invalid', `Expected a file ${quoted(file)}, it cannot be reached (${code}).`, { cause });
  }
  if (isInside(root, path) || isBlobOfSnapshot(root, path)) return path;
  const message = `Expected ${quoted(file)} to be a file of its folder, a link leads out of it. Put the file itself there.`;
  throw new StorageError('invalid', message);
}

function versionOf({ ino, size, mtimeNs }: BigIntStats): string {
  return `${ino}:${size}:${mtimeNs}`;
}

/** A regular file, open for reading at any position. */
export class BoundedFile {
  private constructor(
    /** As messages call it. */
    readonly name: string,
    readonly size: number,
    /** A text that is another one after somebody wrote to the file. */
    readonly version: string,
    private readonly handle: FileHandle,
  ) {}

  static async open(path: string, name: string): Promise<BoundedFile> {
    let handle: FileHandle;
    try {
      handle = await open(path, constants.O_RDONLY | NON_BLOCKING);
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === 'ENOENT') throw new StorageError('missing', `Expected a file ${name}, there is none.`, { cause });
      throw new StorageError('invalid', `Expected a file ${name}, it cannot be opened (${code}).`, { cause });
    }
    const stats = await handle.stat({ bigint: true });
    if (stats.isFile()) return new BoundedFile(name, Number(stats.size), versionOf(stats), handle);
    await handle.close();
    throw new StorageError('invalid', `Expected ${name} to be a regular file, it is none.`);
  }

  /** Fills `target` from `position` on; throws StorageError when the file ends before. */
  async readInto(target: Uint8Array, position: number): Promise<void> {
    let done = 0;
    while (done < target.length) {
      const wanted = Math.min(target.length - done, LARGEST_READ);
      const { bytesRead } = await this.handle.read(target, done, wanted, position + done);
      if (bytesRead === 0) {
        throw new StorageError('invalid', `${this.name}: the file ended ${target.length - done} bytes early.`);
      }
      done += bytesRead;
    }
  }

  /** Yields the bytes from the beginning on; throws StorageError when somebody wrote to the file since it was opened. */
  async *pieces(): AsyncGenerator<Buffer> {
    for (let position = 0; position < this.size; position += PIECE_BYTES) {
      const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, this.size - position));
      await this.readInto(piece, position);
      if (versionOf(await this.handle.stat({ bigint: true })) !== this.version) {
        const message = `${this.name}: expected a file that nobody writes to, it has changed. Ask again when it is complete.`;
        throw new StorageError('invalid', message);
      }
      yield piece;
    }
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}

/** Returns the text of bytes that must be UTF-8. */
export function decodeText(bytes: Uint8Array, name: string): string {
  try {
    return utf8.decode(bytes);
  } catch (cause) {
    throw new StorageError('invalid', `${name}: expected UTF-8 text, other bytes came.`, { cause });
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Parses JSON that must be an object. */
export function parseJsonObject(text: string, name: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new StorageError('invalid', `${name}: expected JSON, it does not parse.`, { cause });
  }
  if (isObject(value)) return value;
  throw new StorageError('invalid', `${name}: expected a JSON object, ${quoted(value)} came.`);
}
