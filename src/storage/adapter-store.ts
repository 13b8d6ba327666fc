/**
 * The file in which the server remembers its adapters: one JSON object, replaced as a whole or not at all. Servers that
 * share a database may share its folder: each may read, but the one that writes first keeps it until it ends, and none
 * writes over what it has not read.
 */
import { createHash } from 'node:crypto';
import { mkdir, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ADAPTER_METHODS, type AdapterFacts } from './adapter-facts.ts';
import { BoundedFile, decodeText, isObject, parseJsonObject } from './bounded-file.ts';
import { MEBIBYTE } from './byte-size.ts';
import { FolderLock } from './folder-lock.ts';
import { quoted, StorageError, TakenError } from './storage-error.ts';
import { writeWholeFile } from './whole-files.ts';

export interface StoredAdapter {
  readonly id: string;
  readonly name: string;
  readonly model: string;
  readonly source: string;
  readonly facts: AdapterFacts;
}

export interface StoredAdapters {
  readonly adapters: readonly StoredAdapter[];
  /** Id of the active adapter of each model that has one. */
  readonly active: ReadonlyMap<string, string>;
}

const FILE = 'adapters.json';
const LOCK = 'adapters.lock';
const VERSION = 1;
const MOST_BYTES = 256 * MEBIBYTE;

export class AdapterStore {
  /** Adapters do not change once they are loaded: each is written out once, not at every save. */
  private readonly texts = new WeakMap<StoredAdapter, string>();
  private wanted: StoredAdapters = { adapters: [], active: new Map() };
  private next: Promise<void> | undefined;
  private last: Promise<void> = Promise.resolve();
  /** What the file was when this process read it; undefined: it has not looked. */
  private known: string | undefined;
  /** From the first write on. */
  private lock: FolderLock | undefined;

  constructor(private readonly folder: string) {}

  /**
   * Returns what was saved last; nothing when there is no file. A broken file is put aside under another name, which
   * `onBroken` is told, and counts as none: the server starts, and nothing is lost that a person could mend.
   */
  async read(onBroken: (warning: string) => void): Promise<StoredAdapters> {
    this.known = NO_FILE;
    try {
      const bytes = await this.readBytes();
      const state = parseState(parseJsonObject(decodeText(bytes, FILE), FILE));
      this.known = digestOf(bytes);
      return state;
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      if (error.reason !== 'missing') {
        const name = await this.freeName();
        await rename(join(this.folder, FILE), join(this.folder, name));
        onBroken(`${error.message} It is kept as ${name}; the server starts without the adapters in it.`);
      }
      return { adapters: [], active: new Map() };
    }
  }

  /**
   * Resolves when this state, or a later one, is on the disk. States that another overtakes are not written. Rejects with
   * TakenError where another process writes the file, or has written it since this one read it.
   */
  save(state: StoredAdapters): Promise<void> {
    this.wanted = state;
    if (this.next === undefined) {
      this.next = this.last.then(() => {
        this.next = undefined;
        return this.write(this.wanted);
      });
      // whoever saved hears of a failure; the next write is made all the same
      this.last = this.next.catch(() => {});
    }
    return this.next;
  }

  /** Waits for what is being saved, and lets others write. */
  async close(): Promise<void> {
    await this.last;
    await this.lock?.release();
    this.lock = undefined;
  }

  private async readBytes(): Promise<Uint8Array> {
    const file = await BoundedFile.open(join(this.folder, FILE), FILE);
    try {
      if (file.size > MOST_BYTES) {
        throw new StorageError('invalid', `${FILE}: expected at most ${MOST_BYTES} bytes, it has ${file.size}.`);
      }
      const bytes = new Uint8Array(file.size);
      await file.readInto(bytes, 0);
      return bytes;
    } finally {
      await file.close();
    }
  }

  /** Makes the file this process's own to write. */
  private async own(): Promise<void> {
    if (this.lock !== undefined) return;
    await mkdir(this.folder, { recursive: true });
    const lock = await FolderLock.take(join(this.folder, LOCK), []);
    try {
      await this.checkKnown();
    } catch (error) {
      await lock.release();
      throw error;
    }
    this.lock = lock;
  }

  private async checkKnown(): Promise<void> {
    if (this.known === undefined) return;
    const now = await this.readBytes().then(digestOf, (error: unknown) => {
      if (error instanceof StorageError && error.reason === 'missing') return NO_FILE;
      throw error;
    });
    if (now === this.known) return;
    throw new TakenError(
      `Expected ${join(this.folder, FILE)} to be what this server read, another one has written it since. Start this server again, or set GISTQL_DATA_DIR to another folder.`,
    );
  }

