/** Evaluation runs as the API, the command line and exports see them. */
import {
  cursorAfterEnd,
  cursorOf,
  cursorOfAnother,
  type EventCursor,
  readEventCursor,
} from '../../jobs/event-cursor.ts';
import type { EventFeed } from '../../jobs/event-feed.ts';
import type { JobQueue } from '../../jobs/queue.ts';
import { checkFirst, checkKey, settled, unknownRun } from '../../jobs/run-requests.ts';
import { RuntimeError } from '../../runtime/errors.ts';
import type { Connection } from '../../storage/database.ts';
import type { DatasetSample } from '../../storage/dataset-columns.ts';
import type { StoredEvaluation, StoredSample } from '../../storage/evaluation-rows.ts';
import type { EvaluationStore } from '../../storage/evaluation-store.ts';
import { isOver } from '../../storage/run-store.ts';
import { mostNewTokens, prepareComparison } from '../comparison.ts';
import { flipsFor } from '../statistics/run-statistics.ts';
import type { WorkTurns } from '../work.ts';
import type { EvaluationParts } from './evaluation-parts.ts';
import {
  checkSignPatterns,
  type EvaluationPlan,
  type EvaluationRequest,
  inOrder,
  planEvaluation,
  toComparison,
} from './evaluation-plan.ts';
import type { EvaluationSummaries, EvaluationSummary } from './evaluation-summaries.ts';
import { referencePlaces } from './run-rescoring.ts';
import { rescoredSignature, signatureOf } from './signature.ts';

export const EVALUATION_QUEUE = 'evaluations';
/** As messages call a run. */
export const EVALUATION = 'evaluation';

/** `cursor`: subscribing again behind it goes on with the next event. */
export type EvaluationEvent =
  | {
      readonly type: 'sample';
      readonly cursor: string;
      readonly evaluation: StoredEvaluation;
      readonly sample: StoredSample;
    }
  | {
      readonly type: 'scores';
      readonly cursor: string;
      readonly evaluation: StoredEvaluation;
      readonly summary: EvaluationSummary;
    }
  | { readonly type: 'finished'; readonly cursor: string; readonly evaluation: StoredEvaluation };

export interface RescoreRequest {
  readonly id: string;
  /** As in EvaluationRequest. */
  readonly references: readonly number[] | null;
  readonly useStemmer: boolean;
  /** As in EvaluationRequest; default: the other run's. */
  readonly signPatterns?: number;
}

interface Page<T> {
  readonly items: readonly T[];
  readonly hasMore: boolean;
  readonly totalCount: number;
}

interface EvaluationsParts extends EvaluationParts {
  readonly store: EvaluationStore;
  readonly queue: JobQueue;
  readonly feed: EventFeed<StoredEvaluation, StoredSample>;
  readonly summaries: EvaluationSummaries;
  readonly turns: WorkTurns;
  /** Ends those who follow runs; they go on elsewhere, or later. */
  readonly stopping: AbortSignal;
}

/** Milliseconds between two `scores` events of one reader. */
const SCORES_EVERY_MS = 500;
/** Samples of an export that are in memory at a time. */
const EXPORT_PAGE = 50;

export class Evaluations {
  constructor(private readonly parts: EvaluationsParts) {}

  /**
   * Queues a run. Everything that can be refused is refused before: the errors of datasets and of `compare`, and
   * CONFLICT for a key that belongs to a run of another request.
   */
  async start(request: EvaluationRequest, idempotencyKey: string | null): Promise<StoredEvaluation> {
    checkKey(idempotencyKey);
    checkSignPatterns(request);
    const known = await this.knownRun(idempotencyKey, request);
    if (known !== undefined) return known;
    const selection = await this.parts.datasets.open(request);
    // a repository of the hub may be another one when the run goes on
    const plan = planEvaluation(this.parts, { ...request, dataset: selection.dataset.id });
    await this.trySamples(plan, selection.samples());
    return await this.create({
      asked: request,
      idempotencyKey: idempotencyKey ?? undefined,
      request: plan,
      signature: await signatureOf(this.parts, plan, selection),
      dataset: plan.dataset,
      split: plan.split,
      fingerprint: selection.sha256,
      samplesTotal: selection.indexes.length,
    });
  }

