/** Requests to the hub: redirects, the token, time limits. What the answers mean is not known here. */
import { readFile } from 'node:fs/promises';
import { HubError } from './hub-error.ts';
import type { HubClock, HubSettings } from './hub-settings.ts';
import { Silence } from './silence.ts';

export interface HubRequest {
  readonly method: 'GET' | 'HEAD';
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Headers: what says where to go on and has all of them is the answer. Default: every redirect is followed. */
  readonly endsWith?: readonly string[];
  readonly signal: AbortSignal;
}

export interface HubAnswer {
  readonly status: number;
  readonly headers: Headers;
  /** Yields the body. Throws HubError where no more comes in time or the connection is lost. */
  body(): AsyncGenerator<Uint8Array>;
  /** Lets the connection go without reading the body. */
  discard(): void;
}

const MOST_REDIRECTS = 5;
const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];
/** What belongs to the hub alone, not to the stores that it sends to. */
const OWN_HEADERS = ['authorization', 'if-range'];
const LONGEST_TOKEN = 4096;

export class HubHttp {
  private readonly origin: string;

  constructor(
    private readonly settings: HubSettings,
    readonly clock: HubClock,
  ) {
    this.origin = new URL(settings.endpoint).origin;
  }

  get endpoint(): string {
    return this.settings.endpoint;
  }

  /** Whatever the status is. Rejects with the signal's reason, or with a HubError. */
  async send(request: HubRequest): Promise<HubAnswer> {
    const headers = await this.headers(request);
    let url = new URL(this.settings.endpoint + request.path);
    for (let redirects = 0; ; redirects++) {
      const silence = new Silence(this.clock, request.signal);
      try {
        const options = { method: request.method, headers, redirect: 'manual', signal: silence.signal } as const;
        const response = await fetch(url, options);
        const next = nextUrl(url, response);
        const isEnd = request.endsWith?.every((name) => response.headers.has(name)) ?? false;
        if (next === undefined || isEnd) return answerOf(response, silence, url);
        if (next.origin !== this.origin) for (const name of OWN_HEADERS) headers.delete(name);
        url = next;
      } catch (cause) {
        silence.close();
        throw silence.errorOf(cause, url);
      }
      silence.close();
      if (redirects === MOST_REDIRECTS) {
        throw new HubError('download', `Expected ${url.host} to answer, it sent on ${redirects} times before.`);
      }
    }
  }

  private async headers({ headers }: HubRequest): Promise<Headers> {
    const token = await this.token();
    // sizes and ranges count bytes as they are kept
    const own = new Headers({ 'user-agent': 'gistql', 'accept-encoding': 'identity', ...headers });
    if (token !== undefined) own.set('authorization', `Bearer ${token}`);
    return own;
  }

  private async token(): Promise<string | undefined> {
    const { token, tokenFile } = this.settings;
    const written = token ?? (await readFile(tokenFile, 'utf8').catch(() => ''));
    const trimmed = written.trim();
    if (trimmed === '') return undefined;
    if (/^[\x21-\x7e]+$/.test(trimmed) && trimmed.length <= LONGEST_TOKEN) return trimmed;
    const where = token === undefined ? tokenFile : 'HF_TOKEN';
    throw new HubError('denied', `Expected ${where} to be a token of the hub, one word; something else came.`);
  }

  async hasToken(): Promise<boolean> {
    return (await this.token()) !== undefined;
  }
}

/** Undefined: the answer is no redirect. */
function nextUrl(url: URL, { status, headers }: Response): URL | undefined {
  const location = headers.get('location');
  if (!REDIRECTS.includes(status) || location === null) return undefined;
  const next = URL.canParse(location, url.href) ? new URL(location, url) : undefined;
  // what is asked in secret is not to be answered in the open
  const isFine =
    next !== undefined && (next.protocol === 'https:' || (next.protocol === 'http:' && url.protocol === 'http:'));
  if (isFine) return next;
  throw new HubError('download', `Expected ${url.host} to send on to an address of https, another one came.`);
}

function answerOf(response: Response, silence: Silence, url: URL): HubAnswer {
  const { status, headers, body } = response;
  return {
    status,
    headers,
    async *body() {
      const reader = body?.getReader();
      try {
        for (;;) {
          const { done, value } = (await reader?.read()) ?? { done: true };
          if (done || value === undefined) return;
          silence.broken();
          yield value;
        }
      } catch (cause) {
        throw silence.errorOf(cause, url);
      } finally {
        // a body of which no more is wanted keeps no connection
        silence.close();
      }
    },
    discard: () => silence.close(),
  };
}
