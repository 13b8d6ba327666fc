/** The serving thread's side of an inference worker: sends requests, gives out what comes back. */
import type { Worker } from 'node:worker_threads';
import type { TokensAppended } from '../decoding/decoding-strategy.ts';
import { RuntimeError } from '../errors.ts';
import type { LoraWeights } from '../lora/lora-weights.ts';
import { RETRY_MS } from '../retry.ts';
import { startWorker } from '../start-worker.ts';
import { fromTransfer } from '../transfer-error.ts';
import type { EmbeddingLayer, WorkerConnection } from './engine-client.ts';
import type { GenerateOptions, GenerationOutput, GenerationRequest } from './generation-request.ts';
import type { StepTrace } from './step-plan.ts';
import type { WorkerLife } from './supervised-engine.ts';
import type { FromWorker, ModelSetup, ToWorker, WorkerSetup } from './worker-messages.ts';

interface EngineLimits {
  /** Requests accepted and not yet answered. */
  readonly maxPending: number;
  /** Milliseconds from acceptance to answer. */
  readonly requestTimeoutMs: number;
}

export interface StartOptions {
  readonly limits: EngineLimits;
  readonly onProgress?: (stage: string, share: number) => void;
  /** Called with the plan of each step; tests prove with it who shared a batch. */
  readonly onStep?: (trace: StepTrace) => void;
}

export interface LoadedFacts {
  readonly parameterCount: number;
  readonly memoryBytes: number;
  /** As in LoadedRunner. */
  readonly kernels: string;
  readonly warnings: readonly string[];
}

interface Pending {
  readonly resolve: (output: GenerationOutput) => void;
  readonly reject: (error: unknown) => void;
  readonly onTokens: ((event: TokensAppended) => void) | undefined;
  /** Takes back the timer and the listener on the caller's signal. */
  readonly release: () => void;
}

interface PendingEmbed {
  readonly resolve: (vectors: readonly Float32Array[]) => void;
  readonly reject: (error: unknown) => void;
}

export class WorkerEngineClient implements WorkerConnection {
  private readonly pending = new Map<string, Pending>();
  private readonly embeds = new Map<number, PendingEmbed>();
  private outbox: GenerationRequest[] = [];
  private nextEmbedId = 0;
  /** What a full queue tells clients to wait: the mean of the last answers, once there are any. */
  private meanTotalMs = RETRY_MS;
  private closing: Promise<void> | undefined;
  private loaded = false;
  private exitError: RuntimeError | undefined;
  private readonly exited: Promise<void>;

  private constructor(
    private readonly worker: Worker,
    private readonly options: StartOptions & WorkerLife,
  ) {
    worker.on('message', (message: FromWorker) => this.receive(message));
    worker.on('error', (cause) => this.failAll(cause));
    this.exited = new Promise((resolve) => {
      worker.on('exit', (code) => {
        this.failAll(new Error(`the worker ended with code ${code}`));
        resolve();
      });
    });
  }

  /** Starts a worker and resolves when its model is loaded. Rejects with the RuntimeError of the loader. */
  static async start(
    setup: ModelSetup,
    options: StartOptions & WorkerLife,
  ): Promise<{ readonly client: WorkerEngineClient; readonly facts: LoadedFacts }> {
    const { signal, adapters, targets } = options;
    signal.throwIfAborted();
    const workerData: WorkerSetup = { ...setup, adapters, targets };
    const worker = startWorker(import.meta.url, './worker', { workerData });
    // asked, not terminated: a thread that ends inside a call of onnxruntime-node 1.30.0 takes the process with it
    const leave = (): void => worker.postMessage({ type: 'close' } satisfies ToWorker);
    signal.addEventListener('abort', leave, { once: true });
    const loaded = new Promise<LoadedFacts>((resolve, reject) => {
      worker.on('message', (message: FromWorker) => {
        if (message.type === 'ready') resolve(message);
        if (message.type === 'load-failed') reject(fromTransfer(message.error));
      });
      worker.on('error', reject);
      worker.on('exit', () => reject(new Error('the worker ended before its model was loaded')));
    });
    const client = new WorkerEngineClient(worker, options);
    try {
      return { client, facts: await loaded };
    } catch (error) {
      await worker.terminate();
      throw error;
    } finally {
      signal.removeEventListener('abort', leave);
    }
  }

  get pendingCount(): number {
    return this.pending.size;
  }

