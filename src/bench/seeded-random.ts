/** Draws from a seed: the same seed, the same draws. */
import { uniform } from '../runtime/decoding/random.ts';

export class SeededRandom {
  private step = 0;

  constructor(private readonly seed: number) {}

  /** A number in [0, 1). */
  next(): number {
    return uniform(this.seed, 0, this.step++);
  }

  /** A whole number from `low` to `high`, both included. */
  whole(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  /** A number from `low` to `high` with two decimals. */
  decimal(low: number, high: number): number {
    return this.whole(Math.round(low * 100), Math.round(high * 100)) / 100;
  }

  chance(share: number): boolean {
    return this.next() < share;
  }

  pick<T>(choices: readonly [T, ...T[]]): T {
    return choices[this.whole(0, choices.length - 1)] ?? choices[0];
  }

  shuffled<T>(items: readonly T[]): readonly T[] {
    return items
      .map((item) => ({ item, place: this.next() }))
      .sort((a, b) => a.place - b.place)
      .map(({ item }) => item);
  }
}
