/** What ends a sequence is what is in its text. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type FinishReason, StoppingCriteria } from '../../../src/runtime/decoding/stopping-criteria.ts';
import type { HuggingFaceTokenizer } from '../../../src/runtime/tokenizer/hugging-face-tokenizer.ts';
import { cutAtStop } from '../../../src/runtime/tokenizer/stop-strings.ts';
import { TextStreamer } from '../../../src/runtime/tokenizer/text-streamer.ts';
import { TextTail } from '../../../src/runtime/tokenizer/text-tail.ts';
import { openTokenizer } from '../../support/open-tokenizer.ts';
import { gistMini } from '../../support/scripted-engine.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';
import { smallTokenizers, writeTokenizer } from '../../support/small-tokenizers.ts';

const SEED = 20261125;
const END = 1;

interface Ended {
  /** The tokens up to the one that ended the sequence. */
  readonly ids: readonly number[];
  readonly finishReason: FinishReason;
}

/** Takes the ids one by one, as an engine chooses them, until they end. */
function run(tokenizer: HuggingFaceTokenizer, ids: readonly number[], stop: readonly string[]): Ended {
  const tail = new TextTail(tokenizer.vocabulary);
  const criteria = new StoppingCriteria({
    eosTokenIds: [END],
    maxNewTokens: ids.length,
    stop,
    endOfText: (sofar, length) => tail.of(sofar, length),
  });
  for (let count = 1; ; count++) {
    const sofar = ids.slice(0, count);
    const finishReason = criteria.finishReason(sofar);
    if (finishReason !== undefined) return { ids: sofar, finishReason };
  }
}

/** The deltas of the sequence as it comes, joined. */
async function stream(tokenizer: HuggingFaceTokenizer, { ids }: Ended, stop: readonly string[]): Promise<string> {
  const streamer = new TextStreamer(tokenizer, stop);
  let joined = '';
  for (const id of ids) joined += (await streamer.push([id]))?.text ?? '';
  return joined + (streamer.finish(cutAtStop(await tokenizer.decode(ids), stop), ids)?.text ?? '');
}

/** A few characters of the text that the ids would have, often with a space before or a character changed. */
function stopStringsOf(text: string, next: () => number): readonly string[] {
  return Array.from({ length: 1 + Math.floor(next() * 2) }, () => {
    const start = next() < 0.3 ? 0 : Math.floor(next() * text.length);
    const word = text.slice(start, start + 1 + Math.floor(next() * 5));
    const changed = next() < 0.2 ? word.replace(/.$/u, 'x') : word;
    return (next() < 0.4 ? ' ' : '') + changed || ' ';
  });
}

async function expectAgreement(tokenizer: HuggingFaceTokenizer, rounds: number): Promise<void> {
  const next = seededNumbers(SEED);
  const seen: Record<string, number> = {};
  for (let round = 0; round < rounds; round++) {
    // the end token now and then
    const all = Array.from({ length: 14 }, () => Math.floor(next() * tokenizer.vocabularySize) || 2);
    const stop = stopStringsOf(await tokenizer.decode(all), next);
    const ended = run(tokenizer, all, stop);
    const about = `${JSON.stringify(stop)} in ${JSON.stringify(all)}`;
    const whole = await tokenizer.decode(ended.ids);
    const holds = stop.some((word) => whole.includes(word));
    assert.equal(ended.finishReason, holds || ended.ids.at(-1) === END ? 'stop' : 'length', about);
    const before = await tokenizer.decode(ended.ids.slice(0, -1));
    assert.ok(!stop.some((word) => before.includes(word)), `it ends at the first token that can end it: ${about}`);
    const text = cutAtStop(whole, stop);
    assert.ok(!stop.some((word) => text.includes(word)), about);
    assert.ok(!holds || stop.some((word) => whole.startsWith(text + word)), about);
    assert.equal(await stream(tokenizer, ended, stop), text, about);
    const kind = holds ? 'stop string' : ended.finishReason;
    seen[kind] = (seen[kind] ?? 0) + 1;
  }
  assert.ok((seen['stop string'] ?? 0) > rounds / 10 && (seen.length ?? 0) > rounds / 50, JSON.stringify(seen));
}

for (const [name, content] of Object.entries(smallTokenizers)) {
  test(`${name}: a sequence stops exactly where its text has a stop string (seed ${SEED})`, async () =>
    expectAgreement(await openTokenizer(await writeTokenizer(content)), 1000));
}

test('gist-mini: the space that the text begins without is no part of a stop string', async () => {
  const { tokenizer } = await gistMini();
  const ids = await tokenizer.encode('Hello there, Hello again', { addSpecialTokens: false });
  const first = (await tokenizer.encode('Hello', { addSpecialTokens: false })).length;
  assert.equal(tokenizer.pieceText(ids[0] ?? 0)[0], ' ');
  assert.deepEqual(run(tokenizer, ids, ['Hello']), { ids: ids.slice(0, first), finishReason: 'stop' });
  const second = run(tokenizer, ids, [' Hello']);
  assert.equal(cutAtStop(await tokenizer.decode(second.ids), [' Hello']), 'Hello there,');
  const none = run(tokenizer, ids.slice(0, first), [' Hello']);
  assert.deepEqual(none, { ids: ids.slice(0, first), finishReason: 'length' });
});

test('a stop string whose characters are spread over byte tokens stops at the last byte', async () => {
  const tokenizer = await openTokenizer(await writeTokenizer(smallTokenizers["GPT-2's bytes"]));
  const byPiece = new Map(tokenizer.vocabulary.pieces.map((piece, id) => [piece, id]));
  const idsOf = (...pieces: readonly string[]) => pieces.map((piece) => byPiece.get(piece) ?? -1);
  // caté你 cat
  const ids = idsOf('cat', 'Ã', '©', 'ä', '½łĠ', 'cat');
  assert.equal(await tokenizer.decode(ids), 'caté你 cat');
  assert.deepEqual(run(tokenizer, ids, ['é你']), { ids: ids.slice(0, 5), finishReason: 'stop' });
  assert.deepEqual(run(tokenizer, ids, ['té']), { ids: ids.slice(0, 3), finishReason: 'stop' });
  assert.deepEqual(run(tokenizer, ids, ['你c']).finishReason, 'length');
});
