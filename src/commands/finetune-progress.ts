/** How far a training is. */
import { secondsLeft } from '../jobs/seconds-left.ts';
import type { StoredTraining } from '../storage/training-rows.ts';
import { duration, type ProgressViews, progressBar } from './progress-display.ts';

const DIGITS = 4;

export const trainingViews: ProgressViews<StoredTraining> = {
  line: (training) => [counts(training), ...facts(training)].join(', '),
  block: (training) => {
    const { step, stepsTotal } = training;
    return [`${progressBar(step, stepsTotal)} ${counts(training)}`, facts(training).join(', ')];
  },
};

function counts({ step, stepsTotal, epoch }: StoredTraining): string {
  return `${step} of ${stepsTotal} steps, epoch ${epoch.toFixed(2)}`;
}

function facts(training: StoredTraining): readonly string[] {
  const { loss, validationLoss, learningRate, tokensPerSecond, step, stepAtStart, stepsTotal } = training;
  const left = secondsLeft(training, { done: step, atStart: stepAtStart, total: stepsTotal });
  return [
    ...(loss === null ? [] : [`loss ${loss.toFixed(DIGITS)}`]),
    ...(validationLoss === null ? [] : [`validation ${validationLoss.toFixed(DIGITS)}`]),
    ...(loss === null ? [] : [`learning rate ${learningRate.toPrecision(3)}`]),
    ...(tokensPerSecond === null ? [] : [`${Math.round(tokensPerSecond)} tokens/s`]),
    ...(left === null ? [] : [`${duration(left)} left`]),
  ];
}

/** What came of it, for a person. */
export function formatTrainingReport(training: StoredTraining, output: string): string {
  const { id, status, step, stepsTotal, loss, bestValidationLoss, startedAt, finishedAt } = training;
  const { trainableParameters, totalParameters } = training;
  const seconds = ((finishedAt?.getTime() ?? 0) - (startedAt?.getTime() ?? 0)) / 1000;
  const time = startedAt === null || finishedAt === null ? '' : ` in ${seconds.toFixed(1)} s`;
  const share = (100 * trainableParameters) / totalParameters;
  return [
    `Training ${id} ${status}: ${step} of ${stepsTotal} steps${time}.`,
    `Trained ${trainableParameters} of ${totalParameters} parameters (${share.toFixed(2)} %).`,
    ...(loss === null ? [] : [`Loss of the last step ${loss.toFixed(DIGITS)}.`]),
    ...(bestValidationLoss === null
      ? []
      : [`Least loss on the validation split ${bestValidationLoss.toFixed(DIGITS)}.`]),
    ...(status === 'succeeded' ? [`In service as ${output}.`] : []),
  ].join('\n');
}

/** The same for a program, without rounding. */
export function trainingObject(training: StoredTraining): object {
  const { id, status, error, outputId, step, stepsTotal, epoch, loss, validationLoss, bestValidationLoss } = training;
  const { learningRate, tokensPerSecond, trainableParameters, totalParameters, warnings, request } = training;
  const { createdAt, startedAt, finishedAt } = training;
  return {
    ...{ id, status, error, outputId, step, stepsTotal, epoch, loss, validationLoss, bestValidationLoss },
    ...{ learningRate, tokensPerSecond, trainableParameters, totalParameters, warnings },
    ...{ createdAt, startedAt, finishedAt, plan: request },
  };
}
