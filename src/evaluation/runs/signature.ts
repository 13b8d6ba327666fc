/**
 * Every setting that moves a score, in one line: two runs with equal signatures are comparable. Models and adapters
 * count by the bytes of their files, not by their names, and labels do not count.
 */
import { createHash } from 'node:crypto';
import type { ServedAdapter } from '../../runtime/adapters/served-adapter.ts';
import type { DatasetSelection } from '../../runtime/datasets/dataset-selection.ts';
import { RuntimeError } from '../../runtime/errors.ts';
import type { ServedModel } from '../../runtime/models/served-model.ts';
import { findTemplate } from '../../runtime/prompts/templates.ts';
import { digestModelFolder } from '../../storage/model-digest.ts';
import { storableJson } from '../../storage/tables.ts';
import { FINAL_EFFORT } from '../statistics/run-statistics.ts';
import type { EvaluationParts } from './evaluation-parts.ts';
import type { EvaluationPlan, PlannedVariant } from './evaluation-plan.ts';

const SEPARATOR = ' | ';
const STATISTICS_PART = /^statistics /;
const ROUGE_PART = /^rouge stemmer=\w+ best-of=(.*)$/;
/** Hexadecimal digits of a digest that are shown: 64 bits tell the files of a project apart. */
const SHOWN_DIGITS = 16;

/** By model in service; its files are hashed once. */
const digests = new WeakMap<ServedModel, Promise<string>>();

/** What a variant is answered with. */
interface VariantParts {
  readonly model: ServedModel;
  /** Those of the variant among others. */
  readonly adapters: readonly Pick<ServedAdapter, 'id' | 'facts'>[];
}

/** Throws NOT_FOUND for a model or adapter that is not in service. */
export async function signatureOf(
  parts: Pick<EvaluationParts, 'models' | 'adapters' | 'version'>,
  plan: EvaluationPlan,
  selection: DatasetSelection,
): Promise<string> {
  const variants = await Promise.all(
    plan.variants.map((variant) => {
      const model = parts.models.get(variant.model.id);
      const adapters = variant.adapters.flatMap(({ id }) => parts.adapters.find(id) ?? []);
      return variantPart(variant, { model, adapters });
    }),
  );
  return [
    `gistql ${parts.version}`,
    rougePart(plan.useStemmer, selection.referenceColumns),
    statisticsPart(plan),
    datasetPart(plan, selection),
    ...variants,
  ].join(SEPARATOR);
}

/**
 * The signature of a run that scores the texts of another one again, which has `signature`. `places`: of the references
 * wanted among the other's.
 */
export function rescoredSignature(
  signature: string,
  plan: EvaluationPlan,
  places: readonly number[] | undefined,
): string {
  return signature
    .split(SEPARATOR)
    .map((part) => {
      if (STATISTICS_PART.test(part)) return statisticsPart(plan);
      const columns = ROUGE_PART.exec(part)?.[1]?.split('+');
      if (columns === undefined) return part;
      return rougeLine(plan.useStemmer, places?.map((place) => columns[place] ?? '') ?? columns);
    })
    .join(SEPARATOR);
}

/** Throws CONFLICT, saying what differs, unless a run can go on as it began. */
export function checkSignature(began: string, now: string): void {
  if (began === now) return;
  const parts = now.split(SEPARATOR);
  const then = began.split(SEPARATOR);
  const place = parts.findIndex((part, index) => part !== then[index]);
  throw changed(then[place] ?? 'nothing', parts[place] ?? 'nothing');
}

/** Throws CONFLICT when a variant of the run was answered with other files than the run began with, under their ids. */
export async function checkVariant(began: string, variant: PlannedVariant, parts: VariantParts): Promise<void> {
  const now = await variantPart(variant, parts);
  if (!began.split(SEPARATOR).includes(now)) throw changed(`variant ${JSON.stringify(variant.label)}`, now);
}

function changed(was: string, is: string): RuntimeError {
  const message = `Expected the settings and files that the run began with (${was}), they have changed (${is}). Start a new run.`;
  return new RuntimeError('CONFLICT', message);
}

function rougePart(useStemmer: boolean, columns: readonly string[]): string {
  return rougeLine(useStemmer, columns.map(plain));
}

/** `columns` as they are written. */
function rougeLine(useStemmer: boolean, columns: readonly string[]): string {
  return `rouge stemmer=${useStemmer ? 'yes' : 'no'} best-of=${columns.join('+')}`;
}

function statisticsPart({ signPatterns = FINAL_EFFORT.flipCount }: EvaluationPlan): string {
  return `statistics resamples=${FINAL_EFFORT.resampleCount} flips=${signPatterns} seed=0`;
}

function datasetPart({ dataset, split, limit, sampleSeed }: EvaluationPlan, selection: DatasetSelection): string {
  const chosen = limit === null ? 'all' : `${sampleSeed === null ? 'first' : `drawn-by-${sampleSeed}`} ${limit}`;
  return `dataset ${plain(dataset)}/${plain(split)} ${shown(selection.sha256)} text=${plain(selection.textColumn)} ${chosen}`;
}

async function variantPart(variant: PlannedVariant, { model, adapters }: VariantParts): Promise<string> {
  const blend = variant.adapters.map(({ id, weight }) => {
    const facts = adapters.find((one) => one.id === id)?.facts;
    if (facts === undefined) throw new RuntimeError('NOT_FOUND', `Expected adapter ${id} to be in service, it is not.`);
    return `${shown(facts.sha256)}/${shown(facts.configSha256)}*${weight}`;
  });
  const template = findTemplate(variant.templateId);
  return [
    `model ${shown(await digestOf(model))} ${model.precision} ${model.device} input<=${model.config.maxInputTokens}`,
    `adapters=${blend.join('+') || 'none'}`,
    `template=${shown(sha256(template.text))}`,
    `shots=${variant.shots.length === 0 ? 'none' : shown(sha256(storableJson(variant.shots)))}`,
    `decoding=${storableJson(variant.decoding).replaceAll('|', '\\u007c')}`,
  ].join(' ');
}

async function digestOf(model: ServedModel): Promise<string> {
  const known = digests.get(model) ?? digestModelFolder(model.folder);
  digests.set(model, known);
  try {
    return await known;
  } catch (error) {
    digests.delete(model);
    throw error;
  }
}

/** A name without what parts of a signature are told apart by. */
function plain(name: string): string {
  return name.replaceAll(/[\s|+%]/g, encodeURIComponent);
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function shown(digest: string): string {
  return digest.slice(0, SHOWN_DIGITS);
}
