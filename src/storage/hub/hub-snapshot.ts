/** What the cache alone says of a source. */
import { isObject } from '../bounded-file.ts';
import { MAX_SHARDS, readJson } from '../model-folder.ts';
import { listed, quoted, StorageError } from '../storage-error.ts';
import type { HubListing } from './hub-client.ts';
import { HubError } from './hub-error.ts';
import { formatHubSource, type HubKind, type HubSource, isFileName, parseHubSource } from './hub-source.ts';
import { RepoCache } from './repo-cache.ts';
import { chooseFiles, type FileChoice } from './repo-files.ts';

/** A repository at one commit, with what is needed of it. */
export interface HubSnapshot {
  readonly kind: HubKind;
  /** The source with the commit as its revision: it names the same files for ever. */
  readonly source: string;
  readonly commit: string;
  readonly folder: string;
  /** Names of the files that are needed; others may lie beside them. */
  readonly files: readonly string[];
}

interface FoundSnapshot {
  readonly snapshot: HubSnapshot;
  /** Whether the hub would name no other files for the same commit. */
  readonly isSure: boolean;
}

/** The repository that is meant, and where it is kept. */
export interface CachedRepo {
  readonly cache: RepoCache;
  readonly asked: HubSource;
  readonly kind: HubKind | undefined;
}

const SHARD = /\.safetensors$/;

/** Of files that are all here. Where one is named, its rivals are not in the folder. */
export async function toSnapshot(
  { cache, asked }: CachedRepo,
  commit: string,
  { kind, files }: Pick<HubSnapshot, 'kind' | 'files'>,
): Promise<HubSnapshot> {
  const { file } = asked;
  const folder = file === undefined ? cache.snapshot(commit) : await cache.viewOf(commit, file, files);
  return { kind, source: formatHubSource({ ...asked, revision: commit }), commit, folder, files };
}

/** Undefined: something of it is not here. */
export async function findSnapshot(repo: CachedRepo): Promise<FoundSnapshot | undefined> {
  const { cache, asked } = repo;
  const commit = await cache.commitOf(asked.revision);
  if (commit === undefined) return undefined;
  const listing = await cache.listing(commit);
  try {
    const snapshot = await findCommit(repo, { commit, names: listing ?? (await cache.names(commit)) });
    return snapshot && { snapshot, isSure: listing !== undefined };
  } catch (error) {
    // the hub, or describeAbsence, says what is wrong with it
    if (error instanceof HubError) return undefined;
    throw error;
  }
}

/** What is needed of a commit that has these files, undefined where not all of it is here. Throws HubError. */
export async function findCommit(repo: CachedRepo, { commit, names }: HubListing): Promise<HubSnapshot | undefined> {
  const { cache, asked, kind } = repo;
  const choice = chooseFiles(names, asked, kind);
  const here = new Set(await cache.names(commit));
  const files = [...choice.small, ...choice.large];
  if (!files.every((name) => here.has(name))) return undefined;
  const shards = await shardsOf(cache.snapshot(commit), choice, asked);
  if (!shards.every((name) => here.has(name))) return undefined;
  return toSnapshot(repo, commit, { kind: choice.kind, files: [...files, ...shards] });
}

/** Returns what the cache has of a source. Throws HubError where something of it is not here. */
export async function findCached(cacheDir: string, kind: HubKind | undefined, source: string): Promise<HubSnapshot> {
  const asked = parseHubSource(source, kind);
  const repo = { cache: new RepoCache(cacheDir, asked), asked, kind };
  const found = await findSnapshot(repo);
  if (found !== undefined) return found.snapshot;
  const message = `Expected ${source} in the cache. ${await describeAbsence(repo)} Fetch it where there is a network: gistql pull ${source}`;
  throw new HubError('download', message);
}

/** What of a source is not here, and where it would be. Throws HubError where it would be of no use either. */
export async function describeAbsence({ cache, asked, kind }: CachedRepo): Promise<string> {
  const commit = await cache.commitOf(asked.revision);
  if (commit === undefined) return `Nothing of ${asked.repo}@${asked.revision} is in ${cache.folder} yet.`;
  const here = await cache.names(commit);
  const listing = await cache.listing(commit);
  const folder = cache.snapshot(commit);
  if (listing === undefined) return `In ${folder} ${here.length === 0 ? 'nothing' : `only ${listed(here)}`} is yet.`;
  const choice = chooseFiles(listing, asked, kind);
  const wanted = [...choice.small, ...choice.large];
  if (choice.index !== undefined && here.includes(choice.index))
    wanted.push(...(await shardsOf(folder, choice, asked)));
  return `Missing in ${folder}: ${listed(wanted.filter((name) => !here.includes(name)))}.`;
}

/** The files that the index of a snapshot's weights names. Throws HubError where it is none. */
export async function shardsOf(folder: string, { index }: FileChoice, { repo }: HubSource): Promise<readonly string[]> {
  if (index === undefined) return [];
  const json = await readJson(folder, index).catch((cause: unknown) => {
    if (cause instanceof StorageError) throw new HubError('invalid', `${repo}: ${cause.message}`, {}, { cause });
    throw cause;
  });
  const map = json?.weight_map;
  const shards = new Set(isObject(map) ? Object.values(map) : []);
  const bad = [...shards].find((name) => typeof name !== 'string' || !isFileName(name) || !SHARD.test(name));
  if (bad === undefined && shards.size > 0 && shards.size <= MAX_SHARDS) return [...(shards as Set<string>)].sort();
  const came = bad === undefined ? `${shards.size} of them` : quoted(bad);
  throw new HubError(
    'invalid',
    `${repo}: expected the weight_map of ${index} to name 1 to ${MAX_SHARDS} *.safetensors beside it, ${came} came.`,
  );
}
