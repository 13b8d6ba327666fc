/** The samples of a run as a file: GET /evaluations/ID/samples.jsonl, or .csv. While the run goes on, those it has. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Context } from '../context.ts';
import { exportExtensions, findExportFormat } from '../evaluation/sample-export.ts';
import { databaseErrorOf } from '../runtime/database-errors.ts';
import { type ErrorCode, RuntimeError } from '../runtime/errors.ts';
import type { InFlight } from './in-flight.ts';
import { sendError, sendStopping } from './send-error.ts';

export interface ExportOptions {
  readonly createContext: (signal: AbortSignal) => Context;
  /** Set while the server stops: new requests are refused. */
  readonly isDraining: () => boolean;
  readonly inFlight: InFlight;
}

const FOLDER = '/evaluations/';
const PATH = /^\/evaluations\/([^/]+)\/samples\.([^/.]+)$/;
/** A client that has taken nothing for so long is left, so that it keeps no server from stopping. */
const STALL_MS = 60_000;
const STATUSES: Partial<Record<ErrorCode, number>> = { NOT_FOUND: 404, DATABASE_UNAVAILABLE: 503, OVERLOADED: 503 };

export function isExportPath(pathname: string): boolean {
  return pathname.startsWith(FOLDER);
}

/** Rejects with what is no error of the client's, or of the database's being elsewhere. */
export async function sendExport(
  request: IncomingMessage,
  response: ServerResponse,
  pathname: string,
  options: ExportOptions,
): Promise<void> {
  if (options.isDraining()) return sendStopping(response);
  const [, id = '', extension = ''] = PATH.exec(pathname) ?? [];
  const format = findExportFormat(extension);
  if (format === undefined) {
    const files = exportExtensions.map((name) => `${FOLDER}ID/samples.${name}`).join(' or ');
    return sendError(response, 404, { message: `Expected ${files}, ${pathname} came.`, code: 'NOT_FOUND' });
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD');
    return sendError(response, 405, { message: `Expected GET, ${request.method} came.`, code: 'BAD_USER_INPUT' });
  }
  const leaving = new AbortController();
  response.on('close', () => leaving.abort());
  const end = options.inFlight.begin();
  try {
    const evaluations = await options.createContext(leaving.signal).services.evaluations.open();
    const evaluation = await evaluations.find(id);
    response.writeHead(200, {
      'content-type': format.contentType,
      'content-disposition': `attachment; filename="evaluation-${evaluation.id}.${extension}"`,
      'cache-control': 'no-cache',
      'x-content-type-options': 'nosniff',
    });
    if (request.method === 'HEAD') response.end();
    else await stream(format.write(evaluations.allSamples(evaluation.id)), response, STALL_MS);
  } catch (cause) {
    const error = databaseErrorOf(cause) ?? cause;
    const status = error instanceof RuntimeError ? STATUSES[error.code] : undefined;
    // behind the head there is no other way to say it than to break off
    if (response.headersSent || status === undefined) throw cause;
    const { message, code, details } = error as RuntimeError;
    sendError(response, status, { message, code, details });
  } finally {
    end();
  }
}

/** Makes a chunk when the client has taken those before it; ends the making when it leaves, or takes nothing for long. */
export async function stream(chunks: AsyncIterable<string>, response: ServerResponse, stallMs: number): Promise<void> {
  response.setTimeout(stallMs, () => response.destroy());
  try {
    await pipeline(Readable.from(chunks), response);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error;
  }
}
