/** What the hub says of a repository and its files, and their bytes: https://huggingface.co/docs/hub/api, read only. */
import { isObject, parseJsonObject } from '../bounded-file.ts';
import { MEBIBYTE } from '../byte-size.ts';
import { quoted, StorageError } from '../storage-error.ts';
import { HubError } from './hub-error.ts';
import type { HubAnswer, HubHttp, HubRequest } from './hub-http.ts';
import { checkComeBack, retrying } from './hub-retry.ts';
import { type HubSource, isCommit, isDigest, isFileName, repoPath } from './hub-source.ts';

/** A repository at one commit. */
export interface HubListing {
  readonly commit: string;
  /** Those outside of folders. */
  readonly names: readonly string[];
}

export interface HubFile {
  readonly name: string;
  readonly bytes: number;
  /** SHA-256 of the bytes, or for small files Git's SHA-1; the name of the blob. */
  readonly digest: string;
}

interface ClientOptions {
  readonly signal: AbortSignal;
  /** Of requests that may succeed later; default: several. */
  readonly attempts?: number;
}

const MOST_LISTING_BYTES = 32 * MEBIBYTE;
const MOST_NAMES = 10_000;
const COMMIT_HEADER = 'x-repo-commit';
/** The hub sends on to a store, or to another path of its own; an answer with these says all before. */
const OF_A_FILE = [COMMIT_HEADER, 'x-linked-etag', 'x-linked-size'];
const OK = 200;
const PARTIAL = 206;
const UNAUTHORIZED = 401;
const FORBIDDEN = 403;
const NOT_FOUND = 404;
const NO_SUCH_RANGE = 416;

export class HubClient {
  constructor(
    private readonly http: HubHttp,
    private readonly source: HubSource,
  ) {}

  /** Finds the commit of the source's revision, and what is in it. */
  listing(options: ClientOptions): Promise<HubListing> {
    const { repo, revision, type } = this.source;
    const what = `${repo}@${revision}`;
    const path = `/api/${type}s/${repo}/revision/${encodeURIComponent(revision)}`;
    const { signal } = options;
    return this.retrying(options, async () => {
      const answer = await this.http.send({ method: 'GET', path, signal });
      if (answer.status === NOT_FOUND) throw await this.missing(answer, signal);
      await this.check(answer, what);
      return parseListing(await readText(answer, what), what);
    });
  }

  /** What a file of a commit is, without its bytes. */
  file(commit: string, name: string, { signal }: Pick<ClientOptions, 'signal'>): Promise<HubFile> {
    const what = `${name} of ${this.source.repo}`;
    return this.retrying({ signal }, async () => {
      const request = { method: 'HEAD', path: this.pathOf(commit, name), endsWith: OF_A_FILE, signal } as const;
      const answer = await this.http.send(request);
      answer.discard();
      const isElsewhere = answer.status >= 300 && answer.status < 400;
      if (!isElsewhere) await this.check(answer, what);
      return { name, ...parseFile(answer.headers, { commit, isElsewhere, what }) };
    });
  }

