/** Deltas of a sequence and the cut at stop strings. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cutAtStop } from '../../../src/runtime/tokenizer/stop-strings.ts';
import { TextStreamer } from '../../../src/runtime/tokenizer/text-streamer.ts';
import { gistMini } from '../../support/scripted-engine.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const SEED = 7;

test('text is held back while it may begin a stop string', async () => {
  const { tokenizer } = await gistMini();
  const text = 'They meet at the old cafe.';
  const ids = await tokenizer.encode(text, { addSpecialTokens: false });
  const streamer = new TextStreamer(tokenizer, ['at the new']);
  let joined = '';
  for (const id of ids) {
    joined += (await streamer.push([id]))?.text ?? '';
    assert.ok(!joined.endsWith(' at the'), joined);
  }
  assert.equal(joined + (streamer.finish(text, ids)?.text ?? ''), text);
});

test(`texts and ids of the deltas join to the final ones, with any stop strings (seed ${SEED})`, async () => {
  const { tokenizer } = await gistMini();
  const next = seededNumbers(SEED);
  const ids = await tokenizer.encode('#Person1#: They meet at the old café, then at the new one. Then they go home.');
  const whole = await tokenizer.decode(ids);
  let cutCount = 0;
  for (let round = 0; round < 200; round++) {
    const stop = Array.from({ length: 1 + Math.floor(next() * 3) }, () => {
      const start = Math.floor(next() * whole.length);
      // half of them are not in the text
      return whole.slice(start, start + 1 + Math.floor(next() * 8)) + (next() < 0.5 ? '!' : '');
    });
    const streamer = new TextStreamer(tokenizer, stop);
    const deltas = [];
    for (let start = 0; start < ids.length; ) {
      const end = start + 1 + Math.floor(next() * 4);
      deltas.push(await streamer.push(ids.slice(start, end)));
      start = end;
    }
    const final = cutAtStop(whole, stop);
    const heard = deltas.map((delta) => delta?.text ?? '').join('');
    assert.ok(final.startsWith(heard), `${JSON.stringify(heard)} before ${JSON.stringify(stop)}`);
    const all = [...deltas, streamer.finish(final, ids)];
    assert.equal(all.map((delta) => delta?.text ?? '').join(''), final, JSON.stringify(stop));
    assert.deepEqual(
      all.flatMap((delta) => delta?.tokenIds ?? []),
      ids,
    );
    if (final.length < whole.length) cutCount++;
  }
  assert.ok(cutCount > 50, `${cutCount} of 200 rounds were cut`);
});

test('the stop string that is complete first cuts, of two that end together the longer', () => {
  assert.equal(cutAtStop('xabcdy', ['abcd', 'bc']), 'xa');
  assert.equal(cutAtStop('xabcdy', ['cd', 'abcd']), 'x');
  assert.equal(cutAtStop('xabcdy', ['e']), 'xabcdy');
});
