/**
 * Keeps the engine of one model alive: when its worker ends by itself, another is started, as RestartPolicy says.
 *
 * Requests that come while no worker lives are refused with OVERLOADED and the milliseconds until one is expected;
 * they do not wait for it. Nobody knows whether it comes back; each would hold its connection and run into its
 * deadline; /health/ready already sends clients elsewhere; and a request that ends workers, sent again and again,
 * would meet each new one among the first.
 */
import { RuntimeError } from '../errors.ts';
import type { Clock } from './clock.ts';
import type { EmbeddingLayer, EngineClient, EngineStatus, WorkerConnection } from './engine-client.ts';
import type { GenerateOptions, GenerationOutput, GenerationRequest } from './generation-request.ts';
import { defaultRestartRules, RestartPolicy, type RestartRules } from './restart-policy.ts';

/** What the owner of an engine may want to log. */
export type SupervisorEvent =
  | {
      readonly type: 'ended';
      readonly cause: unknown;
      readonly failureCount: number;
      /** Undefined: the model is being unloaded or the server stops, and no other worker is started. */
      readonly restartInMs: number | undefined;
    }
  | { readonly type: 'restarted'; readonly startMs: number }
  /** The last failure of too many in a row. */
  | { readonly type: 'given-up'; readonly cause: unknown; readonly failureCount: number };

export interface WorkerLife {
  /** Called once when a worker in service ends unasked; returns the error of the requests that it had. */
  readonly onEnded: (cause: Error) => RuntimeError;
  /** Aborted when the worker is not wanted any more while it starts. */
  readonly signal: AbortSignal;
}

export interface SupervisorOptions<Facts> {
  /** Starts a worker; resolves when it is in service. */
  readonly start: (life: WorkerLife) => Promise<{ readonly client: WorkerConnection; readonly facts: Facts }>;
  /** Once aborted no worker is started any more; absent: until `close`. */
  readonly stopping?: AbortSignal;
  readonly onEvent?: (event: SupervisorEvent) => void;
  /** Default: `defaultRestartRules`. */
  readonly rules?: RestartRules;
  readonly clock: Clock;
}

type State =
  | { readonly status: 'ready'; readonly client: WorkerConnection }
  | { readonly status: 'restarting'; readonly expectedAt: number; readonly cancelTimer: () => void }
  | { readonly status: 'draining'; readonly client: WorkerConnection | undefined }
  | { readonly status: 'failed' };

/** What clients are told to wait when the worker should be back by now. */
const LEAST_RETRY_MS = 100;
/** What clients of a model that goes are told to wait before they try another server. */
const DRAIN_RETRY_MS = 1000;

export class SupervisedEngine<Facts = unknown> implements EngineClient {
  private readonly clock: Clock;
  private readonly policy: RestartPolicy;
  private readonly leaving = new AbortController();
  private state: State;
  private starting: Promise<unknown> = Promise.resolve();
  private closed: Promise<void> | undefined;
  /** What the last start took: the next one will take as long. */
  private startMs = 0;
  private attempt = 0;

  private constructor(private readonly options: SupervisorOptions<Facts>) {
    this.clock = options.clock;
    this.policy = new RestartPolicy(options.rules ?? defaultRestartRules, () => this.clock.now());
    this.state = { status: 'restarting', expectedAt: this.clock.now(), cancelTimer: () => {} };
  }

  /** Resolves when the first worker is in service; rejects with what stands in its way, and starts no other then. */
  static async start<Facts>(
    options: SupervisorOptions<Facts>,
  ): Promise<{ readonly engine: SupervisedEngine<Facts>; readonly facts: Facts }> {
    const engine = new SupervisedEngine(options);
    const facts = await engine.launch();
    options.stopping?.addEventListener('abort', engine.retire, { once: true });
    return { engine, facts };
  }

  get status(): EngineStatus {
    return this.state.status;
  }

  get pendingCount(): number {
    return 'client' in this.state ? (this.state.client?.pendingCount ?? 0) : 0;
  }

  async generate(request: GenerationRequest, options?: GenerateOptions): Promise<GenerationOutput> {
    return this.client().generate(request, options);
  }

  async embed(tokenIds: readonly (readonly number[])[], layer: EmbeddingLayer): Promise<readonly Float32Array[]> {
    return this.client().embed(tokenIds, layer);
  }

