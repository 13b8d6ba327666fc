/** A training and its events as the rest of the server sees them. */
import type { StoredRun } from './run-store.ts';
import type { trainings } from './tables.ts';

export interface StoredTraining extends StoredRun, Omit<typeof trainings.$inferSelect, 'takenUpAt' | 'warnings'> {
  readonly warnings: readonly string[];
}

/** Before the first step, and again whenever a run is taken up. */
export interface NewPreparation {
  readonly type: 'prepared';
  readonly stepsTotal: number;
  readonly trainableParameters: number;
  readonly totalParameters: number;
  readonly warnings: readonly string[];
}

export interface NewTrainingStep {
  readonly type: 'step';
  readonly step: number;
  readonly epoch: number;
  readonly loss: number;
  readonly learningRate: number;
  readonly gradientNorm: number;
  readonly tokensPerSecond: number;
}

export interface NewValidation {
  readonly type: 'validation';
  readonly step: number;
  readonly validationLoss: number;
}

export type NewTrainingEvent = NewTrainingStep | NewValidation;

/** `sequence`: 1, 2, 3, … in the order in which the run's events were stored. */
export type StoredTrainingEvent = NewTrainingEvent & { readonly sequence: number };
