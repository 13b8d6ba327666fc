/** What a client sees of an error: codes of the one table; faults of the server are masked and logged whole. */
import { GraphQLError, type GraphQLFormattedError, Kind } from 'graphql';
import type { Logger } from 'pino';
import { databaseErrorOf } from '../runtime/database-errors.ts';
import { type ErrorCode, type ErrorDetails, RuntimeError } from '../runtime/errors.ts';

/** The GraphQLError of one of our own errors, for where no resolver throws it. */
export function toGraphqlError(error: RuntimeError): GraphQLError {
  return new GraphQLError(error.message, { originalError: error });
}

function formatted(error: GraphQLError, message: string, code: ErrorCode, details: object): GraphQLFormattedError {
  const { locations, path } = error;
  return {
    message,
    ...(locations === undefined ? {} : { locations }),
    ...(path === undefined ? {} : { path }),
    extensions: { code, ...details },
  };
}

/** The cause below the wrappers that GraphQL and Apollo put around it. */
function causeOf(error: unknown): unknown {
  return error instanceof GraphQLError && error.originalError !== undefined ? causeOf(error.originalError) : error;
}

/**
 * Whether GraphQL blames the document: its syntax, its fields, its variables and the values of its arguments. What it
 * says of a field itself, once that is executed, is that a resolver returned what the schema's type cannot hold.
 */
function isOfDocument(cause: GraphQLError, { path }: GraphQLError): boolean {
  return path === undefined || (cause.nodes?.some(({ kind }) => kind !== Kind.FIELD) ?? false);
}

export function formatError(error: unknown, requestId: string, log: Logger): GraphQLFormattedError {
  const wrapper = error instanceof GraphQLError ? error : new GraphQLError('');
  const cause = causeOf(error);
  if (cause instanceof RuntimeError && cause.code !== 'INTERNAL_SERVER_ERROR') {
    const details: ErrorDetails = cause.details;
    return formatted(wrapper, cause.message, cause.code, details);
  }
  if (cause instanceof GraphQLError && isOfDocument(cause, wrapper)) {
    return formatted(cause, cause.message, 'BAD_USER_INPUT', {});
  }
  const unavailable = databaseErrorOf(cause);
  if (unavailable !== undefined) {
    log.warn({ err: cause, requestId }, 'database unavailable');
    return formatted(wrapper, unavailable.message, unavailable.code, unavailable.details);
  }
  log.error({ err: cause, requestId }, 'request failed');
  const message = `Something went wrong in the server; its log says what, under ${requestId}.`;
  return formatted(wrapper, message, 'INTERNAL_SERVER_ERROR', { requestId });
}
