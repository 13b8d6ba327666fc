/**
 * Keeps the engine of one model alive: when its worker ends by itself, another is started, as RestartPolicy says.
 *
 * Requests that come while no worker lives are refused with OVERLOADED and the milliseconds until one is expected;
 * they do not wait for it. Nobody knows whether it comes back; each would hold its connection and run into its
 * deadline; /health/ready already sends clients elsewhere; and a request that ends workers, sent again and again,
 * would meet each new one among the first.
 *
 * The graphs of a worker have LoRA inputs for the matrices that its adapters change, and no others, because each costs
 * every request a little. An adapter that changes more is brought in by a new worker, started beside the one that goes
 * on answering; then new requests go to the new one, and the old one ends when it has answered what it has. Should the
 * old one end by itself meanwhile, the new one is what was to be started anyway.
 */

import { RuntimeError } from '../errors.ts';
import type { LoraTargets } from '../graph/lora.ts';
import { covers, joinTargets, noTargets, targetsOf, withoutModules } from '../lora/lora-targets.ts';
import { bytesOf, type LoraWeights } from '../lora/lora-weights.ts';
import { noteSharedMemory } from '../lora/shared-memory.ts';
import { RETRY_MS } from '../retry.ts';
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
  /** The adapters that it starts with, by key. */
  readonly adapters: ReadonlyMap<string, LoraWeights>;
  /** The matrices that its graphs have LoRA inputs for. */
  readonly targets: LoraTargets;
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
  /** Matrices that adapters will change, as far as is known beforehand: it saves a second start. Default: none. */
  readonly targets?: LoraTargets;
  /** Modules for whose adapters every worker has inputs, whatever its targets. Default: none. */
  readonly adaptedAlways?: ReadonlySet<string>;
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

