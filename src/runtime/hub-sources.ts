/** Sources `hub:…` as the runtime takes them: folders of Hugging Face's cache, and errors that have public codes. */
import { HubError } from '../storage/hub/hub-error.ts';
import { findCached, type HubSnapshot } from '../storage/hub/hub-snapshot.ts';
import { type HubKind, isHubSource } from '../storage/hub/hub-source.ts';
import type { HubStore } from '../storage/hub/hub-store.ts';
import type { HubProgress } from '../storage/hub/snapshot-fetch.ts';
import { type ErrorCode, type ErrorDetails, RuntimeError } from './errors.ts';
import { RETRY_MS } from './retry.ts';

const CODES = {
  name: 'BAD_USER_INPUT',
  missing: 'NOT_FOUND',
  denied: 'ACCESS_DENIED',
  download: 'DOWNLOAD_FAILED',
} as const satisfies Record<Exclude<HubError['reason'], 'invalid'>, ErrorCode>;
const INVALID_CODES = {
  model: 'INVALID_MODEL',
  adapter: 'INVALID_ADAPTER',
  dataset: 'INVALID_DATASET',
} as const satisfies Record<HubKind, ErrorCode>;

/** Fetches what sources name; `HubSources` is the real one. */
export interface SourceFetcher {
  /** Returns the source that names the same files for ever; one that is not of the hub is that already. */
  fetch(kind: HubKind, source: string): Promise<string>;
}

interface SourceOptions {
  readonly stopping: AbortSignal;
  readonly onNotice: (notice: string) => void;
  /** Hears of every piece that comes. */
  readonly onProgress?: (source: string, progress: HubProgress) => void;
}

export class HubSources implements SourceFetcher {
  constructor(
    private readonly store: HubStore,
    private readonly options: SourceOptions,
  ) {}

  /** Rejects with RuntimeError: one of the codes above, or OVERLOADED when the server is stopping. */
  async fetch(kind: HubKind, source: string): Promise<string> {
    if (!isHubSource(source)) return source;
    const { stopping, onNotice, onProgress } = this.options;
    const hear = (progress: HubProgress): void => onProgress?.(source, progress);
    try {
      return (await this.store.resolve(kind, source, { signal: stopping, onNotice, onProgress: hear })).source;
    } catch (cause) {
      if (!stopping.aborted) throw withCode(kind, cause);
      const message = `Expected ${source} to be fetched, but the server is stopping. Send it again in ${RETRY_MS} ms.`;
      throw new RuntimeError('OVERLOADED', message, { retryAfterMs: RETRY_MS }, { cause });
    }
  }
}

/** Returns what the cache has of a source, without asking the hub. Throws RuntimeError. */
export async function findHubFolder(cacheDir: string, kind: HubKind, source: string): Promise<HubSnapshot> {
  try {
    return await findCached(cacheDir, kind, source);
  } catch (cause) {
    throw withCode(kind, cause);
  }
}

function withCode(kind: HubKind, cause: unknown): unknown {
  if (!(cause instanceof HubError)) return cause;
  const { reason, message, details } = cause;
  if (reason === 'invalid') return new RuntimeError(INVALID_CODES[kind], message, {}, { cause });
  return new RuntimeError(CODES[reason], message, detailsOf(kind, reason, details.retryAfterMs, details.mayPass), {
    cause,
  });
}

function detailsOf(kind: HubKind, reason: HubError['reason'], retryAfterMs = RETRY_MS, mayPass = false): ErrorDetails {
  if (reason === 'download') return mayPass ? { retryAfterMs } : {};
  return { argument: kind === 'dataset' ? 'dataset' : 'source' };
}
