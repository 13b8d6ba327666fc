/**
 * Whether loading an adapter holds up the requests that run: the time between two tokens of one of them, while nothing
 * comes, while a request with an adapter that is in memory joins, while the largest adapter is loaded, and while the
 * first request with that one joins.
 */
import type { Services } from '../context.ts';
import { invariant } from '../runtime/errors.ts';
import type { ServedModel } from '../runtime/models/served-model.ts';
import { greedyParams } from './swap-requests.ts';

/** Milliseconds between two tokens, in the serving thread. */
export interface StepTimes {
  readonly alone: readonly number[];
  readonly joining: readonly number[];
  readonly loading: readonly number[];
  readonly arriving: readonly number[];
}

type StepPhase = keyof StepTimes;

export interface StepOptions {
  readonly services: Services;
  readonly model: ServedModel;
  /** Adapters in memory: the first is that of the requests that run, the second that of the one that joins. */
  readonly adapterIds: readonly string[];
  /** Of the adapter that is loaded again and again, and of its id. */
  readonly largest: { readonly id: string; readonly source: string };
  readonly promptTokenIds: readonly number[];
  readonly besideCount: number;
  readonly roundCount: number;
  readonly signal: AbortSignal;
}

const RUNNING_TOKENS = 256;
const STEPS_ALONE = 40;
/** Of requests that join: little to encode, since the encoder's run is not what is measured. */
const JOINING_SOURCE_TOKENS = 16;

/** The steps of a request that runs again and again. */
class StepClock {
  readonly times: Record<StepPhase, number[]> = { alone: [], joining: [], loading: [], arriving: [] };
  phase: StepPhase | undefined;
  private last: number | undefined;
  private readonly waiting: { left: number; resolve: () => void }[] = [];

  /** Called with each token. */
  tick(): void {
    const now = performance.now();
    if (this.last !== undefined && this.phase !== undefined) this.times[this.phase].push(now - this.last);
    this.last = now;
    for (const waiter of [...this.waiting]) {
      if (--waiter.left > 0) continue;
      this.waiting.splice(this.waiting.indexOf(waiter), 1);
      waiter.resolve();
    }
  }

  /** The next token is the first of another request. */
  pause(): void {
    this.last = undefined;
  }

  /** Resolves after so many steps. */
  steps(count: number): Promise<void> {
    return new Promise((resolve) => this.waiting.push({ left: count, resolve }));
  }
}

/** The largest adapter is in service before and after; it ends early with the signal. */
export async function measureSteps(options: StepOptions): Promise<StepTimes> {
  const { services, model, largest, besideCount, roundCount, signal } = options;
  const clock = new StepClock();
  const ending = new AbortController();
  const [runningId = '', joiningId = ''] = options.adapterIds;
  const running = Array.from({ length: besideCount }, (_, index) =>
    keepRunning(options, { index, id: runningId, signal: ending.signal, clock: index === 0 ? clock : undefined }),
  );
  try {
    for (let round = 0; round < roundCount && !signal.aborted; round++) {
      await services.adapters.unload(largest.id);
      clock.phase = 'alone';
      await clock.steps(STEPS_ALONE);
      clock.phase = 'joining';
      await firstToken(options, joiningId, `joining-${round}`);
      clock.phase = 'loading';
      await services.adapters.load({ id: largest.id, modelId: model.id, source: largest.source });
      clock.phase = 'arriving';
      await firstToken(options, largest.id, `arriving-${round}`);
      clock.phase = undefined;
    }
  } finally {
    ending.abort();
    await Promise.all(running);
  }
  return clock.times;
}

interface Running {
  readonly index: number;
  readonly id: string;
  readonly signal: AbortSignal;
  readonly clock: StepClock | undefined;
}

async function keepRunning(options: StepOptions, { index, id, signal, clock }: Running): Promise<void> {
  const { services, model, promptTokenIds } = options;
  const lease = services.adapters.acquire(model, [{ id }]);
  try {
    await lease.use(async (adapters) => {
      for (let count = 0; !signal.aborted; count++) {
        const params = greedyParams(RUNNING_TOKENS, model.maxRows);
        const stream = clock !== undefined;
        const request = { id: `running-${index}-${count}`, promptTokenIds, params, adapters, stream };
        clock?.pause();
        await model.engine.generate(request, { signal, onTokens: () => clock?.tick() });
      }
    });
  } finally {
    lease.release();
  }
}

/** Resolves when a request with that adapter has its first token, which is all it asks for. */
async function firstToken({ services, model, promptTokenIds }: StepOptions, id: string, name: string): Promise<void> {
  const lease = services.adapters.acquire(model, [{ id }]);
  try {
    const answer = await lease.use((adapters) =>
      model.engine.generate({
        id: name,
        promptTokenIds: promptTokenIds.slice(0, JOINING_SOURCE_TOKENS),
        params: greedyParams(1, model.maxRows),
        adapters,
        stream: false,
      }),
    );
    invariant(answer?.sequences[0]?.tokens.length === 1, 'a request has its token');
  } finally {
    lease.release();
  }
}