  /**
   * Queues a run that scores the texts of another one with other settings. Throws NOT_FOUND, CONFLICT for a run that has
   * not succeeded, BAD_USER_INPUT for references that it was not scored against.
   */
  async rescore(request: RescoreRequest, idempotencyKey: string | null): Promise<StoredEvaluation> {
    checkKey(idempotencyKey);
    checkSignPatterns(request);
    const known = await this.knownRun(idempotencyKey, request);
    if (known !== undefined) return known;
    const source = await this.find(request.id);
    if (source.status !== 'succeeded') {
      const message = `Expected an evaluation that has succeeded, ${source.id} is ${source.status}. Wait for it, or choose another.`;
      throw new RuntimeError('CONFLICT', message, { argument: 'id' });
    }
    const plan = source.request as EvaluationPlan;
    const wanted = request.references ?? plan.references;
    await this.checkReferences(source, plan, wanted);
    const references = inOrder(wanted);
    const { useStemmer, signPatterns = plan.signPatterns ?? flipsFor(plan.variants.length) } = request;
    const rescored: EvaluationPlan = { ...plan, references, useStemmer, signPatterns };
    return await this.create({
      asked: request,
      idempotencyKey: idempotencyKey ?? undefined,
      request: rescored,
      signature: rescoredSignature(source.signature, rescored, referencePlaces(plan.references, references)),
      dataset: source.dataset,
      split: source.split,
      fingerprint: source.fingerprint,
      samplesTotal: source.samplesTotal,
      rescoredFrom: source.id,
    });
  }

  /** Ends within one sample; one that is over stays as it is. Throws NOT_FOUND. */
  async cancel(id: string): Promise<StoredEvaluation> {
    return (await this.parts.store.requestCancel(id)) ?? (await this.find(id));
  }

  get(id: string): Promise<StoredEvaluation | undefined> {
    return this.parts.store.get(id);
  }

  /** Newest first, from the one behind ordinal `before` on. */
  async list(first: number, before?: number): Promise<Page<StoredEvaluation>> {
    checkFirst(first);
    const { store } = this.parts;
    const found = await store.list(first + 1, before);
    return { items: found.slice(0, first), hasMore: found.length > first, totalCount: await store.count() };
  }

  /** In the dataset's order, from the one behind index `after` on. */
  async samples({ id, samplesDone }: StoredEvaluation, first: number, after?: number): Promise<Page<StoredSample>> {
    checkFirst(first);
    const found = await this.parts.store.samples(id, first + 1, after);
    return { items: found.slice(0, first), hasMore: found.length > first, totalCount: samplesDone };
  }

  /** All samples in the dataset's order, a page at a time. Throws NOT_FOUND. */
  async *allSamples(id: string): AsyncGenerator<StoredSample> {
    const { store } = this.parts;
    await this.find(id);
    for (let after = -1; ; ) {
      const page = await store.samples(id, EXPORT_PAGE, after);
      yield* page;
      const last = page.at(-1);
      if (last === undefined) return;
      after = last.index;
    }
  }

  summary(evaluation: StoredEvaluation): Promise<EvaluationSummary> {
    return this.parts.summaries.of(evaluation);
  }

  /**
   * Every sample behind the cursor in the order of scoring and once, now and then `scores`; then the final `scores`, where
   * there are any, and `finished`. Each comes in a turn of the event loop of its own, so that many who follow hold it no
   * longer than one. Throws NOT_FOUND, and BAD_USER_INPUT for a cursor that is none of this run's.
   */
  async *events(id: string, after: string | null, signal: AbortSignal): AsyncGenerator<EvaluationEvent, void, void> {
    for await (const event of this.told(id, after, signal)) {
      await this.parts.turns.next();
      yield event;
    }
  }

  /** Throws NOT_FOUND. */
  async find(id: string): Promise<StoredEvaluation> {
    const evaluation = await this.parts.store.get(id);
    if (evaluation !== undefined) return evaluation;
    throw unknownRun(EVALUATION, id);
  }

