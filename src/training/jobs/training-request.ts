/** What is asked of a training, and the numbers that it cannot have. */
import { RuntimeError } from '../../runtime/errors.ts';
import type { LoraSettings, OptimizationSettings } from '../run/trainer-protocol.ts';

export interface LoraRequest extends Omit<LoraSettings, 'targetModules'> {
  /** Null: those that PEFT adapts. */
  readonly targetModules: readonly string[] | null;
}

export interface TrainingRequest {
  readonly modelId: string;
  readonly method: 'lora' | 'full';
  readonly outputId: string;
  readonly dataset: string;
  readonly split: string;
  /** Null: every sample. */
  readonly limit: number | null;
  /** Null: `validation`, where there is one and the run is to be looked at. */
  readonly validationSplit: string | null;
  readonly validationLimit: number | null;
  /** Null: the model's own. */
  readonly templateId: string | null;
  /** Null: 512, or what the model takes. */
  readonly maxSourceTokens: number | null;
  readonly maxTargetTokens: number;
  /** Null: the defaults. */
  readonly lora: LoraRequest | null;
  readonly optimization: OptimizationSettings;
  readonly evaluateEverySteps: number | null;
}

export const defaultLora: LoraRequest = { rank: 8, alpha: 16, dropout: 0, targetModules: null, useRslora: false };

export const defaultOptimization: OptimizationSettings = {
  epochs: 1,
  maxSteps: null,
  batchSize: 8,
  gradientAccumulation: 1,
  learningRate: 0.001,
  schedule: 'linear',
  warmupSteps: 0,
  weightDecay: 0,
  maxGradNorm: 1,
  labelSmoothing: 0,
  seed: 0,
};

export const DEFAULT_SPLIT = 'train';
export const DEFAULT_TARGET_TOKENS = 128;

/** Whole numbers are stored with so many bits. */
const LARGEST_COUNT = 2 ** 31 - 1;
/** More samples of a step take more memory than any machine has. */
const LARGEST_BATCH = 4096;
const LONGEST_TARGET = 4096;
const LARGEST_ALPHA = 1e6;

/** Throws BAD_USER_INPUT naming the argument, UNSUPPORTED_ARGUMENT for one that this training does not have. */
export function checkRequest(request: TrainingRequest, maxRank: number): void {
  const { method, lora, limit, validationLimit, maxTargetTokens, evaluateEverySteps } = request;
  if (method === 'full' && lora !== null) {
    const message = `lora cannot be honoured: method FULL trains every weight. Leave it out, or choose LORA.`;
    throw new RuntimeError('UNSUPPORTED_ARGUMENT', message, { argument: 'lora' });
  }
  checkLora(lora ?? defaultLora, maxRank);
  checkOptimization(request.optimization);
  wholeOrNull('limit', limit);
  wholeOrNull('validationLimit', validationLimit);
  wholeOrNull('evaluateEverySteps', evaluateEverySteps);
  whole('maxTargetTokens', maxTargetTokens, 2, LONGEST_TARGET);
}

function checkLora({ rank, alpha, dropout }: LoraRequest, maxRank: number): void {
  whole('rank', rank, 1, maxRank);
  inRange('alpha', alpha, alpha > 0 && alpha <= LARGEST_ALPHA, `above 0, up to ${LARGEST_ALPHA}`);
  inRange('dropout', dropout, dropout >= 0 && dropout < 1, 'from 0 to below 1');
}

function checkOptimization(settings: OptimizationSettings): void {
  const { epochs, learningRate, weightDecay, maxGradNorm, labelSmoothing } = settings;
  inRange('epochs', epochs, epochs > 0, 'above 0');
  wholeOrNull('maxSteps', settings.maxSteps);
  whole('batchSize', settings.batchSize, 1, LARGEST_BATCH);
  whole('gradientAccumulation', settings.gradientAccumulation, 1, LARGEST_BATCH);
  inRange('learningRate', learningRate, learningRate > 0, 'above 0');
  whole('warmupSteps', settings.warmupSteps, 0, LARGEST_COUNT);
  inRange('weightDecay', weightDecay, weightDecay >= 0, 'from 0 on');
  inRange('maxGradNorm', maxGradNorm, maxGradNorm >= 0, 'from 0 on (0: gradients are not clipped)');
  inRange('labelSmoothing', labelSmoothing, labelSmoothing >= 0 && labelSmoothing < 1, 'from 0 to below 1');
  whole('seed', settings.seed, 0, LARGEST_COUNT);
}

/** Throws BAD_USER_INPUT for steps that cannot be counted. */
export function checkSteps(stepsTotal: number): void {
  if (stepsTotal <= LARGEST_COUNT) return;
  const message = `Expected epochs that take at most ${LARGEST_COUNT} steps, they take ${stepsTotal}. Lower epochs, or set maxSteps.`;
  throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'epochs' });
}

export function whole(argument: string, value: number, low: number, high: number): void {
  if (Number.isInteger(value) && value >= low && value <= high) return;
  const range = high === LARGEST_COUNT ? `from ${low} on` : `from ${low} to ${high}`;
  const message = `Expected ${argument} to be a whole number ${range}, ${value} came.`;
  throw new RuntimeError('BAD_USER_INPUT', message, { argument });
}

function wholeOrNull(argument: string, value: number | null): void {
  if (value !== null) whole(argument, value, 1, LARGEST_COUNT);
}

function inRange(argument: string, value: number, isInside: boolean, range: string): void {
  if (Number.isFinite(value) && isInside) return;
  throw new RuntimeError('BAD_USER_INPUT', `Expected ${argument} to be a number ${range}, ${value} came.`, {
    argument,
  });
}
