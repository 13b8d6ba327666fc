/**
 * Names of what the hub has: `hub:OWNER/NAME`, `hub:datasets/OWNER/NAME`, either with `@REVISION` (a branch, a tag or a
 * commit) and `#FILE` behind it. Each part becomes the name of a folder, so none can lead anywhere else.
 */
import { quoted } from '../storage-error.ts';
import { HubError } from './hub-error.ts';

export type HubKind = 'model' | 'adapter' | 'dataset';

export interface HubSource {
  /** Adapters lie in repositories of models. */
  readonly type: 'model' | 'dataset';
  /** `OWNER/NAME` */
  readonly repo: string;
  readonly revision: string;
  /** The one file that is meant, where the repository has several that would do. */
  readonly file: string | undefined;
}

const PREFIX = 'hub:';
const SOURCE = /^hub:(?<datasets>datasets\/)?(?<repo>[^@#]*)(?:@(?<revision>[^#]*))?(?:#(?<file>.*))?$/s;
/** As huggingface_hub's validate_repo_id has it; `--` stands for the slash in names of folders. */
const REPO =
  /^(?!.*(?:--|\.\.|\.git$))[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\/[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?$/;
const MOST_REPO_LENGTH = 96;
const REVISION = /^[A-Za-z0-9_+-][A-Za-z0-9._+-]*(?:\/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)*$/;
const MOST_REVISION_LENGTH = 128;
const FILE = /^[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}$/;
const COMMIT = /^[0-9a-f]{40}$/;
const DIGEST = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
const DEFAULT_REVISION = 'main';

export function isHubSource(source: string): boolean {
  return source.startsWith(PREFIX);
}

/** Whether a revision names one state of a repository for ever. */
export function isCommit(revision: string): boolean {
  return COMMIT.test(revision);
}

/** Whether it is the digest of a file, which is the name of its blob. */
export function isDigest(text: string): boolean {
  return DIGEST.test(text);
}

/** A repository in the hub's addresses. */
export function repoPath({ type, repo }: Pick<HubSource, 'type' | 'repo'>): string {
  return type === 'dataset' ? `datasets/${repo}` : repo;
}

/** Whether a file of a repository may be named, and kept under its name: files of folders within it are never needed. */
export function isFileName(file: string): boolean {
  return FILE.test(file);
}

/** `kind`: what it must be; undefined where the source alone says so. Throws HubError. */
export function parseHubSource(source: string, kind?: HubKind): HubSource {
  const { datasets, repo = '', revision = DEFAULT_REVISION, file } = SOURCE.exec(source)?.groups ?? {};
  const refuse = (expected: string, came: string): never => {
    throw new HubError('name', `Expected ${expected}, ${quoted(came)} came.`);
  };
  if (repo.length > MOST_REPO_LENGTH || !REPO.test(repo)) {
    refuse(`hub:OWNER/NAME, as in the hub's addresses, or hub:OWNER/NAME@REVISION`, source);
  }
  if (revision.length > MOST_REVISION_LENGTH || !REVISION.test(revision)) {
    refuse('a branch, a tag or a commit behind the @', revision);
  }
  if (file !== undefined && !isFileName(file)) refuse('the name of a file behind the #', file);
  if (datasets !== undefined && kind !== undefined && kind !== 'dataset') {
    refuse(`the source of ${withArticle(kind)}, not of a dataset`, source);
  }
  const type = datasets !== undefined || kind === 'dataset' ? 'dataset' : 'model';
  return { type, repo, revision, file };
}

/** What parseHubSource reads back as the same. */
export function formatHubSource(source: HubSource): string {
  const { revision, file } = source;
  return `${PREFIX}${repoPath(source)}@${revision}${file === undefined ? '' : `#${file}`}`;
}

export function withArticle(kind: HubKind): string {
  return kind === 'adapter' ? 'an adapter' : `a ${kind}`;
}
