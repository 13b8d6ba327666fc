/** Where the files of a snapshot may lie: Hugging Face's cache has each under its digest, and links to it by name. */
import { basename, dirname, join } from 'node:path';

const REPOSITORY = /^(?:models|datasets)--[^/\\]+$/;
const COMMIT = /^[0-9a-f]{40}$/;
const DIGEST = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;

/**
 * Whether `root` is the folder of a snapshot and `path` a blob of its own repository, or of the store that
 * huggingface_hub 2 shares between the repositories of one cache (`blobs/XX/DIGEST`). Both are real paths.
 */
export function isBlobOfSnapshot(root: string, path: string): boolean {
  const snapshots = dirname(root);
  const repository = dirname(snapshots);
  const isSnapshot =
    COMMIT.test(basename(root)) && basename(snapshots) === 'snapshots' && REPOSITORY.test(basename(repository));
  if (!isSnapshot || !DIGEST.test(basename(path))) return false;
  const shared = join(dirname(repository), 'blobs', basename(path).slice(0, 2));
  return dirname(path) === join(repository, 'blobs') || dirname(path) === shared;
}
