/**
 * Reads adapters in a thread of its own: checking, converting and hashing would hold the serving thread's event loop.
 * It reads one adapter at a time, so that one whose files end the thread fails alone.
 */
import type { Worker } from 'node:worker_threads';
import { quoted } from '../../storage/storage-error.ts';
import { RuntimeError } from '../errors.ts';
import { RETRY_MS } from '../retry.ts';
import { startWorker } from '../start-worker.ts';
import { fromTransfer } from '../transfer-error.ts';
import type { AdapterLoaderSetup, FromAdapterLoader, ToAdapterLoader } from './adapter-loader-messages.ts';
import type { AdapterPlaces } from './adapter-source.ts';
import type { AdapterBase, AdapterLimits, LoadedAdapter } from './read-adapter.ts';

interface PendingLoad {
  readonly message: ToAdapterLoader;
  readonly resolve: (adapter: LoadedAdapter) => void;
  readonly reject: (error: unknown) => void;
}

/** What names and headers may take as JavaScript objects; weights lie outside of the heap. */
const HEAP_MEBIBYTES = 1024;
const OUT_OF_MEMORY = 'ERR_WORKER_OUT_OF_MEMORY';

export class AdapterLoader {
  private worker: Worker | undefined;
  private readonly waiting: PendingLoad[] = [];
  private current: PendingLoad | undefined;
  private nextLoadId = 0;
  private closing: Promise<void> | undefined;

  constructor(
    private readonly places: AdapterPlaces,
    private readonly limits: AdapterLimits,
  ) {}

  /**
   * Reads the adapter of a source for a model; one of the hub must have been fetched. Rejects with BAD_USER_INPUT, NOT_FOUND, INVALID_ADAPTER,
   * INCOMPATIBLE_ADAPTER; INVALID_MODEL where the base's files are broken; OVERLOADED when it is closed.
   */
  load(source: string, base: AdapterBase): Promise<LoadedAdapter> {
    if (this.closing !== undefined) return Promise.reject(stopped());
    return new Promise((resolve, reject) => {
      this.waiting.push({ message: { loadId: this.nextLoadId++, source, base }, resolve, reject });
      this.loadNext();
    });
  }

  /** Ends the thread; what it has not read yet is refused. */
  close(): Promise<void> {
    this.closing ??= this.end();
    return this.closing;
  }

  private async end(): Promise<void> {
    const pending = [...(this.current === undefined ? [] : [this.current]), ...this.waiting.splice(0)];
    this.current = undefined;
    for (const { reject } of pending) reject(stopped());
    await this.worker?.terminate();
  }

  private loadNext(): void {
    if (this.current !== undefined || this.closing !== undefined) return;
    this.current = this.waiting.shift();
    if (this.current === undefined) return;
    this.worker ??= this.start();
    this.worker.postMessage(this.current.message);
  }

  private start(): Worker {
    const workerData: AdapterLoaderSetup = { places: this.places, limits: this.limits };
    const resourceLimits = { maxOldGenerationSizeMb: HEAP_MEBIBYTES };
    const worker = startWorker(import.meta.url, './adapter-loader-worker', { workerData, resourceLimits });
    let cause: Error | undefined;
    worker.on('message', (message: FromAdapterLoader) => this.receive(message));
    worker.on('error', (error: Error) => {
      cause = error;
    });
    worker.on('exit', (code) => this.ended(cause ?? new Error(`the thread ended with code ${code}`)));
    return worker;
  }

  private receive(message: FromAdapterLoader): void {
    if (message.loadId !== this.current?.message.loadId) return;
    const { resolve, reject } = this.current;
    this.current = undefined;
    if (message.type === 'loaded') resolve(message.adapter);
    else reject(fromTransfer(message.error));
    this.loadNext();
  }

  /** The next load starts another thread. */
  private ended(cause: Error): void {
    const failed = this.current;
    this.worker = undefined;
    this.current = undefined;
    failed?.reject(endError(failed.message.source, cause));
    this.loadNext();
  }
}

function stopped(): RuntimeError {
  const message = `Expected adapters to be loaded, but the server is stopping. Send it again in ${RETRY_MS} ms.`;
  return new RuntimeError('OVERLOADED', message, { retryAfterMs: RETRY_MS });
}

function endError(source: string, cause: Error): RuntimeError {
  const name = quoted(source);
  if ('code' in cause && cause.code === OUT_OF_MEMORY) {
    const message = `${name}: expected files whose names and headers fit ${HEAP_MEBIBYTES} MiB, they need more. Write the adapter again with PEFT.`;
    return new RuntimeError('INVALID_ADAPTER', message, {}, { cause });
  }
  const message = `${name}: expected the thread that reads adapters to answer, it ended (${cause.message}). Load it again.`;
  return new RuntimeError('INTERNAL_SERVER_ERROR', message, {}, { cause });
}
