/**
 * Models, adapters and datasets of the hub as folders of this machine. What is in the cache is used as it is; what is
 * missing is fetched, checked against its digest, and only then has its name.
 */
import { mkdir } from 'node:fs/promises';
import { HubClient, type HubListing } from './hub-client.ts';
import { HubError } from './hub-error.ts';
import { HubHttp } from './hub-http.ts';
import type { HubClock, HubSettings } from './hub-settings.ts';
import { type CachedRepo, describeAbsence, findCommit, findSnapshot, type HubSnapshot } from './hub-snapshot.ts';
import { type HubKind, isCommit, parseHubSource } from './hub-source.ts';
import { RepoCache } from './repo-cache.ts';
import { withRepoLock } from './repo-lock.ts';
import { type FreeBytes, freeBytesOf, type HubProgress, SnapshotFetch } from './snapshot-fetch.ts';

export interface ResolveOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: HubProgress) => void;
  /** Told what is not as it should be and no reason to fail. */
  readonly onNotice?: (notice: string) => void;
}

interface StoreParts {
  readonly clock: HubClock;
  /** Default: what the system says. */
  readonly freeBytes?: FreeBytes;
}

/** A system's own words for a folder that takes no files. */
const NOT_WRITABLE: readonly (string | undefined)[] = ['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST', 'ENAMETOOLONG'];
const DISK_FULL: readonly (string | undefined)[] = ['ENOSPC', 'EDQUOT'];

export class HubStore {
  constructor(
    private readonly settings: HubSettings,
    private readonly parts: StoreParts,
  ) {}

  /**
   * Returns the folder of a source, fetching what is not here. `kind` undefined: the repository says what it is.
   * Rejects with HubError, or with the signal's reason.
   */
  async resolve(kind: HubKind | undefined, source: string, options: ResolveOptions = {}): Promise<HubSnapshot> {
    try {
      return await this.find(kind, source, options);
    } catch (error) {
      throw asDiskError(error, this.settings.cacheDir);
    }
  }

  private async find(kind: HubKind | undefined, source: string, options: ResolveOptions): Promise<HubSnapshot> {
    const asked = parseHubSource(source, kind);
    const repo = { cache: new RepoCache(this.settings.cacheDir, asked), asked, kind };
    const here = await findSnapshot(repo);
    const { offline } = this.settings;
    if (here !== undefined && (offline || (here.isSure && isCommit(asked.revision)))) return here.snapshot;
    if (offline) {
      const message = `Expected ${source} in the cache, as HF_HUB_OFFLINE is set. ${await describeAbsence(repo)} Unset it, or fetch it where there is a network: gistql pull ${source}`;
      throw new HubError('download', message);
    }
    return this.update(repo, here?.snapshot, options);
  }

  /** Asks the hub; without an answer what is here has to do. */
  private async update(repo: CachedRepo, here: HubSnapshot | undefined, options: ResolveOptions): Promise<HubSnapshot> {
    const signal = options.signal ?? new AbortController().signal;
    const client = new HubClient(new HubHttp(this.settings, this.parts.clock), repo.asked);
    let listing: HubListing;
    try {
      listing = await client.listing({ signal, ...(here === undefined ? {} : { attempts: 1 }) });
    } catch (error) {
      if (!(error instanceof HubError) || !error.details.mayPass) throw error;
      if (here === undefined) {
        const message = `${error.message} ${await describeAbsence(repo)}`;
        throw new HubError(error.reason, message, error.details, { cause: error });
      }
      options.onNotice?.(`${error.message} Uses ${here.source}, which is here.`);
      return here;
    }
    return this.fetch(repo, { client, listing, signal, options });
  }

  private async fetch(
    repo: CachedRepo,
    {
      client,
      listing,
      signal,
      options,
    }: {
      readonly client: HubClient;
      readonly listing: HubListing;
      readonly signal: AbortSignal;
      readonly options: ResolveOptions;
    },
  ): Promise<HubSnapshot> {
    const { clock, freeBytes = freeBytesOf } = this.parts;
    const { onProgress = () => {}, onNotice } = options;
    const { cache } = repo;
    const onWait = (): void => onNotice?.(`Waits for another process that fetches files of ${repo.asked.repo}.`);
    const parts = { ...repo, client, clock, freeBytes, signal, onProgress };
    const here = await findCommit(repo, listing);
    if (here !== undefined) {
      // a cache that others filled may be one that this user cannot write
      await noteCommit(repo, listing).catch(() => {});
      return here;
    }
    await mkdir(cache.folder, { recursive: true });
    return withRepoLock(cache, { clock, signal, onWait }, async () => {
      const snapshot = await new SnapshotFetch(parts, listing).run();
      await noteCommit(repo, listing);
      return snapshot;
    });
  }
}

/** So that the cache alone says what the revision is, and whether all of it is here. */
async function noteCommit({ cache, asked }: CachedRepo, listing: HubListing): Promise<void> {
  await cache.noteListing(listing);
  await cache.noteCommit(asked.revision, listing.commit);
}

function asDiskError(cause: unknown, cacheDir: string): unknown {
  const { code } = cause as NodeJS.ErrnoException;
  const isFull = DISK_FULL.includes(code);
  if (!isFull && !NOT_WRITABLE.includes(code)) return cause;
  const came = isFull ? 'the disk is full' : `it takes no files (${code})`;
  const message = `Expected ${cacheDir} to take what comes from the hub, ${came}. Make room there, or set HF_HOME to another folder.`;
  return new HubError('download', message, {}, { cause });
}
