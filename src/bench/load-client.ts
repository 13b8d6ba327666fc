/** Sends requests of the mix as clients do, and says what came back or that nothing did. */
import { type Client, type ClientOptions, createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { type Operation, operationOf } from './load-documents.ts';
import type { LoadRequest } from './load-request.ts';

export interface ReplyError {
  readonly message: string;
  readonly extensions?: { readonly code?: string; readonly argument?: string; readonly limit?: string };
}

export type StreamEvent =
  | {
      readonly __typename: 'TokensAppended';
      readonly generationId: string;
      readonly sequenceIndex: number;
      readonly text: string;
      readonly tokenIds: readonly number[];
    }
  | { readonly __typename: 'GenerationFinished'; readonly generationId: string; readonly generation: unknown };

export type Reply =
  | { readonly type: 'answer'; readonly data: Readonly<Record<string, unknown>> | null; readonly latencyMs: number }
  | {
      readonly type: 'events';
      readonly events: readonly StreamEvent[];
      readonly latencyMs: number;
      readonly firstEventMs: number;
    }
  | { readonly type: 'errors'; readonly errors: readonly ReplyError[]; readonly latencyMs: number }
  | { readonly type: 'cancelled' }
  | { readonly type: 'lost'; readonly reason: string };

/** The server's own deadline comes first where it is shorter; fetch waits 300 s for the head of an answer. */
const DEADLINE_MS = 290_000;
/** Streams that share a connection: below the server's limit of 32. */
const STREAMS_PER_CONNECTION = 8;

interface StreamPlan {
  readonly connection: Client;
  readonly operation: Operation;
  /** Absent: the stream is read to its end. */
  readonly leaving?: { readonly afterEvents: number; readonly leave: (endSubscription: () => void) => void };
}

interface AnswerBody {
  readonly data?: Readonly<Record<string, unknown>> | null;
  readonly errors?: readonly ReplyError[];
}

export class LoadClient {
  private readonly connections: readonly Client[];
  private readonly url: string;

  constructor(serverUrl: string, inFlight: number) {
    this.url = `${serverUrl}/graphql`;
    const count = Math.ceil(inFlight / STREAMS_PER_CONNECTION);
    // open for good: the streams themselves hear when a connection fails
    const shared = { lazy: false, onNonLazyError: () => {} };
    this.connections = Array.from({ length: count }, () => this.connect(shared));
  }

  /** Never rejects: what goes wrong on the way is a lost request. `slot`: who sends, from 0 to inFlight - 1. */
  send(request: LoadRequest, slot: number): Promise<Reply> {
    const operation = operationOf(request);
    if (request.type === 'leave') return this.leave(operation, request, slot);
    if (request.type === 'abort') return this.post(operation, request.afterMs);
    const streams = request.type === 'stream' || (request.type === 'refused' && request.bad.transport === 'websocket');
    return streams ? readStream({ connection: this.connectionOf(slot), operation }) : this.post(operation);
  }

  /** The whole answer to one document, without the mix around it. Rejects unless it is without errors. */
  async data(query: string): Promise<Readonly<Record<string, unknown>>> {
    const reply = await this.post({ query, variables: {} });
    if (reply.type === 'answer' && reply.data !== null) return reply.data;
    throw new Error(`Expected the answer to ${query}, ${JSON.stringify(reply)} came.`);
  }

  async close(): Promise<void> {
    await Promise.all(this.connections.map((connection) => connection.dispose()));
  }

  private connectionOf(slot: number): Client {
    return this.connections[slot % this.connections.length] as Client;
  }

  private connect(options: Partial<ClientOptions>): Client {
    return createClient({
      url: this.url.replace(/^http/, 'ws'),
      webSocketImpl: WebSocket,
      retryAttempts: 0,
      ...options,
    });
  }

  /** Aborts after `abortMs` where it is given. */
  private async post(operation: Operation, abortMs?: number): Promise<Reply> {
    const controller = new AbortController();
    const timer = setTimeout(() => controller.abort(), abortMs ?? DEADLINE_MS);
    const start = performance.now();
    try {
      const response = await fetch(this.url, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(operation),
        signal: controller.signal,
      });
      const text = await response.text();
      const latencyMs = performance.now() - start;
      const { data = null, errors } = JSON.parse(text) as AnswerBody;
      return errors === undefined ? { type: 'answer', data, latencyMs } : { type: 'errors', errors, latencyMs };
    } catch (error) {
      if (controller.signal.aborted) return abortMs === undefined ? tooLate() : { type: 'cancelled' };
      return { type: 'lost', reason: describeCause(error) };
    } finally {
      clearTimeout(timer);
    }
  }

  /** A socket that is dropped is one of its own: the others' streams go on. */
  private async leave(
    operation: Operation,
    { how, afterEvents }: Extract<LoadRequest, { type: 'leave' }>,
    slot: number,
  ): Promise<Reply> {
    if (how === 'complete') {
      const leaving = { afterEvents, leave: (endSubscription: () => void) => endSubscription() };
      return readStream({ connection: this.connectionOf(slot), operation, leaving });
    }
    let socket: WebSocket | undefined;
    const opened = (own: unknown): void => {
      socket = own as WebSocket;
    };
    const connection = this.connect({ on: { opened } });
    return readStream({ connection, operation, leaving: { afterEvents, leave: () => socket?.terminate() } });
  }
}

function tooLate(): Reply {
  return { type: 'lost', reason: `no answer within ${DEADLINE_MS / 1000} s` };
}

/** Of an error, of what fetch hides behind it, or of a socket that closed. */
function describeCause(error: unknown): string {
  if (error instanceof Error) return error.cause === undefined ? String(error) : `${error}: ${error.cause}`;
  const { code, reason } = error as { code?: unknown; reason?: unknown };
  return `the connection closed (${code} ${reason})`;
}

function readStream({ connection, operation, leaving }: StreamPlan): Promise<Reply> {
  const start = performance.now();
  const events: StreamEvent[] = [];
  const errors: ReplyError[] = [];
  let firstEventMs = 0;
  let left = false;
  let late = false;
  return new Promise((resolve) => {
    const settle = (reply: Reply): void => {
      clearTimeout(timer);
      resolve(reply);
    };
    const endSubscription = connection.subscribe<{ readonly event: StreamEvent }>(
      { ...operation },
      {
        next: (result) => {
          errors.push(...((result.errors ?? []) as readonly ReplyError[]));
          if (!result.data || left) return;
          if (events.length === 0) firstEventMs = performance.now() - start;
          const { event } = result.data;
          events.push(event);
          if (leaving === undefined || events.length < leaving.afterEvents) return;
          if (event.__typename === 'GenerationFinished') return;
          left = true;
          leaving.leave(endSubscription);
        },
        error: (cause) => {
          const latencyMs = performance.now() - start;
          if (Array.isArray(cause)) settle({ type: 'errors', errors: cause, latencyMs });
          else settle(left ? { type: 'cancelled' } : { type: 'lost', reason: describeCause(cause) });
        },
        complete: () => {
          const latencyMs = performance.now() - start;
          if (late) settle(tooLate());
          else if (errors.length > 0) settle({ type: 'errors', errors, latencyMs });
          else settle(left ? { type: 'cancelled' } : { type: 'events', events, latencyMs, firstEventMs });
        },
      },
    );
    const timer = setTimeout(() => {
      late = true;
      endSubscription();
    }, DEADLINE_MS);
  });
}
