/** Trainings and events of no meaning, each different, for tests of what keeps them. */
import type { NewTrainingStep, NewValidation } from '../../src/storage/training-rows.ts';
import type { NewTraining, TrainingStore } from '../../src/storage/training-store.ts';
import { noQueue } from './evaluations.ts';

export function newTraining(changes: Partial<NewTraining> = {}): NewTraining {
  return {
    asked: { dataset: 'everyday' },
    request: { outputId: 'made', lora: null },
    outputId: 'made',
    model: { id: 'tiny' },
    stepsTotal: 10,
    trainableParameters: 12,
    totalParameters: 3_000_000_000,
    ...changes,
  };
}

export function newStep(step: number): NewTrainingStep {
  return {
    type: 'step',
    step,
    epoch: step / 3,
    loss: 5 / step,
    learningRate: 0.1 / step,
    gradientNorm: step / 7,
    tokensPerSecond: 1000 / step,
  };
}

export function newValidation(step: number, validationLoss = 3 / step): NewValidation {
  return { type: 'validation', step, validationLoss };
}

/** Makes a run and begins it. */
export async function beginTraining(store: TrainingStore, changes: Partial<NewTraining> = {}): Promise<string> {
  const { run } = await store.create(newTraining(changes), noQueue);
  await store.begin(run.id);
  return run.id;
}
