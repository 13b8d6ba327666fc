/**
 * A hub of one's own on two free ports, as far as repositories are read: https://huggingface.co/docs/hub/api. The second
 * port is where the hub sends for large files. Each answer can be made to fail.
 */
import { createHash } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Cleanup } from './cleanup.ts';

export interface HubRepo {
  readonly type?: 'model' | 'dataset';
  /** `OWNER/NAME` */
  readonly repo: string;
  readonly files: Readonly<Record<string, Uint8Array | string>>;
  /** Only who sends this token may read it. */
  readonly token?: string;
  /** Terms were not accepted. */
  readonly isGated?: boolean;
  /** Whether small files are sent on to another path of the hub, as huggingface.co does. Default false. */
  readonly movesSmallFiles?: boolean;
  /** Branches and tags that are at this commit. Default: main. */
  readonly revisions?: readonly string[];
}

/** Where small files are sent on to. */
const MOVED = /^\/api\/resolve-cache/;

export interface SeenRequest {
  readonly server: 'hub' | 'store';
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
}

/** What goes wrong with an answer. */
export interface Fault {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** The body that comes, whatever the headers say of the right one. */
  readonly body?: Uint8Array;
  /** After so many bytes of the body nothing more comes; 0: no headers either. */
  readonly hangAfter?: number;
  /** When the connection is cut that hangs. */
  readonly cut?: Promise<unknown>;
}

interface KeptRepo extends HubRepo {
  readonly commit: string;
  readonly bytes: ReadonlyMap<string, Uint8Array>;
}

/** What Git's large file storage would keep: all but texts. */
const LARGE = /\.(?:safetensors|gguf|bin|jsonl)$/;

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export function gitDigest(bytes: Uint8Array): string {
  return createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
}

/** What a repository made of a folder has. */
export async function filesOf(folder: string): Promise<Record<string, Uint8Array>> {
  const names = await readdir(folder);
  return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await readFile(join(folder, name))])));
}

export class HubServer {
  readonly requests: SeenRequest[] = [];
  /** Emits "request" with every SeenRequest. */
  readonly events = new EventEmitter();
  private readonly repos = new Map<string, KeptRepo>();
  private faults: { readonly where: RegExp; readonly fault: Fault; times: number }[] = [];

  private constructor(
    private readonly hub: Server,
    private readonly store: Server,
  ) {
    hub.on('request', (request, response) => this.answer('hub', request, response));
    store.on('request', (request, response) => this.answer('store', request, response));
  }

  static async start(t: Cleanup): Promise<HubServer> {
    const servers = [createServer(), createServer()] as const;
    for (const server of servers) {
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      t.after(async () => {
        server.closeAllConnections();
        server.close();
        await once(server, 'close');
      });
    }
    return new HubServer(...servers);
  }

  get url(): string {
    return urlOf(this.hub);
  }

  get storeUrl(): string {
    return urlOf(this.store);
  }

  /** Publishes a commit; returns its name. */
  add(repo: HubRepo): string {
    const bytes = new Map(Object.entries(repo.files).map(([name, file]) => [name, Buffer.from(file)]));
    const commit = gitDigest(Buffer.from([...bytes].map(([name, file]) => name + sha256(file)).join('\n')));
    const kept = { ...repo, commit, bytes };
    const { type = 'model', revisions = ['main'] } = repo;
    for (const revision of [...revisions, commit]) this.repos.set(`${type}s/${repo.repo}@${revision}`, kept);
    return commit;
  }

  /** The next answers to "hub GET /path" or "store GET /path" that `where` matches fail so. */
  fail(where: RegExp, fault: Fault, times = 1): void {
    this.faults.push({ where, fault, times });
  }

  /** What was asked, as "hub HEAD /path". */
  asked(where = /./): readonly string[] {
    return this.requests
      .map(({ server, method, path }) => `${server} ${method} ${path}`)
      .filter((line) => where.test(line));
  }

  private answer(server: 'hub' | 'store', request: IncomingMessage, response: ServerResponse): void {
    const { method = '', url: path = '', headers } = request;
    const seen: SeenRequest = { server, method, path, headers };
    this.requests.push(seen);
    const line = `${server} ${method} ${path}`;
    const planned = this.faults.find(({ where, times }) => times > 0 && where.test(line));
    if (planned !== undefined) planned.times--;
    const reply = new Reply(request, response, planned?.fault);
    if (planned?.fault.status !== undefined) reply.send({}, Buffer.from('fault'));
    else if (server === 'store') this.answerStore(reply, path);
    else this.answerHub(reply, path, headers.authorization);
    this.events.emit('request', seen);
  }