  generate(request: GenerationRequest, options: GenerateOptions = {}): Promise<GenerationOutput> {
    const refusal = this.refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    return new Promise((resolve, reject) => {
      const { signal } = options;
      const cancel = () => this.cancel(request.id);
      const timer = setTimeout(() => this.expire(request.id), this.options.limits.requestTimeoutMs);
      signal?.addEventListener('abort', cancel, { once: true });
      const release = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', cancel);
      };
      this.pending.set(request.id, { resolve, reject, release, onTokens: options.onTokens });
      // requests of one tick go in one message, so that they are admitted together
      if (this.outbox.push(request) === 1) queueMicrotask(() => this.flush());
      if (signal?.aborted) cancel();
    });
  }

  embed(tokenIds: readonly (readonly number[])[], layer: EmbeddingLayer): Promise<readonly Float32Array[]> {
    const refusal = this.refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    const embedId = this.nextEmbedId++;
    return new Promise((resolve, reject) => {
      this.embeds.set(embedId, { resolve, reject });
      this.send({ type: 'embed', embedId, tokenIds, layer });
    });
  }

  addAdapter(key: string, weights: LoraWeights): void {
    this.send({ type: 'add-adapter', key, weights });
  }

  dropAdapter(key: string): void {
    // requests of this tick that are on their way know it still
    this.flush();
    this.send({ type: 'drop-adapter', key });
  }

  close(): Promise<void> {
    if (this.closing === undefined) {
      this.flush();
      // the worker answers what it has before it ends
      this.send({ type: 'close' });
      this.closing = this.exited;
    }
    return this.closing;
  }

  private get waitingCount(): number {
    return this.pending.size + this.embeds.size;
  }

  private refusal(): RuntimeError | undefined {
    const { maxPending } = this.options.limits;
    const retryAfterMs = Math.ceil(this.meanTotalMs);
    if (this.closing !== undefined) {
      const message = `Expected a model in service, but it is being unloaded. Send it again in ${retryAfterMs} ms.`;
      return new RuntimeError('OVERLOADED', message, { retryAfterMs });
    }
    if (this.exitError !== undefined) return this.exitError;
    if (this.waitingCount < maxPending) return undefined;
    const message = `Expected at most ${maxPending} requests in work, one more came. Send it again in ${retryAfterMs} ms.`;
    return new RuntimeError('OVERLOADED', message, { limit: 'GISTQL_MAX_QUEUE', retryAfterMs });
  }

  private send(message: ToWorker): void {
    this.worker.postMessage(message);
  }

  private flush(): void {
    const requests = this.outbox;
    this.outbox = [];
    if (requests.length > 0) this.send({ type: 'generate', requests });
  }

  private cancel(requestId: string): void {
    this.flush();
    this.send({ type: 'cancel', requestId });
  }

  private expire(requestId: string): void {
    const { requestTimeoutMs } = this.options.limits;
    const message = `Expected an answer within ${requestTimeoutMs} ms, it was not ready. Ask for fewer tokens or try later.`;
    const pending = this.take(requestId);
    this.cancel(requestId);
    pending?.reject(new RuntimeError('TIMEOUT', message, { limit: 'GISTQL_REQUEST_TIMEOUT_MS' }));
  }

  private take(requestId: string): Pending | undefined {
    const pending = this.pending.get(requestId);
    this.pending.delete(requestId);
    pending?.release();
    return pending;
  }

  private receive(message: FromWorker): void {
    switch (message.type) {
      case 'tokens': {
        const pending = this.pending.get(message.requestId);
        for (const event of message.tokens) pending?.onTokens?.(event);
        return;
      }
      case 'finished':
        this.meanTotalMs += (message.output.timing.totalMs - this.meanTotalMs) / 8;
        this.take(message.requestId)?.resolve(message.output);
        return;
      case 'failed':
        this.take(message.requestId)?.reject(fromTransfer(message.error));
        return;
      case 'embedded':
        this.takeEmbed(message.embedId)?.resolve(message.vectors);
        return;
      case 'embed-failed':
        this.takeEmbed(message.embedId)?.reject(fromTransfer(message.error));
        return;
      case 'progress':
        this.options.onProgress?.(message.stage, message.share);
        return;
      case 'step':
        this.options.onStep?.(message.trace);
        return;
      case 'ready':
        this.loaded = true;
        return;
      case 'load-failed':
        return;
      default:
        message satisfies never;
    }
  }

  private takeEmbed(embedId: number): PendingEmbed | undefined {
    const pending = this.embeds.get(embedId);
    this.embeds.delete(embedId);
    return pending;
  }

  private failAll(cause: Error): void {
    const closedInOrder = this.closing !== undefined && this.waitingCount === 0;
    if (!this.loaded || closedInOrder || this.exitError !== undefined) return;
    this.exitError = this.options.onEnded(cause);
    for (const requestId of [...this.pending.keys()]) this.take(requestId)?.reject(this.exitError);
    for (const embedId of [...this.embeds.keys()]) this.takeEmbed(embedId)?.reject(this.exitError);
  }
}