  private async *told(
    id: string,
    after: string | null,
    signal: AbortSignal,
  ): AsyncGenerator<EvaluationEvent, void, void> {
    const { feed, summaries, clock, stopping } = this.parts;
    const start = readEventCursor(after);
    checkReached(start, await this.find(id));
    if (start.isEnd) return;
    let nextScores = Number.NEGATIVE_INFINITY;
    let last = start.sequence;
    let told: EvaluationSummary | undefined;
    for await (const event of feed.follow(id, start.sequence, AbortSignal.any([signal, stopping]))) {
      const { run: evaluation } = event;
      if (event.type === 'item') {
        last = event.item.sequence;
        yield { type: 'sample', cursor: cursorOf(last), evaluation, sample: event.item };
        // those of a run that is over come before its end
        if (isOver(evaluation) || clock.now() < nextScores) continue;
      }
      if (last > 0) {
        const summary = await summaries.of(evaluation);
        // who looked a moment ago gets the same summary again, which is no news
        if (summary !== told) yield { type: 'scores', cursor: cursorOf(last), evaluation, summary };
        told = summary;
        nextScores = clock.now() + SCORES_EVERY_MS;
      }
      if (event.type === 'over') yield { type: 'finished', cursor: cursorAfterEnd(last), evaluation };
    }
  }

  private async knownRun(key: string | null, asked: unknown): Promise<StoredEvaluation | undefined> {
    if (key === null) return undefined;
    const known = await this.parts.store.findByKey(key, asked);
    return known && settled(EVALUATION, known);
  }

  private async create(evaluation: Parameters<EvaluationStore['create']>[0]): Promise<StoredEvaluation> {
    const { store, queue } = this.parts;
    const enqueue = (connection: Connection, id: string): Promise<void> => queue.send(connection, EVALUATION_QUEUE, id);
    return settled(EVALUATION, await store.create(evaluation, enqueue));
  }

  /** The first sample, prepared and not run, shows what is wrong with the variants; each one may have too long references. */
  private async trySamples(plan: EvaluationPlan, samples: AsyncGenerator<DatasetSample>): Promise<void> {
    const { models, rouge } = this.parts;
    let wordCount: number | undefined;
    for await (const sample of samples) {
      const comparison = toComparison(plan, sample);
      if (wordCount === undefined) (await prepareComparison(this.parts, comparison)).discard();
      wordCount ??= mostNewTokens(models, comparison.variants);
      // at worst each word is on a line of its own
      await ofSample(sample.id, () => rouge.checkReferences(sample.references, wordCount ?? 0, wordCount ?? 0));
    }
  }

  private async checkReferences(
    source: StoredEvaluation,
    { references: scored }: EvaluationPlan,
    wanted: readonly number[] | null,
  ): Promise<void> {
    const [first] = await this.parts.store.samples(source.id, 1);
    const count = first?.references.length ?? 0;
    const there = scored ?? Array.from({ length: count }, (_, index) => index);
    const places = referencePlaces(scored, wanted) ?? [];
    const twice = new Set(wanted ?? there).size < (wanted ?? there).length;
    if (wanted?.length !== 0 && !twice && places.every((place) => place >= 0 && place < count)) return;
    const message = `Expected different references of those that the run was scored against (${there.join(', ')}), ${wanted?.join(', ') || 'none'} came.`;
    throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'references' });
  }
}

async function ofSample(id: string, check: () => Promise<void>): Promise<void> {
  try {
    await check();
  } catch (error) {
    if (!(error instanceof RuntimeError)) throw error;
    const message = `Sample ${JSON.stringify(id)}: ${error.message}`;
    throw new RuntimeError(error.code, message, error.details, { cause: error });
  }
}

function checkReached({ sequence, isEnd }: EventCursor, evaluation: StoredEvaluation): void {
  const { id, samplesDone } = evaluation;
  if (isEnd ? isOver(evaluation) && sequence === samplesDone : sequence <= samplesDone) return;
  throw cursorOfAnother(EVALUATION, id);
}
