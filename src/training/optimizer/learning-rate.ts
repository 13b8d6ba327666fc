/** How the learning rate goes over the steps of a run: the schedules of transformers, by their own formulas. */

export type LearningRateSchedule = 'constant' | 'linear' | 'cosine';

export interface LearningRateSettings {
  /** The highest one. */
  readonly learningRate: number;
  readonly schedule: LearningRateSchedule;
  /** Steps over which the rate rises from 0; the first step then has rate 0, and yet feeds the moments. */
  readonly warmupSteps: number;
  readonly stepsTotal: number;
}

/** `step` counts from 0. */
export function learningRateAt(settings: LearningRateSettings, step: number): number {
  const { learningRate, schedule, warmupSteps, stepsTotal } = settings;
  if (step < warmupSteps) return (learningRate * step) / warmupSteps;
  const length = Math.max(1, stepsTotal - warmupSteps);
  switch (schedule) {
    case 'constant':
      return learningRate;
    case 'linear':
      return learningRate * Math.max(0, (stepsTotal - step) / length);
    case 'cosine':
      return learningRate * Math.max(0, 0.5 * (1 + Math.cos((Math.PI * (step - warmupSteps)) / length)));
    default:
      return schedule satisfies never;
  }
}
