/** The samples of a run: all variants answer each of them in the same batches, several samples at a time. */
import { setMaxListeners } from 'node:events';
import { openHere } from '../../jobs/not-here.ts';
import { patiently, serveModel } from '../../jobs/served-models.ts';
import type { DatasetSelection } from '../../runtime/datasets/dataset-selection.ts';
import type { DatasetSample } from '../../storage/dataset-columns.ts';
import type { NewSample, StoredEvaluation, StoredOutput } from '../../storage/evaluation-rows.ts';
import type { EvaluationStore } from '../../storage/evaluation-store.ts';
import { prepareComparison, type TextComparison } from '../comparison.ts';
import type { EvaluationParts } from './evaluation-parts.ts';
import { type EvaluationPlan, toComparison } from './evaluation-plan.ts';
import { checkSignature, checkVariant, signatureOf } from './signature.ts';

export interface GenerationParts extends EvaluationParts {
  readonly store: EvaluationStore;
  /** Rows that a model runs at once. */
  readonly maxRows: number;
  /** Requests that a model takes, interactive ones among them. */
  readonly maxQueue: number;
}

/** Where the samples of a run go. */
export interface SampleSink {
  /** Resolves when it is stored. */
  add(sample: NewSample): Promise<void>;
  /** Once aborted no more are wanted. */
  readonly signal: AbortSignal;
}

export class RunGeneration {
  private readonly plan: EvaluationPlan;
  /** When a sample was stored last. */
  private lastStored: number;

  constructor(
    private readonly parts: GenerationParts,
    private readonly evaluation: StoredEvaluation,
  ) {
    this.plan = evaluation.request as EvaluationPlan;
    this.lastStored = parts.clock.now();
  }

  /** Scores the samples that the run does not have yet, until the sink's signal. Settles when nothing runs any more. */
  async run(sink: SampleSink): Promise<void> {
    const selection = await openHere(() => this.open(sink.signal));
    if (selection === undefined) return;
    const done = await this.parts.store.doneIndexes(this.evaluation.id);
    const places = new Map([...selection.indexes].map((index, place) => [index, place]));
    const placeOf = (index: number): number => places.get(index) ?? -1;
    const failing = new AbortController();
    const signal = AbortSignal.any([sink.signal, failing.signal]);
    // every sample that has to wait listens to it
    setMaxListeners(0, signal);
    const running = new Set<Promise<void>>();
    const most = this.samplesAtOnce();
    try {
      for await (const sample of selection.samples((index) => !done.has(placeOf(index)))) {
        while (running.size >= most) await Promise.race(running);
        if (signal.aborted) break;
        const task = this.score(sample, placeOf(sample.index), { add: sink.add, signal })
          .catch((error: unknown) => failing.abort(error))
          .finally(() => running.delete(task));
        running.add(task);
      }
    } catch (error) {
      failing.abort(error);
    }
    await Promise.all(running);
    failing.signal.throwIfAborted();
  }

  /** Sees that all is in service and as it was when the run was made. Undefined: it was stopped. */
  private async open(signal: AbortSignal): Promise<DatasetSelection | undefined> {
    const { parts, plan } = this;
    const selection = await parts.datasets.open(plan);
    for (const { model } of plan.variants) {
      const served = await this.patiently(() => serveModel(parts.models, model), signal);
      if (served === undefined) return undefined;
    }
    checkSignature(this.evaluation.signature, await signatureOf(parts, plan, selection));
    return selection;
  }

  /** Enough that the models' rows are taken while the next samples are prepared, and half of the queue left to others. */
  private samplesAtOnce(): number {
    const { models, maxRows, maxQueue } = this.parts;
    const { variants } = this.plan;
    let rows = 0;
    for (const { model, decoding } of variants) {
      const defaults = models.get(model.id).generationDefaults;
      rows += Math.max(decoding.numBeams ?? defaults.numBeams ?? 1, decoding.numReturnSequences ?? 1);
    }
    const wanted = Math.max(2, Math.ceil((2 * maxRows) / rows));
    return Math.max(1, Math.min(wanted, Math.floor(maxQueue / 2 / variants.length)));
  }

  private async score(sample: DatasetSample, index: number, { add, signal }: SampleSink): Promise<void> {
    const comparison = await this.patiently(() => this.generate(sample, signal), signal);
    if (comparison === undefined || signal.aborted) return;
    await this.checkAnswers(comparison);
    await add(toSample(sample, index, comparison));
    this.lastStored = this.parts.clock.now();
  }

  private async generate(sample: DatasetSample, signal: AbortSignal): Promise<TextComparison> {
    const prepared = await prepareComparison(this.parts, toComparison(this.plan, sample));
    return await prepared.run({ signal, priority: 'background' });
  }

  /** An id may have become another adapter's or model's while the run goes on. */
  private async checkAnswers({ summaries }: TextComparison): Promise<void> {
    const { signature } = this.evaluation;
    for (const [place, { summary }] of summaries.entries()) {
      const variant = this.plan.variants[place];
      if (variant !== undefined) await checkVariant(signature, variant, summary.generation);
    }
  }

  private patiently<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T | undefined> {
    return patiently(work, { clock: this.parts.clock, signal, lastSuccess: () => this.lastStored });
  }
}

function toSample({ id, text, references }: DatasetSample, index: number, comparison: TextComparison): NewSample {
  const outputs = comparison.summaries.flatMap(({ label, summary, rouge }): StoredOutput[] => {
    if (rouge === null) return [];
    const { usage, timing } = summary.generation;
    const latencyMs = timing.totalMs - timing.queuedMs;
    const { warnings, ...scores } = rouge;
    const { completionTokens } = usage;
    const { text, truncated } = summary;
    return [{ label, summary: text, completionTokens, latencyMs, truncated, rouge: scores, warnings }];
  });
  return { index, sampleId: id, text, references, outputs };
}
