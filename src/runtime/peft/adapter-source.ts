/** `dir:NAME`: a folder of the adapters directory, never a path. `hub:…`: one of Hugging Face's cache. */
import { isHubSource } from '../../storage/hub/hub-source.ts';
import { resolveFolder } from '../../storage/model-folder.ts';
import { quoted, StorageError } from '../../storage/storage-error.ts';
import { type ErrorCode, RuntimeError } from '../errors.ts';
import { findHubFolder } from '../hub-sources.ts';

export interface AdapterPlaces {
  /** Folder of the adapters that `dir:NAME` names. */
  readonly adaptersDir: string;
  /** Hugging Face's cache. Default: sources of the hub are refused. */
  readonly hubCacheDir?: string;
}

const SOURCE = /^dir:(.*)$/s;
const CODES = {
  missing: 'NOT_FOUND',
  name: 'BAD_USER_INPUT',
  invalid: 'INVALID_ADAPTER',
} as const satisfies Record<StorageError['reason'], ErrorCode>;
const ADVICE = 'Name a folder of the adapters directory (GISTQL_ADAPTERS_DIR), or put it there.';

/**
 * Returns the real path of a source's folder. Throws BAD_USER_INPUT or NOT_FOUND, which lists those that there are;
 * DOWNLOAD_FAILED for one of the hub that has not been fetched.
 */
export async function resolveAdapterFolder(
  source: string,
  { adaptersDir, hubCacheDir }: AdapterPlaces,
): Promise<string> {
  if (isHubSource(source) && hubCacheDir !== undefined) {
    return (await findHubFolder(hubCacheDir, 'adapter', source)).folder;
  }
  const [, name] = SOURCE.exec(source) ?? [];
  if (name === undefined) {
    const message = `Expected source to be dir:NAME or hub:OWNER/NAME, ${quoted(source)} came. ${ADVICE}`;
    throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'source' });
  }
  try {
    return await resolveFolder(adaptersDir, name, 'adapter');
  } catch (cause) {
    if (!(cause instanceof StorageError)) throw cause;
    throw new RuntimeError(CODES[cause.reason], `${cause.message} ${ADVICE}`, { argument: 'source' }, { cause });
  }
}
