/** How far an evaluation is. */
import type { EvaluationSummary } from '../evaluation/runs/evaluation-summaries.ts';
import { metricNames } from './evaluation-report.ts';
import { type ProgressViews, paceText, progressBar } from './progress-display.ts';
import { printable } from './text-table.ts';

export interface RunProgress {
  readonly samplesDone: number;
  readonly samplesTotal: number;
  /** Those among them that were scored before this process looked. */
  readonly samplesBefore: number;
  /** Since it began to look. */
  readonly elapsedMs: number;
  /** The scores so far; undefined before the first. */
  readonly summary: EvaluationSummary | undefined;
}

const LABEL_WIDTH = 32;
const DIGITS = 4;
const CELL_WIDTH = 11;

function progressLine(progress: RunProgress): string {
  const means = meansOf(progress.summary).map(({ label, cells }) => `; ${label} ${cells.join('/')}`);
  return `${counts(progress)}${means.join('')}`;
}

/** A bar, and a line for each variant. */
function progressBlock(progress: RunProgress): readonly string[] {
  const { samplesDone, samplesTotal } = progress;
  const bar = progressBar(samplesDone, samplesTotal);
  const means = meansOf(progress.summary);
  const width = Math.min(LABEL_WIDTH, Math.max(0, ...means.map(({ label }) => label.length)));
  const row = (label: string, cells: readonly string[]): string =>
    `${label.slice(0, width).padEnd(width)}${cells.map((cell) => cell.padStart(CELL_WIDTH)).join('')}`;
  const table = means.map(({ label, cells }) => row(label, cells));
  return [`${bar} ${counts(progress)}`, ...(means.length === 0 ? [] : [row('', metricNames), ...table])];
}

function counts({ samplesDone, samplesTotal, samplesBefore, elapsedMs }: RunProgress): string {
  const pace = { done: samplesDone, total: samplesTotal, before: samplesBefore, elapsedMs };
  return `${samplesDone} of ${samplesTotal} samples${paceText(pace, (perSecond) => perSecond.toFixed(1))}`;
}

function meansOf(
  summary: EvaluationSummary | undefined,
): readonly { readonly label: string; readonly cells: readonly string[] }[] {
  if (summary === undefined || summary.sampleCount === 0) return [];
  return summary.variants.map(({ label, metrics }) => ({
    label: printable(label),
    cells: metrics.map(({ mean }) => mean.toFixed(DIGITS)),
  }));
}

export const evaluationViews: ProgressViews<RunProgress> = { line: progressLine, block: progressBlock };