export class SupervisedEngine<Facts = unknown> implements EngineClient {
  private readonly clock: Clock;
  private readonly policy: RestartPolicy;
  private readonly leaving = new AbortController();
  private state: State;
  private starting: Promise<unknown> = Promise.resolve();
  private closed: Promise<void> | undefined;
  /** What the last start took: the next one will take as long. */
  private startMs = 0;
  /** The worker whose end matters: the one in service, or the one that is started to be. */
  private expected: object = {};
  private readonly ended = new WeakSet<object>();
  /** What every worker is given. */
  private readonly adapters = new Map<string, LoraWeights>();
  /** What the worker in service has LoRA inputs for. */
  private targets = noTargets;
  private replacing: Promise<void> | undefined;
  /** Workers that have been replaced and answer what they have. */
  private readonly retiring = new Map<WorkerConnection, Promise<void>>();

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
    const facts = await engine.launch(engine.newLife());
    options.stopping?.addEventListener('abort', engine.retire, { once: true });
    return { engine, facts };
  }

  get status(): EngineStatus {
    return this.state.status;
  }

  get pendingCount(): number {
    const current = 'client' in this.state ? (this.state.client?.pendingCount ?? 0) : 0;
    return [...this.retiring.keys()].reduce((sum, { pendingCount }) => sum + pendingCount, current);
  }

  async generate(request: GenerationRequest, options?: GenerateOptions): Promise<GenerationOutput> {
    return this.client().generate(request, options);
  }

  async embed(tokenIds: readonly (readonly number[])[], layer: EmbeddingLayer): Promise<readonly Float32Array[]> {
    return this.client().embed(tokenIds, layer);
  }

  async addAdapter(key: string, weights: LoraWeights): Promise<void> {
    if (this.state.status === 'draining') throw overloaded('it is being stopped', RETRY_MS);
    const client = this.client();
    this.adapters.set(key, weights);
    noteSharedMemory(bytesOf(weights));
    if (this.serves(this.targets, weights)) {
      client.addAdapter(key, weights);
      return;
    }
    try {
      while (!this.serves(this.targets, weights)) {
        this.replacing ??= this.replace().finally(() => {
          this.replacing = undefined;
        });
        await this.replacing;
      }
    } catch (error) {
      // a worker that was started again meanwhile may have it
      this.dropAdapter(key);
      throw error;
    }
  }

  dropAdapter(key: string): void {
    this.adapters.delete(key);
    if ('client' in this.state) this.state.client?.dropAdapter(key);
  }

  close(): Promise<void> {
    this.closed ??= this.end();
    return this.closed;
  }

  /** Whether a worker with these targets can run an adapter. */
  private serves(targets: LoraTargets, weights: LoraWeights): boolean {
    const { adaptedAlways = new Set() } = this.options;
    return covers(targets, withoutModules(targetsOf([weights]), adaptedAlways));
  }

  private async end(): Promise<void> {
    this.options.stopping?.removeEventListener('abort', this.retire);
    this.leaving.abort();
    const client = this.state.status === 'ready' ? this.state.client : undefined;
    if (this.state.status === 'restarting') this.state.cancelTimer();
    this.state = { status: 'draining', client };
    await client?.close();
    await this.starting;
    await this.replacing?.catch(() => {});
    await Promise.all(this.retiring.values());
  }

  /** The server stops: a worker that lives goes on, one that is gone is not missed. */
  private readonly retire = (): void => {
    if (this.state.status !== 'restarting') return;
    this.state.cancelTimer();
    this.leaving.abort();
    this.state = { status: 'draining', client: undefined };
  };

  /** Starts the worker that is to be in service next. */
  private async launch(life: WorkerLife): Promise<Facts> {
    this.expected = life;
    const { client, facts } = await this.startWorker(life);
    // it may have ended between being ready and here
    if (this.ended.has(life)) return facts;
    if (this.leaving.signal.aborted || life !== this.expected) {
      await client.close();
      return facts;
    }
    this.policy.started();
    this.putInService(client, life);
    return facts;
  }

  private async startWorker(life: WorkerLife): Promise<{ readonly client: WorkerConnection; readonly facts: Facts }> {
    const begun = this.clock.now();
    const started = await this.options.start(life);
    this.startMs = this.clock.now() - begun;
    return started;
  }

  /** What a worker is to be started with, for all adapters that there are now. */
  private newLife(): WorkerLife {
    const adapters = new Map(this.adapters);
    // what adapters needed that are out of memory now, they will need again
    const known = joinTargets(this.options.targets ?? noTargets, this.targets);
    const targets = joinTargets(known, targetsOf(adapters.values()));
    const life: WorkerLife = {
      adapters,
      targets,
      onEnded: (cause) => this.workerEnded(life, cause),
      signal: this.leaving.signal,
    };
    return life;
  }

  private putInService(client: WorkerConnection, life: WorkerLife): void {
    this.expected = life;
    this.state = { status: 'ready', client };
    this.targets = life.targets;
    // what came and went while it was being started
    for (const key of life.adapters.keys()) if (!this.adapters.has(key)) client.dropAdapter(key);
    for (const [key, weights] of this.adapters) {
      if (life.adapters.get(key) !== weights && this.serves(life.targets, weights)) client.addAdapter(key, weights);
    }
  }

  /** Starts a worker for all adapters there are and puts it in the place of the one in service, or of one that ended. */
  private async replace(): Promise<void> {
    const life = this.newLife();
    const { client } = await this.startWorker(life).catch((cause: unknown) => {
      throw this.leaving.signal.aborted ? overloaded('it is being stopped', RETRY_MS) : cause;
    });
    const { state } = this;
    // it may have ended between being ready and here
    if (this.ended.has(life)) throw interrupted('It is started again', LEAST_RETRY_MS, undefined);
    if (state.status === 'draining') {
      await client.close();
      throw overloaded('it is being stopped', RETRY_MS);
    }
    if (state.status === 'ready') {
      this.putInService(client, life);
      this.letEnd(state.client);
      return;
    }
    if (state.status === 'restarting') state.cancelTimer();
    this.policy.started();
    this.putInService(client, life);
    this.options.onEvent?.({ type: 'restarted', startMs: this.startMs });
  }

  /** A worker that has been replaced answers what it has. */
  private letEnd(old: WorkerConnection): void {
    this.retiring.set(
      old,
      old.close().finally(() => this.retiring.delete(old)),
    );
  }

  private relaunch(): void {
    const life = this.newLife();
    this.starting = this.launch(life).then(
      () => {
        const inService = life === this.expected && this.state.status === 'ready';
        if (inService) this.options.onEvent?.({ type: 'restarted', startMs: this.startMs });
      },
      (cause: unknown) => {
        // a start that was called off, or that another came before
        if (life === this.expected && this.state.status !== 'draining') this.workerEnded(life, cause);
      },
    );
  }

  /** Decides what follows the end of a worker; returns the error of the requests that went with it. */
  private workerEnded(life: object, cause: unknown): RuntimeError {
    this.ended.add(life);
    if (life !== this.expected) return interrupted('Another has taken its place', LEAST_RETRY_MS, cause);
    this.expected = {};
    if (this.state.status === 'draining' || this.options.stopping?.aborted) {
      this.state = { status: 'draining', client: undefined };
      this.options.onEvent?.({ type: 'ended', cause, failureCount: 1, restartInMs: undefined });
      return interrupted('It was being stopped', RETRY_MS, cause);
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
        throw overloaded('it is being stopped', RETRY_MS);
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