  /** The bytes of a file from `offset` on, or the whole of it where the hub would have it so: `offset` says which. */
  async bytes(
    commit: string,
    file: HubFile,
    offset: number,
    { signal }: Pick<ClientOptions, 'signal'>,
  ): Promise<{ readonly offset: number; readonly pieces: AsyncGenerator<Uint8Array> }> {
    const what = `${file.name} of ${this.source.repo}`;
    const range: HubRequest['headers'] =
      offset === 0 ? {} : { range: `bytes=${offset}-`, 'if-range': `"${file.digest}"` };
    const answer = await this.http.send({
      method: 'GET',
      path: this.pathOf(commit, file.name),
      headers: range,
      signal,
    });
    if (answer.status === PARTIAL) {
      const [, start, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(answer.headers.get('content-range') ?? '') ?? [];
      if (Number(start) === offset && Number(total) === file.bytes) return { offset, pieces: answer.body() };
    }
    if (offset > 0 && (answer.status === PARTIAL || answer.status === NO_SUCH_RANGE)) {
      // what the hub has now is another file than the one that was begun
      answer.discard();
      return this.bytes(commit, file, 0, { signal });
    }
    await this.check(answer, what);
    return { offset: 0, pieces: answer.body() };
  }

  /** What a person may do about a repository that is closed to them. */
  private async denied({ status, headers }: HubAnswer, what: string): Promise<HubError> {
    const page = `${this.http.endpoint}/${repoPath(this.source)}`;
    const came = `Expected ${what} to be open to this server, the hub says no (status ${status}).`;
    if (headers.get('x-error-code') === 'GatedRepo') {
      return new HubError('denied', `${came} Accept its terms at ${page} and set HF_TOKEN to a token of that account.`);
    }
    const remedy = (await this.http.hasToken())
      ? 'set HF_TOKEN to a token that may read it, and accept its terms'
      : 'set HF_TOKEN where it is private or has terms to be accepted';
    return new HubError('denied', `${came} Check the name, or ${remedy} at ${page}.`);
  }

  private async check(answer: HubAnswer, what: string): Promise<void> {
    const { status } = answer;
    if (status === OK) return;
    answer.discard();
    checkComeBack(answer, what);
    if (status === UNAUTHORIZED || status === FORBIDDEN) throw await this.denied(answer, what);
    if (status === NOT_FOUND) throw new HubError('missing', `Expected ${what} on the hub, there is none.`);
    throw new HubError('download', `Expected the hub to answer for ${what}, status ${status} came.`);
  }

  /** Says whether the repository is not there, or the revision of it. */
  private async missing(answer: HubAnswer, signal: AbortSignal): Promise<HubError> {
    answer.discard();
    const { repo, revision, type } = this.source;
    const code = answer.headers.get('x-error-code');
    const isThere = code === null ? await this.isThere(signal) : code === 'RevisionNotFound';
    const noun = type === 'dataset' ? 'dataset' : 'model';
    if (!isThere) {
      return new HubError('missing', `Expected a ${noun} on the hub, there is no ${repo}. Check OWNER/NAME.`);
    }
    const remedy = 'Name one of its branches, tags or commits';
    return new HubError('missing', `Expected a revision of ${repo}, it has no ${quoted(revision)}. ${remedy}.`);
  }

  private async isThere(signal: AbortSignal): Promise<boolean> {
    const { repo, type } = this.source;
    const answer = await this.http.send({ method: 'GET', path: `/api/${type}s/${repo}`, signal });
    answer.discard();
    checkComeBack(answer, repo);
    return answer.status === OK;
  }

  private pathOf(commit: string, name: string): string {
    return `/${repoPath(this.source)}/resolve/${commit}/${encodeURIComponent(name)}`;
  }

  private retrying<T>(options: ClientOptions, work: () => Promise<T>): Promise<T> {
    return retrying({ clock: this.http.clock, ...options }, work);
  }
}

async function readText(answer: HubAnswer, what: string): Promise<string> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of answer.body()) {
    bytes += piece.length;
    if (bytes > MOST_LISTING_BYTES) {
      throw new HubError(
        'download',
        `Expected the list of ${what} to have at most ${MOST_LISTING_BYTES} bytes, more came.`,
      );
    }
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

function notTheHub(what: string, expected: string): HubError {
  return new HubError('download', `Expected ${expected} for ${what}, something else came. Check HF_ENDPOINT.`);
}

function parseListing(text: string, what: string): HubListing {
  const { sha, siblings } = parseObject(text, what);
  if (typeof sha !== 'string' || !isCommit(sha) || !Array.isArray(siblings)) {
    throw notTheHub(what, 'a commit (sha) and a list of files (siblings)');
  }
  const names = siblings.flatMap((entry: unknown) => {
    const name = isObject(entry) ? entry.rfilename : undefined;
    return typeof name === 'string' && isFileName(name) ? [name] : [];
  });
  if (names.length <= MOST_NAMES) return { commit: sha, names };
  throw new HubError('invalid', `Expected at most ${MOST_NAMES} files in ${what}, it has ${names.length}.`);
}

function parseObject(text: string, what: string): Record<string, unknown> {
  try {
    return parseJsonObject(text, what);
  } catch (error) {
    if (error instanceof StorageError) throw notTheHub(what, 'a JSON object');
    throw error;
  }
}

/** `isElsewhere`: the hub only says where the bytes are, so that the length of its answer is not theirs. */
function parseFile(
  headers: Headers,
  { commit, isElsewhere, what }: { readonly commit: string; readonly isElsewhere: boolean; readonly what: string },
): Omit<HubFile, 'name'> {
  if (headers.get(COMMIT_HEADER) !== commit) throw notTheHub(what, `the commit ${commit} (X-Repo-Commit)`);
  const tag = headers.get('x-linked-etag') ?? headers.get('etag') ?? '';
  const digest = tag.replace(/^W\//, '').replaceAll('"', '');
  if (!isDigest(digest)) throw notTheHub(what, 'a digest (ETag)');
  const size = headers.get('x-linked-size') ?? (isElsewhere ? null : headers.get('content-length'));
  const bytes = /^\d{1,15}$/.test(size ?? '') ? Number(size) : undefined;
  if (bytes === undefined) throw notTheHub(what, 'a size (Content-Length)');
  return { bytes, digest };
}
