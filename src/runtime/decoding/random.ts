/**
 * Random numbers for sampling. A draw is a pure function of (seed, sequence, step): what else runs, in which order,
 * and whether the server restarted in between cannot change it. The mixer is the finalizer of SplitMix64
 * (Steele, Lea, Flood 2014, https://doi.org/10.1145/2660193.2660195).
 */

const MASK = (1n << 64n) - 1n;
const GOLDEN_GAMMA = 0x9e3779b97f4a7c15n;

function mix(value: bigint): bigint {
  let z = value & MASK;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return z ^ (z >> 31n);
}

/** Returns a number in [0, 1) with 53 random bits for one step of one sequence. */
export function uniform(seed: number, sequenceIndex: number, step: number): number {
  const stream = mix(BigInt(seed) * GOLDEN_GAMMA + BigInt(sequenceIndex));
  return Number(mix(stream + GOLDEN_GAMMA * BigInt(step + 1)) >> 11n) / 2 ** 53;
}
