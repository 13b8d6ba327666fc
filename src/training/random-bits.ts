/**
 * Random bits of trainings, each a pure function of its place: a run that is taken up again draws what it would have
 * drawn. `uniform` of sampling is exact to 53 bits and slow; dropout needs millions of draws a step.
 */
import { uniform } from '../runtime/decoding/random.ts';

/** What draws are for: those of one purpose tell nothing of another's. */
export type Purpose = 'shuffle' | 'initial factors' | 'dropout';

const PURPOSES: Readonly<Record<Purpose, number>> = { shuffle: 1, 'initial factors': 2, dropout: 3 };
/** More than there are streams of one purpose. */
const STREAMS = 2 ** 40;
const WORD = 2 ** 32;
/** Bits of a draw of `uniform` below the upper word of a key. */
const LOWER_BITS = 2 ** 21;

/** A number in [0, 1) with 53 bits. `stream` and `place` count from 0. */
export function draw(seed: number, purpose: Purpose, stream: number, place: number): number {
  return uniform(seed, PURPOSES[purpose] * STREAMS + stream, place);
}

/** The finalizer of MurmurHash3 (Appleby 2011): every bit of the input changes every bit of the output. */
function mix(value: number): number {
  let word = value;
  word = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35);
  return word ^ (word >>> 16);
}

/** `length` words of 32 random bits each. */
export function randomWords(
  seed: number,
  purpose: Purpose,
  { stream, place, length }: { readonly stream: number; readonly place: number; readonly length: number },
): Uint32Array {
  const key = draw(seed, purpose, stream, place) * WORD;
  const upper = Math.floor(key);
  const lower = Math.floor((key - upper) * LOWER_BITS);
  const words = new Uint32Array(length);
  for (let index = 0; index < length; index++) words[index] = mix(mix(index ^ upper) + lower);
  return words;
}
