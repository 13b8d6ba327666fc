/** Fetches what of a commit is needed and not here. Sizes are known, and there is room for them, before a byte comes. */
import { statfs } from 'node:fs/promises';
import { MEBIBYTE, mebibytes } from '../byte-size.ts';
import { smallFileBound } from '../model-folder.ts';
import { downloadBlob, partialBytes } from './blob-download.ts';
import type { HubClient, HubFile, HubListing } from './hub-client.ts';
import { HubError } from './hub-error.ts';
import type { HubClock } from './hub-settings.ts';
import { type CachedRepo, type HubSnapshot, shardsOf, toSnapshot } from './hub-snapshot.ts';
import { chooseFiles } from './repo-files.ts';

/** How far a download is, all its files together. */
export interface HubProgress {
  /** The one that is coming. */
  readonly file: string;
  readonly bytesDone: number;
  /** Of the files whose sizes are known by now. */
  readonly bytesTotal: number;
  /** Those among bytesDone that an attempt before had left. */
  readonly bytesBefore: number;
}

/** Bytes that may still be written to the disk of a folder. */
export type FreeBytes = (folder: string) => Promise<number>;

export interface FetchParts extends CachedRepo {
  readonly client: HubClient;
  readonly clock: HubClock;
  readonly freeBytes: FreeBytes;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: HubProgress) => void;
}

/** Left free: others write too. */
const SPARE_BYTES = 64 * MEBIBYTE;
/** Questions to the hub at the same time. */
const AT_ONCE = 8;

export async function freeBytesOf(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

export class SnapshotFetch {
  private bytesTotal = 0;
  private bytesBefore = 0;
  /** Of files that are whole. */
  private bytesWhole = 0;

  constructor(
    private readonly parts: FetchParts,
    private readonly listing: HubListing,
  ) {}

  /** Rejects with HubError, or with the signal's reason. What is fetched by then stays. */
  async run(): Promise<HubSnapshot> {
    const { cache, asked, kind } = this.parts;
    const { commit, names } = this.listing;
    const choice = chooseFiles(names, asked, kind);
    await this.fetch(choice.small, smallFileBound);
    const shards = await shardsOf(cache.snapshot(commit), choice, asked);
    const lost = shards.find((name) => !names.includes(name));
    if (lost !== undefined) {
      throw new HubError(
        'invalid',
        `${asked.repo}: expected the file ${lost} that ${choice.index} names, there is none.`,
      );
    }
    await this.fetch([...choice.large, ...shards]);
    const files = [...choice.small, ...choice.large, ...shards];
    return toSnapshot(this.parts, commit, { kind: choice.kind, files });
  }

  private async fetch(names: readonly string[], boundOf: (name: string) => number = () => Number.POSITIVE_INFINITY) {
    const { cache } = this.parts;
    const { commit } = this.listing;
    const isHere = await Promise.all(names.map((name) => cache.has(commit, name)));
    const files = await this.describe(names.filter((_, index) => !isHere[index]));
    for (const { name, bytes } of files) {
      if (bytes <= boundOf(name)) continue;
      throw new HubError('invalid', `${name}: expected at most ${boundOf(name)} bytes, it has ${bytes}.`);
    }
    const isKept = await Promise.all(files.map(({ digest }) => cache.hasBlob(digest)));
    await this.makeRoom(files.filter((_, index) => !isKept[index]));
    for (const file of files) {
      if (!(await cache.hasBlob(file.digest))) await this.download(file);
      await cache.name(commit, file.name, file.digest);
    }
  }

  private async describe(names: readonly string[]): Promise<readonly HubFile[]> {
    const { client, signal } = this.parts;
    const files: HubFile[] = [];
    for (let start = 0; start < names.length; start += AT_ONCE) {
      const some = names.slice(start, start + AT_ONCE);
      files.push(...(await Promise.all(some.map((name) => client.file(this.listing.commit, name, { signal })))));
    }
    return files;
  }

  /** Counts what is to come, and throws where the disk is too small for it. */
  private async makeRoom(files: readonly HubFile[]): Promise<void> {
    const { cache, freeBytes } = this.parts;
    if (files.length === 0) return;
    const before = await Promise.all(files.map((file) => partialBytes(cache.blobs, file)));
    const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);
    const bytes = sum(files.map((file) => file.bytes));
    this.bytesTotal += bytes;
    this.bytesBefore += sum(before);
    const needed = bytes - sum(before) + SPARE_BYTES;
    const free = await freeBytes(cache.cacheDir);
    if (free >= needed) return;
    const message = `Expected ${mebibytes(needed)} free in ${cache.cacheDir} for ${this.parts.asked.repo}, there are ${mebibytes(free)}. Make room, or set HF_HOME to a folder of another disk.`;
    throw new HubError('download', message);
  }

  private async download(file: HubFile): Promise<void> {
    const { cache, client, clock, signal, onProgress } = this.parts;
    const onBytes = (bytes: number): void => {
      const { bytesWhole, bytesTotal, bytesBefore } = this;
      onProgress({ file: file.name, bytesDone: bytesWhole + bytes, bytesTotal, bytesBefore });
    };
    const { commit } = this.listing;
    await downloadBlob({ client, commit, blobs: cache.blobs, clock, signal, onBytes }, file);
    this.bytesWhole += file.bytes;
  }
}
