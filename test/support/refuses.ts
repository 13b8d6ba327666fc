/** What a refusal must be: one of our codes, and a message that says what was expected and what came, at some length. */
import assert from 'node:assert/strict';
import { type ErrorCode, RuntimeError } from '../../src/runtime/errors.ts';

const LONGEST_MESSAGE = 1200;

export function refuses(code: ErrorCode, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof RuntimeError, `${error instanceof Error ? error.stack : error}`);
    assert.match(error.message, message);
    assert.equal(error.code, code);
    assert.match(error.message, /[Ee]xpected/);
    assert.ok(error.message.length < LONGEST_MESSAGE, `a message of ${error.message.length} characters`);
    return true;
  };
}
