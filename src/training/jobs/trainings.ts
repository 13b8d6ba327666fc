/** Trainings as the API and the command line see them. */
import { cursorAfterEnd, cursorOf, cursorOfAnother, readEventCursor } from '../../jobs/event-cursor.ts';
import type { EventFeed } from '../../jobs/event-feed.ts';
import type { JobQueue } from '../../jobs/queue.ts';
import { checkFirst, checkKey, settled, unknownRun } from '../../jobs/run-requests.ts';
import { RuntimeError } from '../../runtime/errors.ts';
import { isOver } from '../../storage/run-store.ts';
import type { StoredTraining, StoredTrainingEvent } from '../../storage/training-rows.ts';
import type { TrainingStore } from '../../storage/training-store.ts';
import { outputTaken } from './training-output.ts';
import type { TrainingParts } from './training-parts.ts';
import { planTraining } from './training-plan.ts';
import type { TrainingRequest } from './training-request.ts';

export const TRAINING_QUEUE = 'trainings';
/** As messages call a run. */
export const TRAINING = 'training';

/** `cursor`: subscribing again behind it goes on with the next event. `measured`: undefined when the run is over. */
export interface TrainingEvent {
  readonly cursor: string;
  readonly training: StoredTraining;
  readonly measured: StoredTrainingEvent | undefined;
}

interface TrainingsParts extends TrainingParts {
  readonly store: TrainingStore;
  readonly queue: JobQueue;
  readonly feed: EventFeed<StoredTraining, StoredTrainingEvent>;
  /** Ends those who follow runs; they go on elsewhere, or later. */
  readonly stopping: AbortSignal;
}

export class Trainings {
  constructor(private readonly parts: TrainingsParts) {}

  /**
   * Queues a run. Everything that can be refused is refused before; CONFLICT for an output that is in use and for a key
   * that belongs to a run of another request.
   */
  async start(request: TrainingRequest, idempotencyKey: string | null): Promise<StoredTraining> {
    checkKey(idempotencyKey);
    const { store, queue } = this.parts;
    const known = idempotencyKey === null ? undefined : await store.findByKey(idempotencyKey, request);
    if (known !== undefined) return settled(TRAINING, known);
    const { plan, ...facts } = await planTraining(this.parts, request);
    const training = { ...facts, idempotencyKey: idempotencyKey ?? undefined, asked: request, request: plan };
    const creation = await store.createWithOutput({ ...training, outputId: plan.outputId }, (connection, id) =>
      queue.send(connection, TRAINING_QUEUE, id),
    );
    if (creation.outcome === 'taken') throw inTraining(plan.outputId);
    return settled(TRAINING, creation);
  }

  /** Ends after a step, its last checkpoint kept; one that is over stays as it is. Throws NOT_FOUND. */
  async cancel(id: string): Promise<StoredTraining> {
    return (await this.parts.store.requestCancel(id)) ?? (await this.find(id));
  }

  /** Goes on with a run that failed or was cancelled, from its last checkpoint. Throws NOT_FOUND, CONFLICT for another. */
  async resume(id: string): Promise<StoredTraining> {
    const { store, queue } = this.parts;
    const resumed = await store.resume(id, (connection) => queue.sendAgain(connection, TRAINING_QUEUE, id));
    if (resumed === 'taken') throw inTraining((await this.find(id)).outputId);
    if (resumed !== undefined) return resumed;
    const { status } = await this.find(id);
    const message = `Expected a training that has failed or was cancelled, ${id} is ${status}. Choose another, or wait for it.`;
    throw new RuntimeError('CONFLICT', message, { argument: 'id' });
  }

  get(id: string): Promise<StoredTraining | undefined> {
    return this.parts.store.get(id);
  }

  /** Newest first. */
  async list(first: number): Promise<readonly StoredTraining[]> {
    checkFirst(first);
    return await this.parts.store.list(first);
  }

  /**
   * Every step and validation behind the cursor, in order and once, then the end. Throws NOT_FOUND, and BAD_USER_INPUT
   * for a cursor that the run has not reached.
   */
  async *events(id: string, after: string | null, signal: AbortSignal): AsyncGenerator<TrainingEvent, void, void> {
    const { feed, stopping } = this.parts;
    const start = readEventCursor(after);
    const training = await this.find(id);
    if (start.sequence > training.eventCount) throw cursorOfAnother(TRAINING, id);
    // a run that was resumed goes on behind its former end
    if (start.isEnd && isOver(training) && start.sequence === training.eventCount) return;
    let last = start.sequence;
    for await (const event of feed.follow(id, last, AbortSignal.any([signal, stopping]))) {
      if (event.type === 'item') {
        last = event.item.sequence;
        yield { cursor: cursorOf(last), training: event.run, measured: event.item };
      } else yield { cursor: cursorAfterEnd(last), training: event.run, measured: undefined };
    }
  }

  /** Throws NOT_FOUND. */
  async find(id: string): Promise<StoredTraining> {
    const training = await this.parts.store.get(id);
    if (training === undefined) throw unknownRun(TRAINING, id);
    return training;
  }
}

function inTraining(outputId: string): RuntimeError {
  return outputTaken(outputId, 'another training that is not over will make it');
}
