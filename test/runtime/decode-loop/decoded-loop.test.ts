/** What a run of a decode loop gave, as strategies read it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DecodedLoop } from '../../../src/runtime/decode-loop/decoded-loop.ts';
import type { LoopRow } from '../../../src/runtime/decode-loop/loop-rows.ts';
import type { RowNeeds } from '../../../src/runtime/decoding/decoding-strategy.ts';
import type { SessionOutputs } from '../../../src/runtime/session.ts';

const needs: RowNeeds = { topCount: 2, askedIds: [], allLogits: false, orderOnly: false };
const request = {};
const rows = [
  { request, needs, history: [0, 7] },
  { request, needs, history: [0, 9] },
] as unknown as readonly LoopRow[];

/** Two steps of two rows of one request; after the first each continues the other. */
const outputs = {
  ints: (name: string) =>
    Int32Array.from(
      { tokens: [4, 5, 6, 6], parents: [1, 0, 0, 1], top_ids: [8, 3, 2, 9, 5, 1, 1, 2, 3, 4, 5, 6] }[name] ?? [],
    ),
  floats: (name: string) =>
    Float32Array.from(
      {
        log_sum_exp: [1, 2, 3, 4],
        top_logits: [5, 5, 4, 3, 3, 3, 2, 1, 0, 2, 1, 0],
        asked_logits: [0.5, 0.25, 0.125, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        new_cache: [1, 2, 3, 4],
      }[name] ?? [],
    ),
} as unknown as SessionOutputs;

const decoded = new DecodedLoop(outputs, rows, 20);

test('equals come by rising id, in whichever order the device lists them', () => {
  const ids = (row: number): number[] => Array.from(decoded.scores(0, row, needs)?.topIds ?? []);
  assert.deepEqual(ids(0), [3, 8, 2]);
  assert.deepEqual(ids(1), [1, 5, 9]);
});

test('a run that did not come so far, or did not list enough, says so', () => {
  assert.equal(decoded.scores(2, 0, needs), undefined);
  assert.equal(decoded.scores(0, 0, { ...needs, topCount: 4 }), undefined);
  assert.equal(decoded.scores(1, 1, needs)?.logSumExp, 4);
});

test('who continues a row, with which token', () => {
  assert.equal(decoded.successor(0, 1, 4, new Set()), 0);
  assert.equal(decoded.successor(0, 0, 4, new Set()), undefined);
  assert.equal(decoded.successor(0, 0, 5, new Set([1])), undefined);
  assert.equal(decoded.successor(1, 0, 6, new Set()), undefined);
});

test('logits that are asked for are found by the history that led to a row', () => {
  // row 0 of the second step has read 0, 9 and the 4 that was chosen for it
  assert.deepEqual(decoded.scores(1, 0, { ...needs, askedIds: [4, 0, 9] })?.askedLogits, [6, 4, 5]);
  assert.equal(decoded.scores(1, 0, { ...needs, askedIds: [7] }), undefined);
});
