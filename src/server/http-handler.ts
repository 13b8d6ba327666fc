/** HTTP requests to Apollo and back, exports, health checks, and the GraphiQL page. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type ApolloServer, HeaderMap } from '@apollo/server';
import type { Context } from '../context.ts';
import { type ExportOptions, isExportPath, sendExport } from './evaluation-export.ts';
import { sendGraphiqlAsset, sendGraphiqlPage } from './graphiql.ts';
import { sendError, sendStopping } from './send-error.ts';

export interface HttpOptions extends ExportOptions {
  readonly apollo: ApolloServer<Context>;
  readonly maxBodyBytes: number;
  /** Why a summary could not be made now; undefined when it could. */
  readonly notReady: () => string | undefined;
}

/** The whole body; undefined when it has more than `most` bytes. */
async function readBody(request: IncomingMessage, most: number): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    // the rest is read and dropped, so that the client gets to read the answer
    if (size <= most) chunks.push(chunk);
  }
  return size <= most ? Buffer.concat(chunks).toString('utf8') : undefined;
}

function parseBody(text: string): unknown {
  try {
    return text === '' ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function handleGraphql(request: IncomingMessage, response: ServerResponse, options: HttpOptions): Promise<void> {
  const { apollo, createContext, maxBodyBytes, isDraining } = options;
  if (isDraining()) return sendStopping(response);
  const leaving = new AbortController();
  const end = options.inFlight.begin();
  response.on('close', () => {
    leaving.abort();
    end();
  });
  const body = await readBody(request, maxBodyBytes);
  if (body === undefined) {
    const message = `Expected a body of at most ${maxBodyBytes} bytes, a larger one came.`;
    const details = { limit: 'GISTQL_MAX_BODY_BYTES' };
    return sendError(response, 413, { message, code: 'QUERY_TOO_COSTLY', details });
  }
  const headers = new HeaderMap();
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(', ') : value);
  }
  const answer = await apollo.executeHTTPGraphQLRequest({
    httpGraphQLRequest: {
      method: (request.method ?? 'GET').toUpperCase(),
      headers,
      search: new URL(request.url ?? '/', 'http://localhost').search,
      body: parseBody(body),
    },
    context: async () => createContext(leaving.signal),
  });
  response.writeHead(answer.status ?? 200, Object.fromEntries(answer.headers));
  if (answer.body.kind === 'complete') {
    response.end(answer.body.string);
    return;
  }
  for await (const chunk of answer.body.asyncIterator) response.write(chunk);
  response.end();
}

function sendHealth(response: ServerResponse, problem: string | undefined): void {
  response.writeHead(problem === undefined ? 200 : 503, { 'content-type': 'application/json' });
  response.end(JSON.stringify(problem === undefined ? { status: 'ok' } : { status: 'unavailable', reason: problem }));
}

/** Answers one HTTP request. */
export async function handleHttp(
  request: IncomingMessage,
  response: ServerResponse,
  options: HttpOptions,
): Promise<void> {
  const { pathname, search } = new URL(request.url ?? '/', 'http://localhost');
  if (pathname === '/health/live') return sendHealth(response, undefined);
  if (pathname === '/health/ready') return sendHealth(response, options.notReady());
  if (request.method === 'GET' && (await sendGraphiqlAsset(pathname, response))) return;
  if (isExportPath(pathname)) return sendExport(request, response, pathname, options);
  if (pathname !== '/graphql') {
    return sendError(response, 404, { message: `Expected /graphql, ${pathname} came.`, code: 'NOT_FOUND' });
  }
  const wantsPage = request.method === 'GET' && search === '' && request.headers.accept?.includes('text/html');
  if (wantsPage) return sendGraphiqlPage(response);
  return handleGraphql(request, response, options);
}
