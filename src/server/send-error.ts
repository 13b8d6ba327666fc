/** Errors of HTTP requests that GraphQL does not answer, in the form of its errors. */
import type { ServerResponse } from 'node:http';
import type { ErrorCode, ErrorDetails } from '../runtime/errors.ts';
import { RETRY_MS } from '../runtime/retry.ts';

interface SentError {
  readonly message: string;
  readonly code: ErrorCode;
  readonly details?: ErrorDetails;
}

export function sendError(response: ServerResponse, status: number, { message, code, details = {} }: SentError): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ errors: [{ message, extensions: { code, ...details } }] }));
}

export function sendStopping(response: ServerResponse): void {
  const message = 'Expected a server in service, it is stopping. Send it again.';
  sendError(response, 503, { message, code: 'OVERLOADED', details: { retryAfterMs: RETRY_MS } });
}
