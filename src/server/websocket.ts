/** GraphQL over WebSocket: the graphql-transport-ws protocol on the HTTP server's own port and path. */
import type { Server } from 'node:http';
import {
  type DocumentNode,
  type ExecutionArgs,
  GraphQLError,
  getOperationAST,
  type OperationDefinitionNode,
  OperationTypeNode,
  parse,
  specifiedRules,
  subscribe,
  validate,
} from 'graphql';
import type { SubscribePayload } from 'graphql-ws';
import { useServer } from 'graphql-ws/use/ws';
import type { Logger } from 'pino';
import { WebSocketServer } from 'ws';
import type { Limits } from '../config.ts';
import type { Context } from '../context.ts';
import { WorkTurns } from '../evaluation/work.ts';
import { formatError, toGraphqlError } from '../resolvers/format-error.ts';
import { RuntimeError } from '../runtime/errors.ts';
import { RETRY_MS } from '../runtime/retry.ts';
import type { OperationRunner } from './execute-operation.ts';
import type { InFlight } from './in-flight.ts';
import { MAX_DOCUMENT_LEXEMES } from './limits.ts';

export interface WebsocketOptions {
  readonly server: Server;
  readonly runner: OperationRunner;
  readonly limits: Limits;
  readonly createContext: (signal: AbortSignal) => Context;
  readonly isDraining: () => boolean;
  readonly inFlight: InFlight;
  readonly log: Logger;
}

interface Connection {
  /** Aborted when the socket closed. */
  readonly leaving: AbortController;
  /** By operation id: what counts it off. */
  readonly running: Map<string, () => void>;
}

function tooManySubscriptions(most: number): GraphQLError {
  const message = `Expected at most ${most} subscriptions on one connection, one more came. End one first.`;
  return toGraphqlError(
    new RuntimeError('OVERLOADED', message, { limit: 'GISTQL_MAX_SUBSCRIPTIONS', retryAfterMs: RETRY_MS }),
  );
}

function stopping(): GraphQLError {
  const message = 'Expected a server in service, it is stopping. Subscribe again elsewhere.';
  return toGraphqlError(new RuntimeError('OVERLOADED', message, { retryAfterMs: RETRY_MS }));
}

/** The parsed, valid document of a message, or the errors in it. */
function readDocument(
  payload: SubscribePayload,
  runner: OperationRunner,
): { readonly document: DocumentNode; readonly operation: OperationDefinitionNode } | readonly GraphQLError[] {
  try {
    const document = parse(payload.query, { maxTokens: MAX_DOCUMENT_LEXEMES });
    const errors = validate(runner.schema, document, specifiedRules);
    if (errors.length > 0) return errors;
    const operation = getOperationAST(document, payload.operationName ?? undefined);
    if (operation) return { document, operation };
    return [new GraphQLError('Expected the name of one operation of the document.')];
  } catch (error) {
    if (error instanceof GraphQLError) return [error];
    throw error;
  }
}

/** Starts to serve WebSockets; the returned function ends all connections. */
export function serveWebsocket(options: WebsocketOptions): () => Promise<void> {
  const { server, runner, limits, createContext, isDraining, inFlight, log } = options;
  const sockets = new WebSocketServer({ server, path: '/graphql', maxPayload: limits.maxBodyBytes });
  const connections = new WeakMap<object, Connection>();
  const turns = new WorkTurns();
  const format = (errors: readonly GraphQLError[], requestId: string) =>
    errors.map((error) => formatError(error, requestId, log));
  const cleanup = useServer(
    {
      onConnect: (connection) => {
        connections.set(connection.extra.socket, { leaving: new AbortController(), running: new Map() });
      },
      onClose: ({ extra }) => {
        const connection = connections.get(extra.socket);
        connection?.leaving.abort();
        for (const end of connection?.running.values() ?? []) end();
      },
      onComplete: ({ extra }, id) => {
        const running = connections.get(extra.socket)?.running;
        running?.get(id)?.();
        running?.delete(id);
      },
      onSubscribe: async (connection, id, payload) => {
        // the new one is counted already
        if (Object.keys(connection.subscriptions).length > limits.maxSubscriptions) {
          return [tooManySubscriptions(limits.maxSubscriptions)];
        }
        // many that subscribe at once hold the event loop no longer than one
        await turns.next();
        if (isDraining()) return [stopping()];
        const read = readDocument(payload, runner);
        if (!('document' in read)) return read;
        const variables = payload.variables ?? {};
        const own = connections.get(connection.extra.socket);
        const context = createContext(own?.leaving.signal ?? AbortSignal.abort());
        const refusal = runner.refusal({ ...read, variables, context });
        if (refusal !== undefined) return [refusal];
        // who ended it meanwhile may have used its id again
        own?.running.get(id)?.();
        own?.running.set(id, inFlight.begin());
        return {
          schema: runner.schema,
          document: read.document,
          operationName: payload.operationName ?? null,
          variableValues: variables,
          contextValue: context,
        };
      },
      execute: (args) => executeHere(args as ExecutionArgs, runner),
      subscribe: (args) => subscribe(args as ExecutionArgs),
      onNext: (_connection, _id, _payload, args, result) => {
        const { data = null, errors } = result;
        if (errors === undefined) return;
        return { data, errors: format(errors, (args.contextValue as Context).requestId) };
      },
      onError: (_connection, id, _payload, errors) => format(errors as readonly GraphQLError[], id),
    },
    sockets,
  );
  return async () => {
    await cleanup.dispose();
  };
}

function executeHere(args: ExecutionArgs, runner: OperationRunner) {
  const operation = getOperationAST(args.document, args.operationName ?? undefined);
  if (operation?.operation === OperationTypeNode.SUBSCRIPTION || !operation) {
    throw new Error('execute is given queries and mutations');
  }
  const { document, variableValues, contextValue } = args;
  return runner.execute({ document, operation, variables: variableValues ?? {}, context: contextValue as Context });
}
