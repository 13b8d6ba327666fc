/** How far something is, on a terminal as lines that are drawn anew, elsewhere as a line every few seconds. */
import { printable } from './text-table.ts';

/** What a process's stderr is. */
export interface ProgressOutput {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

/** What there is to see of a state of things. */
export interface ProgressViews<Progress> {
  /** For a log. */
  readonly line: (progress: Progress) => string;
  /** For a terminal. */
  readonly block: (progress: Progress) => readonly string[];
}

const BAR_WIDTH = 30;
const DEFAULT_COLUMNS = 80;
const DRAW_EVERY_MS = 100;
const LINE_EVERY_MS = 5000;

export class ProgressDisplay<Progress> {
  private drawnLines = 0;
  private nextMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly output: ProgressOutput,
    /** Milliseconds since any moment. */
    private readonly now: () => number,
    private readonly views: ProgressViews<Progress>,
  ) {}

  /** Shows it unless something was shown a moment ago. */
  show(progress: Progress): void {
    const now = this.now();
    if (now < this.nextMs) return;
    const { isTTY, columns = DEFAULT_COLUMNS } = this.output;
    this.nextMs = now + (isTTY ? DRAW_EVERY_MS : LINE_EVERY_MS);
    if (!isTTY) {
      this.output.write(`${this.views.line(progress)}\n`);
      return;
    }
    const lines = this.views.block(progress).map((line) => line.slice(0, columns - 1));
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

export function progressBar(done: number, total: number): string {
  const full = total === 0 ? 0 : Math.floor((BAR_WIDTH * Math.min(done, total)) / total);
  return `${'█'.repeat(full)}${'░'.repeat(BAR_WIDTH - full)}`;
}

interface Pace {
  readonly done: number;
  readonly total: number;
  /** What was done before this process looked. */
  readonly before: number;
  /** Since it began to look. */
  readonly elapsedMs: number;
}

/** How fast it goes and how long it will take; nothing before that can be told. `rate` shows what is done a second. */
export function paceText({ done, total, before, elapsedMs }: Pace, rate: (perSecond: number) => string): string {
  if (done <= before || elapsedMs <= 0) return '';
  const perSecond = (1000 * (done - before)) / elapsedMs;
  return `, ${rate(perSecond)} a second, ${duration((total - done) / perSecond)} left`;
}

export function duration(seconds: number): string {
  const whole = Math.ceil(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
