/**
 * Paired randomization test of a mean difference, two-sided (Fisher 1935; Noreen 1989; for ROUGE and the like: Riezler,
 * Maxwell 2005, https://aclanthology.org/W05-0908/). If neither of two variants is better, each difference is as likely
 * to have the other sign. p is the share of sign patterns whose |Σ ±d| is at least the observed |Σ d|: over all
 * patterns where they are few, else over N random ones as (c + 1) / (N + 1), never 0.
 */
import type { Work, WorkMeter } from '../work.ts';
import { RandomWords } from './random-words.ts';

export interface RandomizationSettings {
  readonly seed: number;
  readonly flipCount: number;
}

export interface RandomizationTest {
  readonly pValue: number;
  /** How many sign patterns it is based on. */
  readonly patternCount: number;
  /** Whether these are all there are. */
  readonly exact: boolean;
}

export interface Outcomes {
  readonly wins: number;
  readonly losses: number;
  readonly ties: number;
}

/** Differences other than 0 up to which all patterns are tried: 16,384. */
const EXACT_DIFFERENCES = 14;

/** Sums that differ by less are equal: the same differences added in another order. */
const SLACK = 1e-9;

/** Differences in a block, whose signs are a byte, and sign patterns of a block. */
const BLOCK = 8;
const BLOCK_PATTERNS = 256;

/** How many differences are above, below and equal to 0. */
export function countOutcomes(differences: Float64Array): Outcomes {
  let [wins, losses] = [0, 0];
  for (const difference of differences) {
    if (difference > 0) wins++;
    else if (difference < 0) losses++;
  }
  return { wins, losses, ties: differences.length - wins - losses };
}

/** Sums of each block under each sign pattern, [block, pattern]; a set bit is a plus. */
function* blockSums(differences: Float64Array, meter: WorkMeter): Work<Float64Array> {
  const sums = new Float64Array(Math.ceil(differences.length / BLOCK) * BLOCK_PATTERNS);
  for (let start = 0; start < differences.length; start += BLOCK) {
    const block = differences.subarray(start, start + BLOCK);
    const first = (start / BLOCK) * BLOCK_PATTERNS;
    sums[first] = -block.reduce((sum, difference) => sum + difference, 0);
    for (let pattern = 1; pattern < BLOCK_PATTERNS; pattern++) {
      const lowest = 31 - Math.clz32(pattern & -pattern);
      const without = sums[first + (pattern & (pattern - 1))] as number;
      sums[first + pattern] = without + 2 * (block[lowest] ?? 0);
    }
    if (meter.spend(2 * BLOCK_PATTERNS)) yield;
  }
  return sums;
}

function sumUnder(signs: Uint8Array, sums: Float64Array): number {
  let sum = 0;
  for (let block = 0; block < signs.length; block++) {
    sum += sums[block * BLOCK_PATTERNS + (signs[block] as number)] as number;
  }
  return sum;
}

/** Tests whether the mean of paired differences is 0. */
export function* pairedRandomization(
  differences: Float64Array,
  { seed, flipCount }: RandomizationSettings,
  meter: WorkMeter,
): Work<RandomizationTest> {
  // signs of zeros change nothing: leaving them out leaves p as it is
  const changing = differences.filter((difference) => difference !== 0);
  const sums = yield* blockSums(changing, meter);
  const signs = new Uint8Array(sums.length / BLOCK_PATTERNS);
  const observed = sumUnder(signs.fill(BLOCK_PATTERNS - 1), sums);
  const exact = changing.length <= EXACT_DIFFERENCES;
  const patternCount = exact ? 2 ** changing.length : flipCount;
  const words = new RandomWords(seed, 'signs');
  let count = 0;
  for (let pattern = 0; pattern < patternCount; pattern++) {
    let word = pattern;
    for (let block = 0; block < signs.length; block++) {
      if (!exact && block % 4 === 0) word = words.next();
      signs[block] = word & (BLOCK_PATTERNS - 1);
      word >>>= BLOCK;
    }
    if (Math.abs(sumUnder(signs, sums)) >= Math.abs(observed) - SLACK) count++;
    if (meter.spend(2 * signs.length + 1)) yield;
  }
  return { pValue: exact ? count / patternCount : (count + 1) / (patternCount + 1), patternCount, exact };
}
