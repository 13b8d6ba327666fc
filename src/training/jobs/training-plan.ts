/** From what is asked to a plan with nothing left open; all that can be refused is refused here. */
import { RuntimeError } from '../../runtime/errors.ts';
import type { LinearModule } from '../../runtime/models/linear-module.ts';
import { defaultLoraTargets } from '../../runtime/models/model-modules.ts';
import type { Device, Precision, ServedModel } from '../../runtime/models/served-model.ts';
import { roomForSource, roomForTarget } from '../../runtime/prompts/prompt-room.ts';
import { DEFAULT_TEMPLATE_ID, findTemplate, framePrompt } from '../../runtime/prompts/templates.ts';
import { selectLoraModules } from '../lora-modules.ts';
import { checkFullFormat } from '../run/trained-model.ts';
import type { DataSettings, LoraSettings, TrainingPlan } from '../run/trainer-protocol.ts';
import { stepsOfEpoch } from '../samples/batch-plan.ts';
import { openSplit } from './training-needs.ts';
import { checkOutput } from './training-output.ts';
import type { TrainingParts } from './training-parts.ts';
import { checkRequest, checkSteps, defaultLora, type TrainingRequest, whole } from './training-request.ts';

/** What is remembered of a model, which may go out of service. */
export interface TrainedModelFacts {
  readonly id: string;
  readonly source: string;
  readonly family: ServedModel['config']['family'];
  readonly architecture: string;
  readonly vocabularySize: number;
  readonly hiddenSize: number;
  readonly maxInputTokens: number;
  readonly parameterCount: number;
  readonly precision: Precision;
  readonly device: Device;
}

export interface PlannedTraining {
  readonly plan: TrainingPlan;
  readonly model: TrainedModelFacts;
  readonly stepsTotal: number;
  readonly trainableParameters: number;
  /** Those of the adapter included. */
  readonly totalParameters: number;
}

const VALIDATION_SPLIT = 'validation';
const DEFAULT_SOURCE_TOKENS = 512;

/** Throws RuntimeError naming the argument that cannot be honoured. */
export async function planTraining(parts: TrainingParts, request: TrainingRequest): Promise<PlannedTraining> {
  checkRequest(request, parts.maxRank);
  const model = modelOf(parts, request);
  const lora = request.method === 'full' ? null : loraOf(request, model);
  if (lora === null) await checkFullFormat(model);
  const adapted = lora === null ? [] : selectLoraModules(model.config, lora.targetModules);
  await checkOutput(parts, { kind: lora === null ? 'model' : 'adapter', outputId: request.outputId });
  const samples = await openSplit(parts, request, request.split, request.limit);
  // a repository of the hub may be another one when the run goes on
  const data = await dataOf(parts, { ...request, dataset: samples.dataset.id }, model);
  const { optimization, evaluateEverySteps, outputId } = request;
  const sampleCount = samples.indexes.length;
  const stepsTotal = optimization.maxSteps ?? Math.ceil(optimization.epochs * stepsOfEpoch(sampleCount, optimization));
  checkSteps(stepsTotal);
  const { parameterCount } = model;
  const trainable = lora === null ? parameterCount : factorCount(adapted, lora.rank);
  return {
    plan: {
      modelSource: model.source,
      modelId: model.id,
      outputId,
      lora,
      data,
      optimization,
      evaluateEverySteps,
      threadCount: parts.threadCount,
    },
    model: factsOf(model),
    stepsTotal,
    trainableParameters: trainable,
    totalParameters: lora === null ? parameterCount : parameterCount + trainable,
  };
}

function modelOf({ models }: TrainingParts, { modelId }: TrainingRequest): ServedModel {
  const model = models.find(modelId);
  if (model !== undefined) return model;
  const known = models.list().map(({ id }) => id);
  const message = `Expected the id of a loaded model (${known.join(', ') || 'none'}), ${JSON.stringify(modelId)} came. Choose one of them, or load it first.`;
  throw new RuntimeError('NOT_FOUND', message, { argument: 'model' });
}

