/** The embedded database's thread: PGlite, which is PostgreSQL in WebAssembly, speaking PostgreSQL's protocol in messages. */
import { existsSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { PGlite } from '@electric-sql/pglite';

export interface PgliteSetup {
  readonly folder: string;
}

export type ToPglite =
  | { readonly type: 'bytes'; readonly connection: number; readonly bytes: Uint8Array }
  | { readonly type: 'close' };

export type FromPglite =
  | { readonly type: 'ready' }
  | { readonly type: 'failed'; readonly message: string }
  | { readonly type: 'bytes'; readonly connection: number; readonly bytes: Uint8Array }
  | { readonly type: 'broken'; readonly connection: number; readonly message: string };

const { folder } = workerData as PgliteSetup;

function send(message: FromPglite): void {
  parentPort?.postMessage(message);
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A new database is made beside its place, so that a process killed meanwhile leaves no half of one there. */
async function open(): Promise<PGlite> {
  if (!existsSync(folder)) {
    const unfinished = `${folder}.new`;
    await rm(unfinished, { recursive: true, force: true });
    await (await PGlite.create(unfinished)).close();
    await rename(unfinished, folder);
  }
  return await PGlite.create(folder);
}

function serve(database: PGlite): void {
  let current = 0;
  const answer = async (connection: number, bytes: Uint8Array): Promise<void> => {
    // PGlite has one session: each connection finds it as a server's new one
    if (connection < current) return;
    if (connection > current) {
      current = connection;
      await database.exec('rollback');
      await database.exec('discard all');
    }
    const parts: Uint8Array[] = [];
    await database.execProtocolRawStream(bytes, { onRawData: (part) => parts.push(part.slice()) });
    send({ type: 'bytes', connection, bytes: Buffer.concat(parts) });
  };
  let last: Promise<void> = Promise.resolve();
  parentPort?.on('message', (message: ToPglite) => {
    switch (message.type) {
      case 'bytes': {
        const { connection, bytes } = message;
        last = last
          .then(() => answer(connection, bytes))
          .catch((error: unknown) => send({ type: 'broken', connection, message: textOf(error) }));
        break;
      }
      case 'close':
        void last.then(() => database.close()).finally(() => parentPort?.close());
        break;
      default:
        message satisfies never;
    }
  });
}

try {
  serve(await open());
  send({ type: 'ready' });
} catch (error) {
  send({ type: 'failed', message: textOf(error) });
  parentPort?.close();
}
