/** From evaluation runs to GraphQL's nouns. */
import type { Services } from '../context.ts';
import type { EvaluationPlan } from '../evaluation/runs/evaluation-plan.ts';
import type { EvaluationSummary } from '../evaluation/runs/evaluation-summaries.ts';
import type { EvaluationEvent as RunEvent } from '../evaluation/runs/evaluations.ts';
import { secondsLeft } from '../jobs/seconds-left.ts';
import { RuntimeError } from '../runtime/errors.ts';
import type { Dataset } from '../schema/dataset.type.ts';
import type { Evaluation, EvaluationSample, VariantSummary } from '../schema/evaluation.type.ts';
import type { EvaluationFinished, SampleScored, ScoresUpdated } from '../schema/evaluation-event.type.ts';
import type { PageInfo } from '../schema/page.type.ts';
import type { StoredEvaluation, StoredSample } from '../storage/evaluation-rows.ts';
import { toAdapter, toModel } from './shape.ts';

export function toEvaluation(stored: StoredEvaluation): Evaluation {
  const { id, status, split, samplesTotal, samplesDone, signature, rescoredFrom, createdAt, finishedAt, error } =
    stored;
  return {
    stored,
    id,
    status,
    split,
    samplesTotal,
    samplesDone,
    signature,
    rescoredFrom,
    createdAt,
    finishedAt,
    error,
    etaSeconds: secondsLeft(stored, { done: samplesDone, atStart: stored.samplesAtStart, total: samplesTotal }),
  };
}

/** By the run as it was read, which the events of a page have in common: finding a dataset reads files. */
const datasets = new WeakMap<StoredEvaluation, Promise<Dataset>>();

export function datasetOf(stored: StoredEvaluation, { datasets: directory }: Services): Promise<Dataset> {
  const dataset = datasets.get(stored) ?? directory.find(stored.dataset);
  datasets.set(stored, dataset);
  return dataset;
}

export function toSample({ index, sampleId, text, references, outputs }: StoredSample): EvaluationSample {
  return {
    index,
    sampleId,
    text,
    references,
    outputs: outputs.map(({ rouge, warnings, ...output }) => ({ ...output, rouge: { ...rouge, warnings } })),
  };
}

export function toVariantSummaries(
  stored: StoredEvaluation,
  { variants, sampleCount }: EvaluationSummary,
  services: Services,
): readonly VariantSummary[] {
  const { variants: planned } = stored.request as EvaluationPlan;
  return variants.map((variant, index): VariantSummary => {
    const { model, adapters } = planned[index] ?? { model: undefined, adapters: [] };
    const served = model === undefined ? undefined : services.models.find(model.id);
    return {
      ...variant,
      samplesScored: sampleCount,
      model: served === undefined ? null : toModel(served, services),
      adapters: adapters.flatMap(({ id }) => {
        const adapter = services.adapters.find(id);
        return adapter === undefined ? [] : [toAdapter(adapter, services)];
      }),
    };
  });
}

export function toEvaluationEvent(
  event: RunEvent,
  services: Services,
): SampleScored | ScoresUpdated | EvaluationFinished {
  const common = { cursor: event.cursor, evaluation: toEvaluation(event.evaluation) };
  switch (event.type) {
    case 'sample':
      return { ...common, sample: toSample(event.sample) };
    case 'scores': {
      const variants = toVariantSummaries(event.evaluation, event.summary, services);
      return { ...common, variants, comparisons: event.summary.comparisons };
    }
    case 'finished':
      return common;
    default:
      return event satisfies never;
  }
}

interface Edge {
  readonly cursor: string;
}

export function toConnection<T, E extends Edge>(
  {
    items,
    hasMore,
    totalCount,
  }: { readonly items: readonly T[]; readonly hasMore: boolean; readonly totalCount: number },
  toEdge: (item: T) => E,
): { readonly edges: readonly E[]; readonly pageInfo: PageInfo; readonly totalCount: number } {
  const edges = items.map(toEdge);
  return { edges, pageInfo: { hasNextPage: hasMore, endCursor: edges.at(-1)?.cursor ?? null }, totalCount };
}

/** Undefined: from the beginning. Throws BAD_USER_INPUT. */
export function readCursor(after: string | null | undefined): number | undefined {
  if (after === null || after === undefined) return undefined;
  if (/^\d{1,9}$/.test(after)) return Number(after);
  const message = `Expected the cursor of an edge, ${JSON.stringify(after.slice(0, 100))} came. Leave it out to begin with the first.`;
  throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'after' });
}
