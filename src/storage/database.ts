/** The one database under evaluations, training and the job queue: embedded in this process, or a PostgreSQL. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres';
import pg from 'pg';
import { DatabaseLost } from './database-lost.ts';
import { FolderLock } from './folder-lock.ts';
import { migrate } from './migrations.ts';
import { PgliteThread, type StartWorker } from './pglite-thread.ts';

export interface DatabaseOptions {
  /** A PostgreSQL, as `postgres://user:password@host:port/database`. Default: embedded. */
  readonly url?: string | undefined;
  /** Where the embedded database lies: `database` in it, and the lock beside. */
  readonly folder: string;
  readonly startWorker: StartWorker;
  /** Hears of connections that break while nobody uses them; what uses them fails by itself. */
  readonly onError: (error: Error) => void;
}

/** What a query is sent to: the database, or one transaction of it. */
export interface Connection {
  readonly orm: NodePgDatabase;
  query(text: string, values?: unknown[]): Promise<{ rows: Record<string, unknown>[] }>;
}

export interface Listener {
  readonly onPayload: (payload: string) => void;
  /** The connection has ended, with all that was sent since; listen again. Never called by the embedded database. */
  readonly onLost: (error: Error) => void;
}

/** Every notification is sent on this channel; its payload says what it is about. */
export const CHANNEL = 'gistql';

const MOST_CONNECTIONS = 10;
const CONNECT_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 10_000;

export class Database implements Connection {
  readonly orm: NodePgDatabase;

  private constructor(
    private readonly pool: pg.Pool,
    private readonly place: EmbeddedPlace | ServerPlace,
  ) {
    this.orm = drizzle({ client: pool });
  }

  /** Opens the database and brings its tables up to date. */
  static async open(options: DatabaseOptions): Promise<Database> {
    const { url, folder, startWorker, onError } = options;
    const place = url === undefined ? await EmbeddedPlace.open(folder, startWorker) : new ServerPlace(url);
    const pool = new pg.Pool(place.poolConfig());
    pool.on('error', onError);
    try {
      await place.check(pool);
      const database = new Database(pool, place);
      await migrate(database.orm);
      return database;
    } catch (error) {
      await pool.end();
      await place.close();
      throw error;
    }
  }

  /** Whether no other process can use this database. */
  get isEmbedded(): boolean {
    return this.place instanceof EmbeddedPlace;
  }

  async query(text: string, values?: unknown[]): Promise<{ rows: Record<string, unknown>[] }> {
    return await this.pool.query(text, values);
  }

  /** Commits when `run` resolves, takes all back when it rejects. The embedded database has one connection: use only `run`'s. */
  async transaction<T>(run: (connection: Connection) => Promise<T>): Promise<T> {
    const client = await this.pool.connect();
    let broken = false;
    try {
      await client.query('begin');
      try {
        const result = await run({
          orm: drizzle({ client }),
          query: (text, values) => client.query(text, values),
        });
        await client.query('commit');
        return result;
      } catch (error) {
        await client.query('rollback').catch(() => {
          broken = true;
        });
        throw error;
      }
    } finally {
      client.release(broken);
    }
  }

  /** Hears what is notified from now on, until the returned function is called. */
  listen(listener: Listener): Promise<() => Promise<void>> {
    return this.place.listen(listener);
  }

  async close(): Promise<void> {
    if (this.pool.ending) return;
    await this.pool.end();
    await this.place.close();
  }
}

class EmbeddedPlace {
  private readonly listeners = new Set<Listener>();

  private constructor(
    private readonly thread: PgliteThread,
    private readonly lock: FolderLock,
  ) {}

  static async open(folder: string, startWorker: StartWorker): Promise<EmbeddedPlace> {
    await mkdir(folder, { recursive: true });
    const lock = await FolderLock.take(join(folder, 'database.lock'));
    try {
      return new EmbeddedPlace(await PgliteThread.start(join(folder, 'database'), startWorker), lock);
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  /** The session is one, and listens: it hears what it says itself, and nobody else can say anything. */
  poolConfig(): pg.PoolConfig {
    return {
      max: 1,
      idleTimeoutMillis: 0,
      user: 'postgres',
      database: 'postgres',
      password: '',
      // whatever the environment says of a server is not about this one
      ssl: false,
      options: '',
      stream: () => this.thread.connect(),
      onConnect: async (client) => {
        client.on('notification', ({ payload = '' }) => {
          for (const { onPayload } of [...this.listeners]) onPayload(payload);
        });
        await client.query(`listen ${CHANNEL}`);
      },
    };
  }

  async check(): Promise<void> {}

  async listen(listener: Listener): Promise<() => Promise<void>> {
    this.listeners.add(listener);
    return async () => {
      this.listeners.delete(listener);
    };
  }

  async close(): Promise<void> {
    await this.thread.close();
    await this.lock.release();
  }
}

class ServerPlace {
  constructor(private readonly url: string) {}

  poolConfig(): pg.PoolConfig {
    return {
      connectionString: this.url,
      max: MOST_CONNECTIONS,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      keepAlive: true,
      keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
      application_name: 'gistql',
    };
  }

  async check(pool: pg.Pool): Promise<void> {
    try {
      await pool.query('select 1');
    } catch (cause) {
      throw new DatabaseLost(
        `Expected a PostgreSQL that answers at ${this.name()}, it does not (${reasonOf(cause)}). Check DATABASE_URL.`,
        true,
        { cause },
      );
    }
  }

  async listen({ onPayload, onLost }: Listener): Promise<() => Promise<void>> {
    const client = new pg.Client(this.poolConfig());
    let over = false;
    const lose = (error: Error): void => {
      if (over) return;
      over = true;
      onLost(error);
    };
    client.on('error', lose);
    client.on('end', () => lose(new Error(`The connection to ${this.name()} has ended.`)));
    client.on('notification', ({ payload = '' }) => onPayload(payload));
    try {
      await client.connect();
      await client.query(`listen ${CHANNEL}`);
    } catch (error) {
      over = true;
      await client.end().catch(() => {});
      throw error;
    }
    return async () => {
      over = true;
      await client.end();
    };
  }

  async close(): Promise<void> {}

  /** Where it is, without the password. */
  private name(): string {
    const { hostname, port, pathname } = new URL(this.url);
    return `${hostname}:${port || '5432'}${pathname}`;
  }
}

/** Several addresses of one name fail as one error without a message of its own. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join(', ');
  return error instanceof Error ? error.message : String(error);
}
