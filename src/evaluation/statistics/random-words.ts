/**
 * Random 32-bit words for resampling: xoshiro128** 1.1 (Blackman, Vigna 2021, https://doi.org/10.1145/3460772).
 * Sampling's `uniform` is a function of a place, a microsecond a draw; a bootstrap draws tens of millions of numbers in
 * a row. Here it only makes the first state, as the authors advise (SplitMix64).
 */
import { uniform } from '../../runtime/decoding/random.ts';

/** What the words are for: equal seeds of two purposes have nothing in common. */
export type RandomPurpose = 'resamples' | 'signs';

const STREAMS: Readonly<Record<RandomPurpose, number>> = { resamples: 0, signs: 1 };

/** Words of 32 random bits; equal seeds give equal words. */
export class RandomWords {
  private a: number;
  private b: number;
  private c: number;
  private d: number;

  constructor(seed: number, purpose: RandomPurpose) {
    // signed words: V8 keeps them in the object, unsigned ones above 2^31 each in an object of their own
    const word = (step: number): number => (uniform(seed, STREAMS[purpose], step) * 2 ** 32) | 0;
    [this.a, this.b, this.c, this.d] = [word(0), word(1), word(2), word(3)];
  }

  /** Returns an integer from 0 to 2^32 - 1. */
  next(): number {
    const { a, b, c, d } = this;
    const scaled = Math.imul(b, 5);
    const result = Math.imul((scaled << 7) | (scaled >>> 25), 9) >>> 0;
    const nextC = c ^ a;
    const nextD = d ^ b;
    this.b = b ^ nextC;
    this.a = a ^ nextD;
    this.c = nextC ^ (b << 9);
    this.d = (nextD << 11) | (nextD >>> 21);
    return result;
  }
}
