/**
 * Fetches one blob: what an attempt leaves is where the next one goes on, and nothing has the blob's name before its
 * bytes are those that its name says.
 */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { MEBIBYTE } from '../byte-size.ts';
import { publish } from '../whole-files.ts';
import type { HubClient, HubFile } from './hub-client.ts';
import { HubError } from './hub-error.ts';
import { retrying } from './hub-retry.ts';
import type { HubClock } from './hub-settings.ts';

export interface BlobParts {
  readonly client: Pick<HubClient, 'bytes'>;
  readonly commit: string;
  /** Folder of the blobs. */
  readonly blobs: string;
  readonly clock: HubClock;
  readonly signal: AbortSignal;
  /** Bytes of this file that are here; fewer than before where it begins anew. */
  readonly onBytes: (bytes: number) => void;
}

/** Hexadecimal digits of Git's digest, which small files have; others have SHA-256. */
const GIT_DIGITS = 40;
/** An attempt that brings so much is no failure in a row. */
const ENOUGH_BYTES = MEBIBYTE;

/** Bytes of a blob that an attempt before left. */
export async function partialBytes(blobs: string, file: HubFile): Promise<number> {
  const found = await stat(partialPath(blobs, file)).catch(() => undefined);
  return found === undefined || found.size > file.bytes ? 0 : found.size;
}

/** Rejects with HubError, or with the signal's reason; what came by then stays. */
export async function downloadBlob(parts: BlobParts, file: HubFile): Promise<void> {
  await mkdir(parts.blobs, { recursive: true });
  const isResumed = (await partialBytes(parts.blobs, file)) > 0;
  if (await new BlobDownload(parts, file).run()) return;
  // what was there may have been the wrong half; what comes from the first byte on is not
  if (isResumed && (await new BlobDownload(parts, file).run())) return;
  throw new HubError(
    'download',
    `Expected ${file.name} to have the digest ${file.digest} that the hub says, other bytes came. Nothing of it is kept; try again later.`,
  );
}

function partialPath(blobs: string, { digest }: HubFile): string {
  return join(blobs, `${digest}.gistql.incomplete`);
}

function newHash({ digest, bytes }: HubFile): Hash {
  return digest.length === GIT_DIGITS ? createHash('sha1').update(`blob ${bytes}\0`) : createHash('sha256');
}

async function writeAll(handle: FileHandle, piece: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < piece.length; ) {
    done += (await handle.write(piece, done, piece.length - done, position + done)).bytesWritten;
  }
}

class BlobDownload {
  private offset = 0;
  private hash: Hash;

  constructor(
    private readonly parts: BlobParts,
    private readonly file: HubFile,
  ) {
    this.hash = newHash(file);
  }

  /** Returns whether the bytes are the right ones; of others nothing is left. */
  async run(): Promise<boolean> {
    const { blobs, clock, signal } = this.parts;
    const path = partialPath(blobs, this.file);
    await this.readPartial(path);
    const handle = await open(path, this.offset === 0 ? 'w' : 'r+');
    try {
      await retrying({ clock, signal }, (again) => this.attempt(handle, again));
      if (this.hash.digest('hex') === this.file.digest) {
        await handle.sync();
        await publish(path, join(blobs, this.file.digest));
        return true;
      }
    } catch (error) {
      // a beginning of nothing is no use to the next attempt
      if (this.offset === 0) await rm(path, { force: true });
      throw error;
    } finally {
      await handle.close();
    }
    await rm(path, { force: true });
    return false;
  }

  private async readPartial(path: string): Promise<void> {
    const wanted = await partialBytes(this.parts.blobs, this.file);
    if (wanted === 0) return;
    for await (const piece of createReadStream(path, { end: wanted - 1, signal: this.parts.signal })) {
      this.count(piece as Buffer);
    }
  }

  private async attempt(handle: FileHandle, again: () => void): Promise<void> {
    const { client, commit, signal } = this.parts;
    const { bytes, name } = this.file;
    if (this.offset === bytes) return;
    const before = this.offset;
    const { offset, pieces } = await client.bytes(commit, this.file, this.offset, { signal });
    if (offset !== this.offset) await this.restart(handle);
    for await (const piece of pieces) {
      if (this.offset + piece.length > bytes) {
        throw new HubError('download', `Expected ${name} to have ${bytes} bytes as the hub says, more came.`);
      }
      await writeAll(handle, piece, this.offset);
      this.count(piece);
      if (this.offset - before >= ENOUGH_BYTES) again();
    }
    if (this.offset === bytes) return;
    const message = `Expected ${bytes} bytes of ${name}, the connection ended after ${this.offset}. Try again: it goes on there.`;
    throw new HubError('download', message, { mayPass: true });
  }

  private async restart(handle: FileHandle): Promise<void> {
    await handle.truncate(0);
    this.offset = 0;
    this.hash = newHash(this.file);
    this.parts.onBytes(0);
  }

  private count(piece: Uint8Array): void {
    this.hash.update(piece);
    this.offset += piece.length;
    this.parts.onBytes(this.offset);
  }
}
