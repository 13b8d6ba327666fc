/** What a run will do, with nothing left open: an active adapter, a default or a drawn seed cannot change it later. */
import { randomInt } from 'node:crypto';
import { willSample } from '../../runtime/decoding/parse-sampling-params.ts';
import type { DecodingOptions } from '../../runtime/decoding/sampling-params.ts';
import { RuntimeError } from '../../runtime/errors.ts';
import type { ServedModel } from '../../runtime/models/served-model.ts';
import { DEFAULT_TEMPLATE_ID } from '../../runtime/prompts/templates.ts';
import type { Shot } from '../../runtime/summarization.ts';
import type { DatasetSample } from '../../storage/dataset-columns.ts';
import type { ComparisonRequest, Variant } from '../comparison.ts';
import { flipsFor } from '../statistics/run-statistics.ts';
import type { EvaluationParts } from './evaluation-parts.ts';

/** What is asked of a run. */
export interface EvaluationRequest {
  readonly dataset: string;
  readonly split: string;
  /** Null: every sample. */
  readonly limit: number | null;
  /** Null: the first ones. */
  readonly sampleSeed: number | null;
  /** Reference sets by index; null: all. */
  readonly references: readonly number[] | null;
  readonly useStemmer: boolean;
  /** Of each randomization test at the end. Default: 10,000 for each variant but the baseline. */
  readonly signPatterns?: number;
  /** The first is the baseline. */
  readonly variants: readonly Variant[];
}

export interface PlannedVariant {
  readonly label: string;
  readonly model: { readonly id: string; readonly source: string };
  readonly adapters: readonly { readonly id: string; readonly weight: number }[];
  readonly templateId: string;
  readonly shots: readonly Shot[];
  readonly decoding: DecodingOptions;
}

/** As it is stored with the run. */
export interface EvaluationPlan extends Omit<EvaluationRequest, 'variants'> {
  /** Absent in runs of before they could be chosen: 10,000. */
  readonly signPatterns?: number;
  readonly variants: readonly PlannedVariant[];
}

const FEWEST_PATTERNS = 1000;
const MOST_PATTERNS = 10_000_000;
/** Seeds are whole numbers below it. */
const SEED_END = 2 ** 31;

/** Throws BAD_USER_INPUT. */
export function checkSignPatterns({ signPatterns: count }: Pick<EvaluationRequest, 'signPatterns'>): void {
  if (count === undefined || (Number.isInteger(count) && count >= FEWEST_PATTERNS && count <= MOST_PATTERNS)) return;
  const message = `Expected signPatterns to be a whole number from ${FEWEST_PATTERNS} to ${MOST_PATTERNS}, ${count} came. Leave it out for 10,000 of each candidate.`;
  throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'signPatterns' });
}

/** Throws NOT_FOUND for a model that is not in service, naming the variant. */
export function planEvaluation(
  { models, adapters }: Pick<EvaluationParts, 'models' | 'adapters'>,
  { variants, ...request }: EvaluationRequest,
): EvaluationPlan {
  const planned = variants.map((variant): PlannedVariant => {
    const { label, modelId, adapters: choices, templateId, shots, decoding } = variant;
    const model = ofVariant(label, () => models.get(modelId));
    const active = adapters.activeOf(model.id);
    const chosen = choices ?? (active === undefined ? [] : [{ id: active.id, weight: 1 }]);
    return {
      label,
      model: { id: model.id, source: model.source },
      adapters: chosen.map(({ id, weight }) => ({ id, weight: weight ?? 1 })),
      templateId: templateId ?? model.templateId ?? DEFAULT_TEMPLATE_ID,
      shots: shots ?? [],
      decoding: seeded(model, decoding ?? {}),
    };
  });
  const signPatterns = request.signPatterns ?? flipsFor(variants.length);
  return { ...request, references: inOrder(request.references), signPatterns, variants: planned };
}

/** All variants of one sample, as they are run together. */
export function toComparison(
  { variants, useStemmer }: EvaluationPlan,
  { text, references }: Pick<DatasetSample, 'text' | 'references'>,
): ComparisonRequest {
  return {
    text,
    references,
    useStemmer,
    variants: variants.map(({ label, model, ...rest }) => ({ label, modelId: model.id, ...rest })),
    logprobs: false,
    // what is known before is refused before the run begins
    onTooLong: 'warn',
  };
}

/** Reference sets in the order in which a selection has them; null: all. */
export function inOrder(references: readonly number[] | null): readonly number[] | null {
  return references && [...references].sort((left, right) => left - right);
}

function seeded({ generationDefaults }: ServedModel, decoding: DecodingOptions): DecodingOptions {
  const draws = willSample(decoding, generationDefaults) && (decoding.seed ?? null) === null;
  return draws ? { ...decoding, seed: randomInt(SEED_END) } : decoding;
}

function ofVariant<T>(label: string, find: () => T): T {
  try {
    return find();
  } catch (error) {
    if (!(error instanceof RuntimeError)) throw error;
    const message = `Variant ${JSON.stringify(label)}: ${error.message}`;
    throw new RuntimeError(error.code, message, { ...error.details, variant: label }, { cause: error });
  }
}
