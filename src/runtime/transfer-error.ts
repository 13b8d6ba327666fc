/** Carries errors between threads: structured clone keeps neither their class nor their code. */
import { type ErrorCode, type ErrorDetails, RuntimeError } from './errors.ts';

/** A RuntimeError as plain data. */
export interface TransferredError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly details: ErrorDetails;
  readonly stack: string | undefined;
}

export function toTransfer(error: unknown): TransferredError {
  if (error instanceof RuntimeError) {
    return { code: error.code, message: error.message, details: error.details, stack: error.stack };
  }
  const { message, stack } = error instanceof Error ? error : { message: String(error), stack: undefined };
  return { code: 'INTERNAL_SERVER_ERROR', message, details: {}, stack };
}

export function fromTransfer({ code, message, details, stack }: TransferredError): RuntimeError {
  const error = new RuntimeError(code, message, details);
  if (stack !== undefined) error.stack = stack;
  return error;
}
