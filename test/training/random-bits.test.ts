/** Random bits of trainings: functions of their places, evenly spread, and unrelated between streams. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { draw, randomWords } from '../../src/training/random-bits.ts';

const LENGTH = 40_000;
const at = { stream: 3, place: 7, length: LENGTH };

/** Share of the places of which `hit` says yes. */
function shareOf(words: Uint32Array, hit: (word: number, place: number) => boolean): number {
  return words.reduce((count, word, place) => count + (hit(word, place) ? 1 : 0), 0) / words.length;
}

/** Six standard deviations of a share of so many draws. */
const ROOM = (6 * 0.5) / Math.sqrt(LENGTH);

test('the same place has the same words, whatever length is asked for', () => {
  const words = randomWords(1, 'dropout', at);
  assert.deepEqual(randomWords(1, 'dropout', { ...at, length: 100 }), words.slice(0, 100));
});

test('every bit is set in half of the words', () => {
  const words = randomWords(1, 'dropout', at);
  for (let bit = 0; bit < 32; bit++) {
    const share = shareOf(words, (word) => ((word >>> bit) & 1) === 1);
    assert.ok(Math.abs(share - 0.5) < ROOM, `bit ${bit} is set in ${share}`);
  }
});

test('seeds, purposes, streams and places, and neighbours in one stream, agree in half of their bits', () => {
  const words = randomWords(1, 'dropout', at);
  const others = [
    randomWords(2, 'dropout', at),
    randomWords(1, 'initial factors', at),
    randomWords(1, 'dropout', { ...at, stream: 4 }),
    randomWords(1, 'dropout', { ...at, place: 8 }),
    Uint32Array.from(words, (_, place) => words[(place + 1) % LENGTH] as number),
  ];
  for (const [index, other] of others.entries()) {
    const share = shareOf(words, (word, place) => (((word ^ (other[place] as number)) >>> 9) & 1) === 0);
    assert.ok(Math.abs(share - 0.5) < ROOM, `${index}: ${share} of the bits agree`);
  }
});

test('draws are in [0, 1), half of them below a half', () => {
  const draws = Array.from({ length: 4000 }, (_, place) => draw(5, 'shuffle', 0, place));
  assert.ok(draws.every((value) => value >= 0 && value < 1));
  assert.ok(Math.abs(draws.filter((value) => value < 0.5).length / draws.length - 0.5) < 0.05);
});
