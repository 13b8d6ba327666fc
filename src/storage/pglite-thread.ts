/**
 * The embedded database as the `pg` driver sees it: a connection whose other end is a thread of this process. A query
 * takes milliseconds of WebAssembly; in that thread they hold nobody up.
 */
import { once } from 'node:events';
import { Duplex } from 'node:stream';
import type { Worker, WorkerOptions } from 'node:worker_threads';
import { DatabaseLost } from './database-lost.ts';
import type { FromPglite, PgliteSetup, ToPglite } from './pglite-worker.ts';

/** Starts a module of ours as a thread: `module` is its path from the file `caller`, without extension. */
export type StartWorker = (caller: string, module: string, options: Pick<WorkerOptions, 'workerData'>) => Worker;

export class PgliteThread {
  private connections = 0;
  private open: PgliteStream | undefined;
  private ended: Error | undefined;

  private constructor(
    private readonly worker: Worker,
    private readonly folder: string,
  ) {}

  /** Opens the database in `folder`, which is made when there is none. */
  static async start(folder: string, startWorker: StartWorker): Promise<PgliteThread> {
    const setup: PgliteSetup = { folder };
    const thread = new PgliteThread(startWorker(import.meta.url, './pglite-worker', { workerData: setup }), folder);
    await thread.ready();
    return thread;
  }

  /** Returns a new connection; the one before it is over. */
  connect(): Duplex {
    this.connections++;
    const connection = this.connections;
    const stream = new PgliteStream((bytes) => this.send({ type: 'bytes', connection, bytes }));
    if (this.ended !== undefined) stream.destroy(this.ended);
    this.open = stream;
    return stream;
  }

  async close(): Promise<void> {
    if (this.ended !== undefined) return;
    const exit = once(this.worker, 'exit');
    this.send({ type: 'close' });
    await exit;
  }

  private send(message: ToPglite): void {
    this.worker.postMessage(message);
  }

  private ready(): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (reason: string, cause?: unknown): void => {
        if (this.ended !== undefined) return;
        this.ended = new DatabaseLost(
          `The embedded database in ${this.folder} is closed: ${reason}. Start the server again; if that does not help, put the folder aside or use DATABASE_URL.`,
          false,
          { cause },
        );
        reject(this.ended);
        this.open?.destroy(this.ended);
      };
      this.worker.on('error', (error) => end(error.message, error));
      this.worker.on('exit', () => end('its thread has ended'));
      this.worker.on('message', (message: FromPglite) => {
        switch (message.type) {
          case 'ready':
            resolve();
            break;
          case 'failed':
            end(message.message);
            break;
          case 'bytes':
            if (message.connection === this.connections) this.open?.push(message.bytes);
            break;
          case 'broken':
            if (message.connection === this.connections) this.open?.destroy(brokenOff(message.message));
            break;
          default:
            message satisfies never;
        }
      });
    });
  }
}

function brokenOff(reason: string): DatabaseLost {
  const message = `Expected the embedded database to answer, it broke off (${reason}). Send it again; if that does not help, start the server again.`;
  return new DatabaseLost(message, true);
}

/** What `pg` asks of a socket. It writes the messages of one query together: they reach PGlite as one, up to its Sync. */
class PgliteStream extends Duplex {
  constructor(private readonly send: (bytes: Uint8Array) => void) {
    super();
  }

  connect(): this {
    process.nextTick(() => this.emit('connect'));
    return this;
  }

  setNoDelay(): this {
    return this;
  }

  setKeepAlive(): this {
    return this;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    // a copy: postMessage clones the whole memory that a small buffer is a window of
    this.send(Uint8Array.from(chunk));
    done();
  }

  override _writev(chunks: { readonly chunk: Buffer }[], done: () => void): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), '', done);
  }

  override _final(done: () => void): void {
    this.push(null);
    done();
  }
}
