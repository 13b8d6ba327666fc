import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RandomWords } from '../../../src/evaluation/statistics/random-words.ts';
import { uniform } from '../../../src/runtime/decoding/random.ts';

const MASK = 0xffffffffn;

function rotated(word: bigint, by: bigint): bigint {
  return ((word << by) | (word >> (32n - by))) & MASK;
}

/** xoshiro128** as its authors write it, in whole numbers without a bound. */
function* plainWords(seed: number, stream: number): Generator<number> {
  const s = [0, 1, 2, 3].map((step) => BigInt(Math.floor(uniform(seed, stream, step) * 2 ** 32)));
  let [a, b, c, d] = s as [bigint, bigint, bigint, bigint];
  for (;;) {
    yield Number((rotated((b * 5n) & MASK, 7n) * 9n) & MASK);
    const t = (b << 9n) & MASK;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = rotated(d, 11n);
  }
}

test('the words are those of the plain generator', () => {
  for (const seed of [0, 1, 2 ** 31, Number.MAX_SAFE_INTEGER]) {
    for (const [stream, purpose] of (['resamples', 'signs'] as const).entries()) {
      const words = new RandomWords(seed, purpose);
      let count = 0;
      for (const expected of plainWords(seed, stream)) {
        assert.equal(words.next(), expected, `seed ${seed}, ${purpose}, word ${count}`);
        if (++count === 200) break;
      }
    }
  }
});

test('every bit is set in half of the words', () => {
  const words = new RandomWords(7, 'signs');
  const counts = new Array<number>(32).fill(0);
  const total = 20_000;
  for (let draw = 0; draw < total; draw++) {
    const word = words.next();
    for (let bit = 0; bit < 32; bit++) counts[bit] = (counts[bit] ?? 0) + ((word >>> bit) & 1);
  }
  // five standard errors
  for (const [bit, count] of counts.entries()) {
    assert.ok(Math.abs(count - total / 2) < 2.5 * Math.sqrt(total), `bit ${bit}: ${count} of ${total}`);
  }
});
