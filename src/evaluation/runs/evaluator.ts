/**
 * Works on runs: generates, scores and stores sample by sample. Which samples are missing is read from the rows, so a
 * run that a process left goes on where it was, in whichever process takes it up.
 */

import type { Notifications } from '../../jobs/notifications.ts';
import type { Job, JobHandler } from '../../jobs/queue.ts';
import type { DatasetSelection } from '../../runtime/datasets/dataset-selection.ts';
import { type ErrorCode, RuntimeError } from '../../runtime/errors.ts';
import type { DatasetSample } from '../../storage/dataset-columns.ts';
import type { NewSample, StoredEvaluation, StoredOutput, StoredSample } from '../../storage/evaluation-rows.ts';
import type { EvaluationStore } from '../../storage/evaluation-store.ts';
import { prepareComparison, type TextComparison } from '../comparison.ts';
import type { EvaluationParts } from './evaluation-parts.ts';
import { type EvaluationPlan, toVariant } from './evaluation-plan.ts';
import type { EvaluationSummaries } from './evaluation-summaries.ts';
import { checkSignature, signatureOf } from './signature.ts';

interface EvaluatorParts extends EvaluationParts {
  readonly store: EvaluationStore;
  readonly summaries: EvaluationSummaries;
  readonly notifications: Notifications;
  /** Rows that a model runs at once. */
  readonly maxRows: number;
}

/** Times in a row that a run is taken up without a sample scored in between: then it is what ends its process. */
const MOST_FRUITLESS_STARTS = 20;
/** Times that one sample is tried while the model is overloaded or restarting. */
const MOST_TRIES = 30;
const RETRY_MS = 1000;
const PASSING: readonly ErrorCode[] = ['OVERLOADED', 'TIMEOUT'];
/** Texts of a run that are scored again at a time. */
const RESCORED_PAGE = 50;

export class Evaluator {
  constructor(private readonly parts: EvaluatorParts) {}

  /** Takes a run up and works on it until it is over, or until the job's signal. */
  readonly work: JobHandler = async (job) => {
    const { store, summaries } = this.parts;
    const evaluation = await store.begin(job.id);
    if (evaluation === undefined) return;
    try {
      if (evaluation.fruitlessStarts > MOST_FRUITLESS_STARTS) throw endsProcesses();
      const isCancelled = await this.scoreAll(evaluation, job);
      if (job.signal.aborted) return;
      const summary = await summaries.final(evaluation);
      await (isCancelled ? store.cancel(job.id, summary) : store.finish(job.id, summary));
    } catch (error) {
      if (job.signal.aborted) return;
      // what is nobody's fault, a database out of reach for instance, is tried again
      if (!(error instanceof RuntimeError)) throw error;
      await store.fail(job.id, error.message);
    }
  };

  /** Returns whether the run was cancelled. */
  private async scoreAll(evaluation: StoredEvaluation, { signal }: Job): Promise<boolean> {
    const { store, notifications } = this.parts;
    const cancelling = new AbortController();
    if (evaluation.cancelRequested) return true;
    const look = (): void => {
      store.get(evaluation.id).then(
        (now) => {
          if (now?.cancelRequested === true) cancelling.abort();
        },
        // the next sample that is stored tells as well
        () => {},
      );
    };
    const unsubscribe = notifications.subscribe(evaluation.id, look);
    try {
      const add = async (sample: NewSample): Promise<void> => {
        const added = await store.addSample(evaluation.id, sample);
        if (added?.cancelRequested === true) cancelling.abort();
      };
      const stopping = AbortSignal.any([signal, cancelling.signal]);
      if (evaluation.rescoredFrom === null) await this.generateAll(evaluation, add, stopping);
      else await this.rescoreAll(evaluation, evaluation.rescoredFrom, { add, stopping });
    } finally {
      unsubscribe();
    }
    return cancelling.signal.aborted;
  }

  private async generateAll(
    evaluation: StoredEvaluation,
    add: (sample: NewSample) => Promise<void>,
    stopping: AbortSignal,
  ): Promise<void> {
    const plan = evaluation.request as EvaluationPlan;
    const selection = await this.open(evaluation, plan);
    const done = await this.parts.store.doneIndexes(evaluation.id);
    const places = new Map([...selection.indexes].map((index, place) => [index, place]));
    const placeOf = (index: number): number => places.get(index) ?? -1;
    const failing = new AbortController();
    const signal = AbortSignal.any([stopping, failing.signal]);
    const running = new Set<Promise<void>>();
    const most = this.samplesAtOnce(plan);
    for await (const sample of selection.samples((index) => !done.has(placeOf(index)))) {
      while (running.size >= most) await Promise.race(running);
      if (signal.aborted) break;
      const task = this.generate(plan, sample, signal)
        .then(async (comparison) => {
          if (comparison !== undefined) await add(toSample(sample, placeOf(sample.index), comparison));
        })
        .catch((error: unknown) => failing.abort(error))
        .finally(() => running.delete(task));
      running.add(task);
    }
    await Promise.all(running);
    failing.signal.throwIfAborted();
  }