  private async write({ adapters, active }: StoredAdapters): Promise<void> {
    const head = `{"version":${VERSION},"active":${JSON.stringify(Object.fromEntries(active))},"adapters":[\n`;
    const text = `${head}${adapters.map((adapter) => this.textOf(adapter)).join(',\n')}\n]}\n`;
    await this.own();
    await writeWholeFile(join(this.folder, FILE), (file) => file.writeFile(text));
  }

  private textOf(adapter: StoredAdapter): string {
    let text = this.texts.get(adapter);
    if (text === undefined) {
      text = JSON.stringify(adapter);
      this.texts.set(adapter, text);
    }
    return text;
  }

  private async freeName(): Promise<string> {
    for (let count = 1; ; count++) {
      const name = `${FILE}.broken-${count}`;
      const taken = await stat(join(this.folder, name)).catch(() => undefined);
      if (taken === undefined) return name;
    }
  }
}

/** Stands for the digest of a file that is not there. */
const NO_FILE = 'none';

function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function broken(where: string, expected: string, came: unknown): StorageError {
  return new StorageError('invalid', `${FILE}: expected ${where} to be ${expected}, ${quoted(came)} came.`);
}

function parseState({ version, adapters, active }: Record<string, unknown>): StoredAdapters {
  if (version !== VERSION) throw broken('version', String(VERSION), version);
  if (!Array.isArray(adapters)) throw broken('adapters', 'a list', adapters);
  if (!isObject(active)) throw broken('active', 'an object', active);
  const parsed = adapters.map((adapter: unknown, index) => parseAdapter(adapter, `adapters[${index}]`));
  const modelOf = new Map(parsed.map(({ id, model }) => [id, model]));
  if (modelOf.size < parsed.length) throw broken('adapters', 'of different ids', 'the same id twice');
  const activeOf = new Map<string, string>();
  for (const [model, id] of Object.entries(active)) {
    if (typeof id !== 'string' || modelOf.get(id) !== model) {
      throw broken(`active.${model.slice(0, 80)}`, 'the id of an adapter of that model', id);
    }
    activeOf.set(model, id);
  }
  return { adapters: parsed, active: activeOf };
}

function parseAdapter(value: unknown, where: string): StoredAdapter {
  const fields = new Fields(value, where);
  return {
    id: fields.text('id'),
    name: fields.text('name'),
    model: fields.text('model'),
    source: fields.text('source'),
    facts: parseFacts(fields.child('facts')),
  };
}

function parseFacts(fields: Fields): AdapterFacts {
  const report = fields.child('report');
  return {
    method: fields.oneOf('method', ADAPTER_METHODS),
    rank: fields.count('rank'),
    alpha: fields.number('alpha'),
    targetModules: fields.texts('targetModules'),
    modules: fields.texts('modules'),
    parameterCount: fields.count('parameterCount'),
    sizeBytes: fields.count('sizeBytes'),
    memoryBytes: fields.count('memoryBytes'),
    sha256: fields.text('sha256'),
    configSha256: fields.text('configSha256'),
    report: {
      matchedTensors: report.texts('matchedTensors'),
      unmatchedTensors: report.texts('unmatchedTensors'),
      zeroTensors: report.texts('zeroTensors'),
      warnings: report.texts('warnings'),
    },
  };
}

/** An object of the file, read field by field; each says what it expected. */
class Fields {
  private readonly values: Readonly<Record<string, unknown>>;

  constructor(
    value: unknown,
    private readonly where: string,
  ) {
    if (!isObject(value)) throw broken(where, 'an object', value);
    this.values = value;
  }

  child(name: string): Fields {
    return new Fields(this.values[name], `${this.where}.${name}`);
  }

  text(name: string): string {
    const value = this.values[name];
    return typeof value === 'string' ? value : this.fail(name, 'a text');
  }

  texts(name: string): readonly string[] {
    const value = this.values[name];
    const isList = Array.isArray(value) && value.every((item) => typeof item === 'string');
    return isList ? (value as string[]) : this.fail(name, 'a list of texts');
  }

  number(name: string): number {
    const value = this.values[name];
    return typeof value === 'number' && Number.isFinite(value) ? value : this.fail(name, 'a number');
  }

  count(name: string): number {
    const value = this.number(name);
    return Number.isSafeInteger(value) && value >= 0 ? value : this.fail(name, 'a whole number');
  }

  oneOf<T extends string>(name: string, allowed: readonly T[]): T {
    const found = allowed.find((one) => one === this.values[name]);
    return found ?? this.fail(name, `one of ${allowed.join(', ')}`);
  }

  private fail(name: string, expected: string): never {
    throw broken(`${this.where}.${name}`, expected, this.values[name]);
  }
}
