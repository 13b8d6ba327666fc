/** How far a run is, on a terminal as lines that are drawn anew, elsewhere as a line every few seconds. */
import type { EvaluationSummary } from '../evaluation/runs/evaluation-summaries.ts';
import { metricNames } from './evaluation-report.ts';
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

/** What a process's stderr is. */
export interface ProgressOutput {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

const BAR_WIDTH = 30;
const LABEL_WIDTH = 32;
const DEFAULT_COLUMNS = 80;
const DRAW_EVERY_MS = 100;
const LINE_EVERY_MS = 5000;
const DIGITS = 4;
const CELL_WIDTH = 11;

export class ProgressDisplay {
  private drawnLines = 0;
  private nextMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly output: ProgressOutput,
    /** Milliseconds since any moment. */
    private readonly now: () => number,
  ) {}

  /** Shows it unless something was shown a moment ago. */
  show(progress: RunProgress): void {
    const now = this.now();
    if (now < this.nextMs) return;
    const { isTTY, columns = DEFAULT_COLUMNS } = this.output;
    this.nextMs = now + (isTTY ? DRAW_EVERY_MS : LINE_EVERY_MS);
    if (!isTTY) {
      this.output.write(`${progressLine(progress)}\n`);
      return;
    }
    const lines = progressBlock(progress).map((line) => line.slice(0, columns - 1));
    this.output.write(`${this.erasure()}${lines.join('\n')}\n`);
    this.drawnLines = lines.length;
  }

  /** A message in its place; what is shown next stands below. */
  say(message: string): void {
    this.output.write(`${this.erasure()}${printable(message)}\n`);
    this.drawnLines = 0;
    if (this.output.isTTY) this.nextMs = Number.NEGATIVE_INFINITY;
  }

  /** Leaves nothing of the drawing. */
  clear(): void {
    this.output.write(this.erasure());
    this.drawnLines = 0;
  }

  private erasure(): string {
    return this.drawnLines === 0 ? '' : `\u001B[${this.drawnLines}A\u001B[0J`;
  }
}

/** For a log. */
export function progressLine(progress: RunProgress): string {
  const means = meansOf(progress.summary).map(({ label, cells }) => `; ${label} ${cells.join('/')}`);
  return `${counts(progress)}${means.join('')}`;
}

/** For a terminal: a bar, and a line for each variant. */
export function progressBlock(progress: RunProgress): readonly string[] {
  const { samplesDone, samplesTotal } = progress;
  const full = samplesTotal === 0 ? 0 : Math.floor((BAR_WIDTH * samplesDone) / samplesTotal);
  const bar = `${'█'.repeat(full)}${'░'.repeat(BAR_WIDTH - full)}`;
  const means = meansOf(progress.summary);
  const width = Math.min(LABEL_WIDTH, Math.max(0, ...means.map(({ label }) => label.length)));
  const row = (label: string, cells: readonly string[]): string =>
    `${label.slice(0, width).padEnd(width)}${cells.map((cell) => cell.padStart(CELL_WIDTH)).join('')}`;
  const table = means.map(({ label, cells }) => row(label, cells));
  return [`${bar} ${counts(progress)}`, ...(means.length === 0 ? [] : [row('', metricNames), ...table])];
}

function counts({ samplesDone, samplesTotal, samplesBefore, elapsedMs }: RunProgress): string {
  const scored = samplesDone - samplesBefore;
  const share = `${samplesDone} of ${samplesTotal} samples`;
  if (scored <= 0 || elapsedMs <= 0) return share;
  const perSecond = (1000 * scored) / elapsedMs;
  return `${share}, ${perSecond.toFixed(1)} a second, ${duration((samplesTotal - samplesDone) / perSecond)} left`;
}

function duration(seconds: number): string {
  const whole = Math.ceil(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
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
