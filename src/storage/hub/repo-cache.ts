/**
 * What is kept of one repository, as huggingface_hub keeps it: each uses what the other fetched.
 *
 *   models--OWNER--NAME/blobs/DIGEST            the bytes
 *   models--OWNER--NAME/snapshots/COMMIT/NAME   a link to them
 *   models--OWNER--NAME/refs/REVISION           the commit that a branch or tag was at
 *   models--OWNER--NAME/.gistql/COMMIT.json     our own: names of all files of a commit
 *   models--OWNER--NAME/.gistql/COMMIT/FILE/    our own: links to FILE and what belongs to it, without its rivals
 */
import { randomUUID } from 'node:crypto';
import { copyFile, link, mkdir, readdir, readFile, realpath, rename, rm, stat, symlink } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { isObject } from '../bounded-file.ts';
import { writeWholeFile } from '../whole-files.ts';
import type { HubListing } from './hub-client.ts';
import { type HubSource, isCommit, isFileName } from './hub-source.ts';

/** What systems say that have no links, or let this user make none. */
const NO_LINKS: readonly (string | undefined)[] = [
  'EPERM',
  'EACCES',
  'ENOTSUP',
  'EOPNOTSUPP',
  'ENOSYS',
  'EINVAL',
  'UNKNOWN',
];

export class RepoCache {
  /** `…/models--OWNER--NAME` */
  readonly folder: string;

  constructor(
    readonly cacheDir: string,
    { type, repo }: HubSource,
    /** Replaced where a test is to have a system without them. */
    private readonly makeLink: typeof symlink = symlink,
  ) {
    this.folder = join(cacheDir, `${type}s--${repo.replace('/', '--')}`);
  }

  get blobs(): string {
    return join(this.folder, 'blobs');
  }

  snapshot(commit: string): string {
    return join(this.folder, 'snapshots', commit);
  }

  /** The commit that a revision was at when it was fetched last. */
  async commitOf(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision;
    const text = await readFile(this.refOf(revision), 'utf8').catch(() => '');
    return isCommit(text.trim()) ? text.trim() : undefined;
  }

  async noteCommit(revision: string, commit: string): Promise<void> {
    if (isCommit(revision) || (await this.commitOf(revision)) === commit) return;
    const path = this.refOf(revision);
    await mkdir(dirname(path), { recursive: true });
    await writeWholeFile(path, (file) => file.writeFile(commit));
  }

  /** Names of the files of a commit, whether or not they are here; undefined: nobody noted them. */
  async listing(commit: string): Promise<readonly string[] | undefined> {
    const own = await readObject(this.listingOf(commit));
    if (Array.isArray(own?.names)) return own.names.filter(isNamed);
    // huggingface_hub 2 notes them here
    const theirs = await readObject(join(this.folder, 'trees', `${commit}.json`));
    return isObject(theirs?.files) ? Object.keys(theirs.files).filter(isNamed) : undefined;
  }

  async noteListing({ commit, names }: HubListing): Promise<void> {
    if ((await readObject(this.listingOf(commit))) !== undefined) return;
    const path = this.listingOf(commit);
    await mkdir(dirname(path), { recursive: true });
    await writeWholeFile(path, (file) => file.writeFile(JSON.stringify({ names })));
  }

  /** Names of the files of a commit that are here. */
  async names(commit: string): Promise<readonly string[]> {
    const found = (await readdir(this.snapshot(commit)).catch(() => [])).filter(isNamed);
    const isHere = await Promise.all(found.map((name) => this.has(commit, name)));
    return found.filter((_, index) => isHere[index]);
  }

  has(commit: string, name: string): Promise<boolean> {
    return isFile(join(this.snapshot(commit), name));
  }

  hasBlob(digest: string): Promise<boolean> {
    return isFile(join(this.blobs, digest));
  }

  /** Gives a blob its name in a commit. */
  name(commit: string, name: string, digest: string): Promise<void> {
    return this.link(this.snapshot(commit), name, join(this.blobs, digest));
  }

  /** Makes a folder that has only these files of a commit; returns it. */
  async viewOf(commit: string, file: string, names: readonly string[]): Promise<string> {
    const folder = join(this.folder, '.gistql', commit, file);
    for (const name of names) {
      if (await isFile(join(folder, name))) continue;
      await mkdir(folder, { recursive: true });
      await this.link(await realpath(folder), name, await realpath(join(this.snapshot(commit), name)));
    }
    return folder;
  }

  /** Gives a file a name in a folder: as a link, or as the file itself where the system has none. */
  private async link(folder: string, name: string, target: string): Promise<void> {
    await mkdir(folder, { recursive: true });
    const temporary = join(folder, `.${randomUUID()}.part`);
    try {
      await this.makeLink(relative(folder, target), temporary).catch(async (error: NodeJS.ErrnoException) => {
        if (!NO_LINKS.includes(error.code)) throw error;
        await sameFile(target, temporary);
      });
      await rename(temporary, join(folder, name));
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => {});
      throw error;
    }
  }

  private refOf(revision: string): string {
    return join(this.folder, 'refs', ...revision.split('/'));
  }

  private listingOf(commit: string): string {
    return join(this.folder, '.gistql', `${commit}.json`);
  }
}

/** A second name where there can be one, else a copy. */
async function sameFile(from: string, to: string): Promise<void> {
  await link(from, to).catch(() => copyFile(from, to));
}

function isNamed(name: unknown): name is string {
  return typeof name === 'string' && isFileName(name);
}

async function isFile(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() ?? false;
}

/** Undefined where there is none, or a broken one: it is a note, and can be made again. */
async function readObject(path: string): Promise<Record<string, unknown> | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(path, 'utf8'));
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