  private answerStore(reply: Reply, path: string): void {
    const all = [...this.repos.values()].flatMap(({ bytes }) => [...bytes.values()]);
    const file = all.find((bytes) => path === `/${sha256(bytes)}`);
    if (file === undefined) reply.refuse(404);
    else reply.send({ etag: '"of-the-store"' }, file);
  }

  private answerHub(reply: Reply, asked: string, authorization: string | undefined): void {
    const path = asked.replace(MOVED, '');
    const [, type, repo, revision] = /^\/api\/(\w+)\/([^/]+\/[^/]+)(?:\/revision\/(.+))?$/.exec(path) ?? [];
    const [, dataset, owner, commit, name] = /^\/(datasets\/)?([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(path) ?? [];
    const folder = type ?? (dataset === undefined ? 'models' : 'datasets');
    const id = `${folder}/${repo ?? owner}`;
    const isThere = [...this.repos.keys()].some((key) => key.startsWith(`${id}@`));
    const kept = this.repos.get(`${id}@${decodeURIComponent(revision ?? commit ?? 'main')}`);
    if (!isThere) reply.refuse(404, 'RepoNotFound');
    else if (kept === undefined) reply.refuse(404, 'RevisionNotFound');
    else if (kept.token !== undefined && authorization !== `Bearer ${kept.token}`) reply.refuse(401, 'RepoNotFound');
    else if (kept.isGated) reply.refuse(403, 'GatedRepo');
    else if (name === undefined) reply.send({}, Buffer.from(describe(kept)));
    else if (kept.movesSmallFiles === true && !LARGE.test(name) && asked === path) {
      reply.redirect({ 'x-repo-commit': kept.commit, location: `/api/resolve-cache${path}` });
    } else this.answerFile(reply, kept, decodeURIComponent(name));
  }

  private answerFile(reply: Reply, { commit, bytes }: KeptRepo, name: string): void {
    const file = bytes.get(name);
    const headers = { 'x-repo-commit': commit };
    if (file === undefined) reply.refuse(404, 'EntryNotFound');
    else if (LARGE.test(name)) {
      const linked = { 'x-linked-etag': `"${sha256(file)}"`, 'x-linked-size': String(file.length) };
      reply.redirect({ ...headers, ...linked, location: `${this.storeUrl}/${sha256(file)}` });
    } else reply.send({ ...headers, etag: `"${gitDigest(file)}"` }, file);
  }
}

function urlOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function describe({ repo, commit, bytes }: KeptRepo): string {
  return JSON.stringify({ id: repo, sha: commit, siblings: [...bytes.keys()].map((rfilename) => ({ rfilename })) });
}

/** One answer: ranges, and what goes wrong. */
class Reply {
  constructor(
    private readonly request: IncomingMessage,
    private readonly response: ServerResponse,
    private readonly fault: Fault = {},
  ) {}

  refuse(status: number, code?: string): void {
    this.response.writeHead(status, code === undefined ? {} : { 'x-error-code': code });
    this.response.end();
  }

  redirect(headers: Readonly<Record<string, string>>): void {
    this.response.writeHead(302, { ...headers, ...this.fault.headers });
    this.response.end();
  }

  send(headers: Readonly<Record<string, string>>, file: Uint8Array): void {
    const { status, body, hangAfter, cut } = this.fault;
    if (hangAfter === 0) return;
    const start = this.start({ ...headers, ...this.fault.headers }.etag);
    const part = file.subarray(start);
    const range = start === 0 ? {} : { 'content-range': `bytes ${start}-${file.length - 1}/${file.length}` };
    const length = { 'content-length': String(part.length) };
    this.response.writeHead(status ?? (start === 0 ? 200 : 206), {
      ...headers,
      ...length,
      ...range,
      ...this.fault.headers,
    });
    if (this.request.method === 'HEAD') this.response.end();
    else if (hangAfter === undefined) this.response.end(body ?? part);
    else this.response.write(part.subarray(0, hangAfter));
    void cut?.then(() => this.response.destroy());
  }

  /** Where the range that is asked for begins; 0 where the whole is to come. */
  private start(tag: string | undefined): number {
    const [, start] = /^bytes=(\d+)-$/.exec(this.request.headers.range ?? '') ?? [];
    const condition = this.request.headers['if-range'];
    return condition === undefined || condition === tag ? Number(start ?? 0) : 0;
  }
}
