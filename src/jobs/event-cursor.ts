/** Cursors of a run's events: the number of the last item that was told, or the end. */
import { RuntimeError } from '../runtime/errors.ts';

export interface EventCursor {
  readonly sequence: number;
  /** Whether the end was told too. */
  readonly isEnd: boolean;
}

const CURSOR = /^(\d{1,9})(:end)?$/;

export function cursorOf(sequence: number): string {
  return `${sequence}`;
}

export function cursorAfterEnd(sequence: number): string {
  return `${sequence}:end`;
}

/** Null: the beginning. Throws BAD_USER_INPUT. */
export function readEventCursor(cursor: string | null): EventCursor {
  if (cursor === null) return { sequence: 0, isEnd: false };
  const match = CURSOR.exec(cursor);
  if (match !== null) return { sequence: Number(match[1]), isEnd: match[2] !== undefined };
  const message = `Expected the cursor of an event, ${JSON.stringify(cursor.slice(0, 100))} came. Leave it out to begin with the first.`;
  throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'after' });
}

/** The refusal of a cursor that a run has not reached. */
export function cursorOfAnother(noun: string, id: string): RuntimeError {
  const message = `Expected the cursor of an event of ${noun} ${id}, one of another came. Leave it out to begin with the first.`;
  return new RuntimeError('BAD_USER_INPUT', message, { argument: 'after' });
}
