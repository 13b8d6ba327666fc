/** What came of a run: tables for a person, or one object for a program. */
import type { EvaluationSummary } from '../evaluation/runs/evaluation-summaries.ts';
import type { Interval } from '../evaluation/statistics/interval.ts';
import { METRICS, type Metric } from '../evaluation/statistics/score-table.ts';
import type { StoredEvaluation } from '../storage/evaluation-rows.ts';
import { textTable } from './text-table.ts';

/** Digits behind the point: a tenth of the usual hundredth of ROUGE times 100. */
const DIGITS = 4;

const METRIC_NAMES: Readonly<Record<Metric, string>> = {
  rouge1: 'ROUGE-1',
  rouge2: 'ROUGE-2',
  rougeL: 'ROUGE-L',
  rougeLsum: 'ROUGE-Lsum',
};

export const metricNames: readonly string[] = METRICS.map((metric) => METRIC_NAMES[metric]);

export function formatEvaluationReport(evaluation: StoredEvaluation, summary: EvaluationSummary): string {
  const parts = [runLine(evaluation, summary), `Signature: ${evaluation.signature}`];
  if (summary.sampleCount > 0) {
    if (summary.comparisons.length > 0) parts.unshift(comparisonTable(summary), comparisonNote(summary));
    parts.unshift(variantTable(summary), variantNote(summary));
  }
  return parts.join('\n\n');
}

/** The same, without rounding. */
export function evaluationObject(evaluation: StoredEvaluation, summary: EvaluationSummary): object {
  const { id, status, error, dataset, split, samplesTotal, samplesDone, signature } = evaluation;
  const { createdAt, startedAt, finishedAt } = evaluation;
  const { variants, comparisons } = summary;
  return {
    ...{ id, status, error, dataset, split, samplesTotal, samplesDone, createdAt, startedAt, finishedAt },
    ...{ signature, variants, comparisons },
  };
}

function variantTable({ variants }: EvaluationSummary): string {
  const header = ['variant', ...metricNames, 'tokens'];
  const rows = variants.map(({ label, metrics, meanSummaryTokens }) => [
    label,
    ...metrics.map(({ mean, interval }) => `${mean.toFixed(DIGITS)} ${brackets(interval)}`),
    meanSummaryTokens.toFixed(1),
  ]);
  return textTable([header, ...rows], 1);
}

function variantNote({ variants }: EvaluationSummary): string {
  return `Mean F-measure with its ${percent(variants[0]?.metrics[0]?.interval)} interval (percentile bootstrap); tokens: mean of a summary.`;
}

function comparisonTable({ comparisons }: EvaluationSummary): string {
  const baseline = comparisons[0]?.baseline ?? '';
  const header = [`against ${baseline}`, 'metric', 'difference', 'p (Holm)', 'wins', 'losses', 'ties'];
  const rows = comparisons.map(({ candidate, metric, meanDifference, interval, pValue, wins, losses, ties }) => [
    ...[candidate, METRIC_NAMES[metric], `${signed(meanDifference)} ${brackets(interval)}`, pValue.toFixed(DIGITS)],
    ...[wins, losses, ties].map(String),
  ]);
  return textTable([header, ...rows], 2);
}

function comparisonNote({ comparisons }: EvaluationSummary): string {
  const [first] = comparisons;
  return `Mean difference with its ${percent(first?.interval)} interval (paired percentile bootstrap); p: ${first?.test}.`;
}

function runLine(evaluation: StoredEvaluation, { sampleCount, variants }: EvaluationSummary): string {
  const { id, status, dataset, split, samplesTotal, startedAt, finishedAt } = evaluation;
  const tokens = variants.reduce((sum, { meanSummaryTokens }) => sum + meanSummaryTokens * sampleCount, 0);
  const seconds = ((finishedAt?.getTime() ?? 0) - (startedAt?.getTime() ?? 0)) / 1000;
  const time = startedAt === null || finishedAt === null ? '' : ` in ${seconds.toFixed(1)} s`;
  return `Evaluation ${id} ${status}: ${sampleCount} of ${samplesTotal} samples of ${dataset}/${split}, ${Math.round(tokens)} new tokens${time}.`;
}

function brackets({ low, high }: Interval): string {
  return `[${low.toFixed(DIGITS)}, ${high.toFixed(DIGITS)}]`;
}

function signed(value: number): string {
  return `${value < 0 ? '' : '+'}${value.toFixed(DIGITS)}`;
}

function percent(interval: Interval | undefined): string {
  return `${Math.round(100 * (interval?.confidence ?? 0))} %`;
}
