export interface Interval {
  readonly low: number;
  readonly high: number;
  /** Probability that an interval made this way holds the true value, 0..1. */
  readonly confidence: number;
}

/** Confidence of every interval of a run. */
export const CONFIDENCE = 0.95;