  /** Sees that all is in service and as it was when the run was made. */
  private async open(evaluation: StoredEvaluation, plan: EvaluationPlan): Promise<DatasetSelection> {
    const { models, datasets } = this.parts;
    const selection = await datasets.open(plan);
    for (const { model } of plan.variants) {
      const served = models.find(model.id) ?? (await models.load(model));
      if (served.source === model.source) continue;
      const message = `Expected model ${model.id} to be ${model.source}, as the run began, ${served.source} has that id now. Start a new run.`;
      throw new RuntimeError('CONFLICT', message);
    }
    checkSignature(evaluation.signature, await signatureOf(this.parts, plan, selection));
    return selection;
  }

  /** Enough that the model's rows are taken while the texts of the next samples are prepared. */
  private samplesAtOnce({ variants }: EvaluationPlan): number {
    const { models, maxRows } = this.parts;
    let rows = 0;
    for (const { model, decoding } of variants) {
      const defaults = models.get(model.id).generationDefaults;
      rows += Math.max(decoding.numBeams ?? defaults.numBeams ?? 1, decoding.numReturnSequences ?? 1);
    }
    return Math.max(2, Math.ceil((2 * maxRows) / rows));
  }

  /** All variants of one sample together; tried again while the model cannot take it. Undefined: it was stopped. */
  private async generate(
    plan: EvaluationPlan,
    { text, references }: DatasetSample,
    signal: AbortSignal,
  ): Promise<TextComparison | undefined> {
    const { useStemmer } = plan;
    const request = { text, references, useStemmer, variants: plan.variants.map(toVariant), logprobs: false };
    for (let tries = 1; !signal.aborted; tries++) {
      try {
        const prepared = await prepareComparison(this.parts, request);
        const comparison = await prepared.run({ signal, priority: 'background' });
        return signal.aborted ? undefined : comparison;
      } catch (error) {
        if (signal.aborted) return undefined;
        if (!passes(error) || tries === MOST_TRIES) throw error;
        await this.wait(error.details.retryAfterMs ?? RETRY_MS, signal);
      }
    }
    return undefined;
  }

  private async rescoreAll(
    evaluation: StoredEvaluation,
    from: string,
    { add, stopping }: { readonly add: (sample: NewSample) => Promise<void>; readonly stopping: AbortSignal },
  ): Promise<void> {
    const { store } = this.parts;
    const plan = evaluation.request as EvaluationPlan;
    const source = await store.get(from);
    const places = referencePlaces(
      (source?.request as EvaluationPlan | undefined)?.references ?? null,
      plan.references,
    );
    const done = await store.doneIndexes(evaluation.id);
    let after = -1;
    for (;;) {
      const page = await store.samples(from, RESCORED_PAGE, after);
      for (const sample of page) {
        if (stopping.aborted) return;
        if (!done.has(sample.index)) await add(await this.rescore(sample, plan, places));
        after = sample.index;
      }
      if (page.length < RESCORED_PAGE) return;
    }
  }

  private async rescore(
    sample: StoredSample,
    { useStemmer }: EvaluationPlan,
    places: readonly number[] | undefined,
  ): Promise<NewSample> {
    const references = places?.map((place) => sample.references[place] ?? '') ?? sample.references;
    const outputs: StoredOutput[] = [];
    for (const output of sample.outputs) {
      const request = { prediction: output.summary, references, useStemmer };
      const { warnings, ...rouge } = await this.parts.rouge.scoreInTurns(request);
      outputs.push({ ...output, rouge, warnings });
    }
    return { ...sample, references, outputs };
  }

  private wait(delayMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.parts.clock.after(delayMs, done);
      signal.addEventListener('abort', done);
      function done(): void {
        cancel();
        signal.removeEventListener('abort', done);
        resolve();
      }
    });
  }
}

/** Where the references `wanted` lie among those that a run was scored against; undefined: all of them are wanted. */
export function referencePlaces(
  scored: readonly number[] | null,
  wanted: readonly number[] | null,
): readonly number[] | undefined {
  return wanted === null ? undefined : wanted.map((index) => (scored === null ? index : scored.indexOf(index)));
}

function toSample({ id, text, references }: DatasetSample, index: number, comparison: TextComparison): NewSample {
  const outputs = comparison.summaries.flatMap(({ label, summary, rouge }): StoredOutput[] => {
    if (rouge === null) return [];
    const { usage, timing } = summary.generation;
    const latencyMs = timing.totalMs - timing.queuedMs;
    const { warnings, ...scores } = rouge;
    const { completionTokens } = usage;
    return [{ label, summary: summary.text, completionTokens, latencyMs, rouge: scores, warnings }];
  });
  return { index, sampleId: id, text, references, outputs };
}

/** Whether the same may succeed later. */
function passes(error: unknown): error is RuntimeError {
  if (!(error instanceof RuntimeError)) return false;
  return (
    PASSING.includes(error.code) || (error.code === 'MODEL_UNAVAILABLE' && error.details.retryAfterMs !== undefined)
  );
}

function endsProcesses(): RuntimeError {
  const message = `Expected samples to be scored, but the run was taken up ${MOST_FRUITLESS_STARTS} times and no process lived to score one. See what ended them, then start a new run.`;
  return new RuntimeError('INTERNAL_SERVER_ERROR', message);
}
