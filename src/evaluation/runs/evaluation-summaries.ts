/** What the scores of a run say so far: computed from its rows, wherever the run is worked on. */
import type { Clock } from '../../runtime/engine/clock.ts';
import type { StoredEvaluation } from '../../storage/evaluation-rows.ts';
import type { EvaluationStore } from '../../storage/evaluation-store.ts';
import { isOver } from '../../storage/run-store.ts';
import {
  type Effort,
  FINAL_EFFORT,
  LIVE_EFFORT,
  RunStatistics,
  type RunSummary,
  type VariantStatistics,
} from '../statistics/run-statistics.ts';
import type { WorkTurns } from '../work.ts';
import type { EvaluationPlan } from './evaluation-plan.ts';

interface VariantSummary extends VariantStatistics {
  readonly meanSummaryTokens: number;
  /** Of one request among those that ran beside it: completion tokens over the time that they took. */
  readonly tokensPerSecond: number;
}

export interface EvaluationSummary extends RunSummary {
  readonly variants: readonly VariantSummary[];
}

/** Runs whose scores are kept for the next look. */
const KEPT_RUNS = 16;
/** Statistics take no more than about this share of the time while many look at a run. */
const WORK_SHARE = 0.05;
const LEAST_PAUSE_MS = 250;

interface SummariesParts {
  readonly store: EvaluationStore;
  readonly turns: WorkTurns;
  readonly clock: Clock;
}

export class EvaluationSummaries {
  /** In order of last use. */
  private readonly runs = new Map<string, RunScores>();

  constructor(private readonly parts: SummariesParts) {}

  /** The final statistics of a run that is over; else those of a fraction of a second ago. */
  async of(evaluation: StoredEvaluation): Promise<EvaluationSummary> {
    if (isOver(evaluation) && evaluation.summary !== null) return evaluation.summary as EvaluationSummary;
    const run = this.runs.get(evaluation.id) ?? new RunScores(evaluation, this.parts);
    this.runs.delete(evaluation.id);
    this.runs.set(evaluation.id, run);
    const [oldest] = this.runs.keys();
    if (this.runs.size > KEPT_RUNS && oldest !== undefined) this.runs.delete(oldest);
    return await run.look(evaluation.samplesDone);
  }

  /** From all samples of a run that scores no more. */
  async final(evaluation: StoredEvaluation): Promise<EvaluationSummary> {
    this.runs.delete(evaluation.id);
    const { signPatterns: flipCount = FINAL_EFFORT.flipCount } = evaluation.request as EvaluationPlan;
    return await new RunScores(evaluation, this.parts).summarize({ ...FINAL_EFFORT, flipCount });
  }
}

class RunScores {
  private readonly labels: readonly string[];
  private readonly statistics: RunStatistics;
  private readonly tokens: number[];
  private readonly milliseconds: number[];
  private lastSequence = 0;
  private latest: { readonly summary: Promise<EvaluationSummary>; readonly sampleCount: number } | undefined;
  private nextLook = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly evaluation: StoredEvaluation,
    private readonly parts: SummariesParts,
  ) {
    const { variants } = evaluation.request as EvaluationPlan;
    this.labels = variants.map(({ label }) => label);
    this.statistics = new RunStatistics({ labels: this.labels, sampleCount: evaluation.samplesTotal });
    this.tokens = this.labels.map(() => 0);
    this.milliseconds = this.labels.map(() => 0);
  }

  /** All who look at once share one look. */
  async look(sampleCount: number): Promise<EvaluationSummary> {
    const { clock } = this.parts;
    const { latest } = this;
    if (latest !== undefined && (latest.sampleCount >= sampleCount || clock.now() < this.nextLook)) {
      return await latest.summary;
    }
    const start = clock.now();
    this.nextLook = Number.POSITIVE_INFINITY;
    const summary = this.summarize(LIVE_EFFORT).finally(() => {
      const now = clock.now();
      this.nextLook = now + Math.max(LEAST_PAUSE_MS, (now - start) / WORK_SHARE);
    });
    this.latest = { summary, sampleCount };
    try {
      return await summary;
    } catch (error) {
      this.latest = undefined;
      throw error;
    }
  }

  async summarize(effort: Effort): Promise<EvaluationSummary> {
    const rows = await this.parts.store.scoresSince(this.evaluation.id, this.lastSequence);
    for (const { index, sequence, scores, completionTokens, latenciesMs } of rows) {
      this.statistics.add(index, scores);
      this.lastSequence = sequence;
      for (const [variant, count] of completionTokens.entries()) {
        this.tokens[variant] = (this.tokens[variant] ?? 0) + count;
        this.milliseconds[variant] = (this.milliseconds[variant] ?? 0) + (latenciesMs[variant] ?? 0);
      }
    }
    const tokens = [...this.tokens];
    const milliseconds = [...this.milliseconds];
    const summary = await this.parts.turns.finish(this.statistics.summarize(effort));
    const variants = summary.variants.map((variant, index) => ({
      ...variant,
      meanSummaryTokens: ratio(tokens[index], summary.sampleCount),
      tokensPerSecond: 1000 * ratio(tokens[index], milliseconds[index] ?? 0),
    }));
    return { ...summary, variants };
  }
}

function ratio(part = 0, whole = 0): number {
  return whole > 0 ? part / whole : 0;
}
