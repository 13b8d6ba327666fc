/** A whole server on a free port with the embedded model, and a typed client for it. */
import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TypedDocumentNode } from '@graphql-typed-document-node/core';
import { print } from 'graphql';
import { createClient, type FormattedExecutionResult } from 'graphql-ws';
import { WebSocket } from 'ws';
import { readConfig } from '../../src/config.ts';
import type { StepTrace } from '../../src/runtime/engine/step-plan.ts';
import { startServer } from '../../src/server.ts';
import type { ServiceHooks } from '../../src/services.ts';
import type { Cleanup } from './cleanup.ts';

export interface PublicError {
  readonly message: string;
  readonly path?: readonly (string | number)[];
  readonly extensions: {
    readonly code: string;
    readonly argument?: string;
    readonly variant?: string;
    readonly limit?: string;
    readonly retryAfterMs?: number;
    readonly requestId?: string;
  };
}

export interface Answer<Data> {
  readonly status: number;
  readonly data: Data | null;
  readonly errors: readonly PublicError[];
}

export class TestServer {
  readonly traces: StepTrace[] = [];

  constructor(
    readonly url: string,
    readonly close: () => Promise<void>,
  ) {}

  /** Posts text as a document. */
  async post<Data>(query: string, variables: unknown = {}, signal?: AbortSignal): Promise<Answer<Data>> {
    const response = await fetch(`${this.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query, variables }),
      ...(signal === undefined ? {} : { signal }),
    });
    const { data = null, errors = [] } = (await response.json()) as Partial<Answer<Data>>;
    return { status: response.status, data, errors };
  }

  /** Sends a typed operation; its errors are the caller's to look at. */
  ask<Data, Variables>(document: TypedDocumentNode<Data, Variables>, variables: Variables): Promise<Answer<Data>> {
    return this.post<Data>(print(document), variables);
  }

  /** The data of a typed operation that must not fail. */
  async data<Data, Variables>(document: TypedDocumentNode<Data, Variables>, variables: Variables): Promise<Data> {
    const { data, errors } = await this.ask(document, variables);
    if (data === null || errors.length > 0) throw new Error(JSON.stringify(errors));
    return data;
  }

  /** A connection of its own; the subscriptions of it share one socket. */
  connect(): TestConnection {
    return new TestConnection(this.url.replace(/^http/, 'ws'));
  }
}

export class TestConnection {
  private readonly client;

  constructor(url: string) {
    this.client = createClient({ url: `${url}/graphql`, webSocketImpl: WebSocket, retryAttempts: 0 });
  }

  subscribe<Data, Variables>(
    document: TypedDocumentNode<Data, Variables>,
    variables: Variables,
  ): AsyncIterableIterator<FormattedExecutionResult<Data, unknown>> {
    const query = print(document);
    return this.client.iterate<Data>({ query, variables: variables as Record<string, unknown> });
  }

  async close(): Promise<void> {
    await this.client.dispose();
  }

  /** Drops the socket without a word. */
  terminate(): void {
    this.client.terminate();
  }
}

/** Starts a server for one test file; `environment` overrides settings. */
export async function startTestServer(
  t: Cleanup,
  environment: Readonly<Record<string, string>> = {},
  hooks: ServiceHooks = {},
): Promise<TestServer> {
  const traces: StepTrace[] = [];
  // not made before something is written to it
  const dataDir = join(tmpdir(), `gistql-data-${randomUUID()}`);
  const config = readConfig({
    PORT: '0',
    GISTQL_LOG_LEVEL: 'silent',
    GISTQL_THREADS: '2',
    GISTQL_DEVICE: 'cpu',
    GISTQL_DATA_DIR: dataDir,
    ...environment,
  });
  const running = await startServer(config, { onStep: (trace) => traces.push(trace), ...hooks });
  const server = new TestServer(running.url, () => running.close());
  t.after(async () => {
    await running.close();
    await rm(dataDir, { recursive: true, force: true });
  });
  return Object.assign(server, { traces });
}