  close(): Promise<void> {
    this.closed ??= this.end();
    return this.closed;
  }

  private async end(): Promise<void> {
    this.options.stopping?.removeEventListener('abort', this.retire);
    this.leaving.abort();
    const client = this.state.status === 'ready' ? this.state.client : undefined;
    if (this.state.status === 'restarting') this.state.cancelTimer();
    this.state = { status: 'draining', client };
    await client?.close();
    await this.starting;
  }

  /** The server stops: a worker that lives goes on, one that is gone is not missed. */
  private readonly retire = (): void => {
    if (this.state.status !== 'restarting') return;
    this.state.cancelTimer();
    this.leaving.abort();
    this.state = { status: 'draining', client: undefined };
  };

  private async launch(): Promise<Facts> {
    const attempt = ++this.attempt;
    const begun = this.clock.now();
    const life = { onEnded: (cause: Error) => this.ended(cause), signal: this.leaving.signal };
    const { client, facts } = await this.options.start(life);
    this.startMs = this.clock.now() - begun;
    // it may have ended between being ready and here
    if (attempt !== this.attempt) return facts;
    if (this.leaving.signal.aborted) {
      await client.close();
      return facts;
    }
    this.policy.started();
    this.state = { status: 'ready', client };
    return facts;
  }

  private relaunch(): void {
    this.starting = this.launch().then(
      () => {
        if (this.state.status === 'ready') this.options.onEvent?.({ type: 'restarted', startMs: this.startMs });
      },
      (cause: unknown) => {
        // a start that was called off
        if (this.state.status !== 'draining') this.ended(cause);
      },
    );
  }

  /** Decides what follows the end of a worker; returns the error of the requests that went with it. */
  private ended(cause: unknown): RuntimeError {
    this.attempt++;
    if (this.state.status === 'draining' || this.options.stopping?.aborted) {
      this.state = { status: 'draining', client: undefined };
      this.options.onEvent?.({ type: 'ended', cause, failureCount: 1, restartInMs: undefined });
      return interrupted('It was being stopped', DRAIN_RETRY_MS, cause);
    }
    const delayMs = this.policy.failed();
    const { failureCount } = this.policy;
    if (delayMs === undefined) {
      this.state = { status: 'failed' };
      this.options.onEvent?.({ type: 'given-up', cause, failureCount });
      return this.givenUp(cause);
    }
    const cancelTimer = this.clock.after(delayMs, () => this.relaunch());
    this.state = { status: 'restarting', expectedAt: this.clock.now() + delayMs + this.startMs, cancelTimer };
    this.options.onEvent?.({ type: 'ended', cause, failureCount, restartInMs: delayMs });
    return interrupted('Another is started', this.retryAfterMs(this.state.expectedAt), cause);
  }

  private client(): WorkerConnection {
    const { state } = this;
    switch (state.status) {
      case 'ready':
        return state.client;
      case 'draining':
        if (state.client !== undefined) return state.client;
        throw overloaded('it is being stopped', DRAIN_RETRY_MS);
      case 'restarting':
        throw overloaded('its worker is being started again', this.retryAfterMs(state.expectedAt));
      case 'failed':
        throw this.givenUp(undefined);
      default:
        return state satisfies never;
    }
  }

  private retryAfterMs(expectedAt: number): number {
    return Math.max(LEAST_RETRY_MS, Math.ceil(expectedAt - this.clock.now()));
  }

  private givenUp(cause: unknown): RuntimeError {
    const { failureCount } = this.policy;
    const came = `its worker ended ${failureCount} times in a row and is not started again`;
    const advice = 'Choose another model, or unload it and load it again.';
    return new RuntimeError('MODEL_UNAVAILABLE', `Expected a model in service, ${came}. ${advice}`, {}, { cause });
  }
}

function interrupted(reason: string, retryAfterMs: number, cause: unknown): RuntimeError {
  const advice = `${reason}: send the same request again in ${retryAfterMs} ms.`;
  const message = `Expected an answer of the model's worker, it ended first. ${advice}`;
  return new RuntimeError('MODEL_UNAVAILABLE', message, { retryAfterMs }, { cause });
}

function overloaded(reason: string, retryAfterMs: number): RuntimeError {
  const message = `Expected a model in service, but ${reason}. Send it again in ${retryAfterMs} ms.`;
  return new RuntimeError('OVERLOADED', message, { retryAfterMs });
}
