/**
 * Which samples make up which batch: a pure function of seed, epoch and lengths, so that a run that is taken up again
 * goes on with the batches that it would have had. Samples of similar length come together, as in transformers'
 * length-grouped sampler: the epoch's random order is cut into groups, each is sorted by length and cut into batches,
 * and the batches of all groups are shuffled.
 */
import { draw } from '../random-bits.ts';

/** Batches that are sorted together, at most; of few samples fewer, so that epochs differ. */
const MOST_GROUPED = 50;
const LEAST_GROUPS = 4;

export interface SampleLengths {
  readonly count: number;
  /** Tokens of the longest rows that it is padded in: of its source, or of prompt and summary together. */
  inputLength(sample: number): number;
  targetLength(sample: number): number;
}

export interface BatchSettings {
  readonly batchSize: number;
  /** Batches of a step. */
  readonly gradientAccumulation: number;
  readonly seed: number;
}

/** The places of samples, batch by batch. */
export type Step = readonly Uint32Array[];

/** Steps that go once through all samples; the last may have fewer. */
export function stepsOfEpoch(count: number, { batchSize, gradientAccumulation }: BatchSettings): number {
  return Math.ceil(Math.ceil(count / batchSize) / gradientAccumulation);
}

/** Fisher and Yates' shuffle in place, in the form of Durstenfeld 1964. */
function shuffle<T>(items: { [index: number]: T; readonly length: number }, seed: number, stream: number): void {
  for (let last = items.length - 1; last > 0; last--) {
    const other = Math.floor(draw(seed, 'shuffle', stream, last) * (last + 1));
    const item = items[last] as T;
    items[last] = items[other] as T;
    items[other] = item;
  }
}

export class BatchPlan {
  private epoch = -1;
  private steps: readonly Step[] = [];
  readonly stepsPerEpoch: number;

  /** `samples`: one at least. */
  constructor(
    private readonly samples: SampleLengths,
    private readonly settings: BatchSettings,
  ) {
    this.stepsPerEpoch = stepsOfEpoch(samples.count, settings);
  }

  /** `step` counts from 0 over all epochs. */
  step(step: number): Step {
    const epoch = Math.floor(step / this.stepsPerEpoch);
    if (epoch !== this.epoch) {
      this.steps = this.planEpoch(epoch);
      this.epoch = epoch;
    }
    return this.steps[step % this.stepsPerEpoch] as Step;
  }

  private planEpoch(epoch: number): readonly Step[] {
    const { samples, settings } = this;
    const { batchSize, gradientAccumulation, seed } = settings;
    const order = Uint32Array.from({ length: samples.count }, (_, sample) => sample);
    shuffle(order, seed, 2 * epoch);
    const grouped = Math.max(1, Math.min(MOST_GROUPED, Math.floor(samples.count / (batchSize * LEAST_GROUPS))));
    const batches: Uint32Array[] = [];
    for (let start = 0; start < order.length; start += grouped * batchSize) {
      const group = order.slice(start, start + grouped * batchSize);
      sortByLength(group, samples);
      for (let first = 0; first < group.length; first += batchSize) batches.push(group.slice(first, first + batchSize));
    }
    shuffle(batches, seed, 2 * epoch + 1);
    const steps: Step[] = [];
    for (let first = 0; first < batches.length; first += gradientAccumulation) {
      steps.push(batches.slice(first, first + gradientAccumulation));
    }
    return steps;
  }
}

/** By the input, which takes most of the time, then by the target; equal ones stay in order. */
export function sortByLength(order: Uint32Array, samples: SampleLengths): void {
  order.sort(
    (left, right) =>
      samples.inputLength(left) - samples.inputLength(right) ||
      samples.targetLength(left) - samples.targetLength(right) ||
      left - right,
  );
}
