/** Which samples of a split a run takes, and which reference sets. */
import { uniform } from '../decoding/random.ts';
import { RuntimeError } from '../errors.ts';

export interface SampleChoice {
  /** Samples to take; null takes all. A split that has fewer is taken whole. */
  readonly limit: number | null;
  /** Draws them instead of taking the first; null draws none. Only with a limit. */
  readonly sampleSeed: number | null;
}

/** Throws RuntimeError unless the choice can be made for some split. */
export function checkChoice({ limit, sampleSeed }: SampleChoice): void {
  if (limit !== null && (!Number.isSafeInteger(limit) || limit < 1)) {
    const message = `Expected limit to be a whole number from 1 on, ${limit} came. Leave it out to take every sample.`;
    throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'limit' });
  }
  if (sampleSeed === null) return;
  if (!Number.isSafeInteger(sampleSeed)) {
    const message = `Expected sampleSeed to be a whole number, ${sampleSeed} came.`;
    throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'sampleSeed' });
  }
  if (limit === null) {
    const message = `Expected a limit beside sampleSeed, none came: without one every sample is taken. Give a limit, or leave sampleSeed out.`;
    throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'sampleSeed' });
  }
}

/**
 * Returns the ascending indexes of the samples to take. With a seed it goes through all of them and takes each with
 * probability (still wanted) / (still to come): each choice of so many is as likely (Knuth, The Art of Computer
 * Programming 3.4.2, algorithm S). The draw at an index is `uniform(sampleSeed, 0, index)`; recorded runs rely on it,
 * so it stays as it is.
 */
export function selectIndexes(sampleCount: number, { limit, sampleSeed }: SampleChoice): Uint32Array {
  const count = Math.min(limit ?? sampleCount, sampleCount);
  if (sampleSeed === null) return Uint32Array.from({ length: count }, (_, index) => index);
  const indexes = new Uint32Array(count);
  let taken = 0;
  for (let index = 0; taken < count; index++) {
    if (uniform(sampleSeed, 0, index) * (sampleCount - index) < count - taken) indexes[taken++] = index;
  }
  return indexes;
}

/** Returns the columns that indexes name, in the order of the columns; null names all. Throws RuntimeError. */
export function selectReferences(columns: readonly string[], indexes: readonly number[] | null): readonly number[] {
  if (indexes === null) return columns.map((_, index) => index);
  const refuse = (came: string): never => {
    const there = columns.map((column, index) => `${index} (${column})`).join(', ');
    const message = `Expected references to be different indexes of ${there}, ${came} came. Leave it out to take all.`;
    throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'references' });
  };
  if (indexes.length === 0) refuse('none');
  const twice = indexes.find((index, at) => indexes.indexOf(index) !== at);
  if (twice !== undefined) refuse(`${twice} twice`);
  const unknown = indexes.find((index) => columns[index] === undefined);
  if (unknown !== undefined) refuse(`${unknown}`);
  return [...indexes].sort((left, right) => left - right);
}
