/** Where the files of a snapshot may lie: Hugging Face's cache has each under its digest, and links to it by name. */
import { basename, dirname, join } from 'node:path';
import { isCommit, isDigest } from './hub-source.ts';

const REPOSITORY = /^(?:models|datasets)--[^/\\]+$/;

/**
 * Whether `root` is the folder of a snapshot, or a view of one (RepoCache), and `path` a blob of its own repository, or
 * of the store that huggingface_hub 2 shares between the repositories of one cache (`blobs/XX/DIGEST`). Both are real
 * paths.
 */
export function isBlobOfSnapshot(root: string, path: string): boolean {
  const repository = repositoryOf(root);
  const digest = basename(path);
  if (repository === undefined || !isDigest(digest)) return false;
  const shared = join(dirname(repository), 'blobs', digest.slice(0, 2));
  return dirname(path) === join(repository, 'blobs') || dirname(path) === shared;
}

/** The repository's folder: `root` is its `snapshots/COMMIT` or its `.gistql/COMMIT/FILE`. */
function repositoryOf(root: string): string | undefined {
  const isSnapshot = isCommit(basename(root));
  const commit = isSnapshot ? root : dirname(root);
  const parent = dirname(commit);
  const isFine = isCommit(basename(commit)) && basename(parent) === (isSnapshot ? 'snapshots' : '.gistql');
  return isFine && REPOSITORY.test(basename(dirname(parent))) ? dirname(parent) : undefined;
}