function loraOf({ lora }: TrainingRequest, { config }: ServedModel): LoraSettings {
  const { targetModules, ...settings } = lora ?? defaultLora;
  return { ...settings, targetModules: targetModules ?? defaultLoraTargets[config.family] };
}

function factorCount(adapted: readonly LinearModule[], rank: number): number {
  return adapted.reduce((sum, { inSize, outSize }) => sum + rank * (inSize + outSize), 0);
}

async function dataOf(parts: TrainingParts, request: TrainingRequest, model: ServedModel): Promise<DataSettings> {
  const { dataset, split, limit, maxTargetTokens } = request;
  const templateId = request.templateId ?? model.templateId ?? DEFAULT_TEMPLATE_ID;
  const most = model.config.maxInputTokens;
  const maxSourceTokens = request.maxSourceTokens ?? Math.min(DEFAULT_SOURCE_TOKENS, most);
  whole('maxSourceTokens', maxSourceTokens, 1, most);
  await checkRoom(model, templateId, { maxSourceTokens, maxTargetTokens });
  const validation = await validationOf(parts, request);
  return { dataset, split, limit, validation, templateId, maxSourceTokens, maxTargetTokens };
}

/** The instruction stays whole: it must leave room for some of the text. */
async function checkRoom(
  { config, tokenizer, chat }: ServedModel,
  templateId: string,
  { maxSourceTokens, maxTargetTokens }: Pick<DataSettings, 'maxSourceTokens' | 'maxTargetTokens'>,
): Promise<void> {
  const { before, after, addSpecialTokens } = framePrompt(findTemplate(templateId), [], chat);
  const frameCount = await tokenizer.countTokens(before + after, { addSpecialTokens });
  const room = roomForSource(config, maxSourceTokens, roomForTarget(config, maxTargetTokens));
  if (frameCount < room) return;
  // where summaries take the model's positions, fewer tokens of them leave more
  const argument = room < maxSourceTokens ? 'maxTargetTokens' : 'maxSourceTokens';
  const advice = room < maxSourceTokens ? 'Lower it' : 'Raise it';
  const message = `Expected ${argument} to leave room for the text, the template ${templateId} alone takes ${frameCount} of ${room} tokens. ${advice}, or choose a shorter template.`;
  throw new RuntimeError('BAD_USER_INPUT', message, { argument });
}

/** Null: the run is not looked at. */
async function validationOf(parts: TrainingParts, request: TrainingRequest): Promise<DataSettings['validation']> {
  const { validationSplit, validationLimit, evaluateEverySteps } = request;
  const split = validationSplit ?? VALIDATION_SPLIT;
  const asked = validationSplit ?? evaluateEverySteps ?? validationLimit;
  if (asked === null) return null;
  try {
    await openSplit(parts, request, split, validationLimit);
    return { split, limit: validationLimit };
  } catch (error) {
    if (!(error instanceof RuntimeError) || error.code !== 'NOT_FOUND') throw error;
    if (validationSplit !== null) {
      throw new RuntimeError('BAD_USER_INPUT', error.message, { argument: 'validationSplit' }, { cause: error });
    }
    const argument = evaluateEverySteps === null ? 'validationLimit' : 'evaluateEverySteps';
    const message = `${argument} cannot be honoured: dataset ${request.dataset} has no split ${VALIDATION_SPLIT}. Name another split as validationSplit, or leave it out.`;
    throw new RuntimeError('UNSUPPORTED_ARGUMENT', message, { argument }, { cause: error });
  }
}

function factsOf({ id, source, config, parameterCount, precision, device }: ServedModel): TrainedModelFacts {
  const { family, architecture, vocabularySize, hiddenSize, maxInputTokens } = config;
  return {
    id,
    source,
    family,
    architecture,
    vocabularySize,
    hiddenSize,
    maxInputTokens,
    parameterCount,
    precision,
    device,
  };
}
