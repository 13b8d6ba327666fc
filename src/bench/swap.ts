/**
 * What a swap of adapters costs: the time to the first token of a request right after `activateAdapter`, against the
 * time without a swap before it. It calls the services in this process, as resolvers do, without HTTP and text.
 */
import { readdir } from 'node:fs/promises';
import type { Config } from '../config.ts';
import type { Services } from '../context.ts';
import type { ServedAdapter } from '../runtime/adapters/served-adapter.ts';
import { invariant } from '../runtime/errors.ts';
import type { ServedModel } from '../runtime/models/served-model.ts';
import { defaultModelRequest } from '../services.ts';
import { mebibytes } from '../storage/byte-size.ts';
import { writeDialogue } from './dialogue-writer.ts';
import { machineFacts } from './load-facts.ts';
import { SeededRandom } from './seeded-random.ts';
import { greedyParams } from './swap-requests.ts';
import { measureSteps, type StepTimes } from './swap-steps.ts';

export interface SwapOptions {
  readonly config: Config;
  readonly services: Services;
  /** Swaps that are measured, each beside three requests that are answered by the adapter before. */
  readonly roundCount: number;
  /** Requests that generate with another adapter meanwhile: the settings, in order. */
  readonly beside: readonly number[];
  readonly seed: number;
  /** Ends early; what was measured until then is the result. */
  readonly signal: AbortSignal;
  readonly onProgress: (line: string) => void;
}

/** Milliseconds, an entry a round. */
export interface SwapTimes {
  /** To the first token, with the adapter that answered the request before it. */
  readonly stay: readonly number[];
  /** The same once more: what two equal measurements differ by. */
  readonly again: readonly number[];
  /** The same after a swap there and back: what is due to the writing of the registry's file. */
  readonly back: readonly number[];
  /** To the first token, with another adapter than the request before it. */
  readonly swap: readonly number[];
  /** Of `activateAdapter` itself, which writes the registry's file. */
  readonly activate: readonly number[];
}

export interface SwapResult {
  readonly facts: Readonly<Record<string, string>>;
  readonly settings: readonly { readonly besideCount: number; readonly times: SwapTimes }[];
  /** Beside the running requests of the last setting. */
  readonly steps: { readonly besideCount: number; readonly largest: string; readonly times: StepTimes };
}

type Kind = Exclude<keyof SwapTimes, 'activate'>;

/** Each comes at every place, and after every other, equally often. */
const ORDERS: readonly (readonly Kind[])[] = [
  ['stay', 'swap', 'back', 'again'],
  ['swap', 'again', 'stay', 'back'],
  ['again', 'back', 'swap', 'stay'],
  ['back', 'stay', 'again', 'swap'],
];

const MOST_ADAPTERS = 16;
const WARM_UP_ROUNDS = 12;
const MOST_LOADS = 20;
const SOURCE_TOKENS = 128;
const DIALOGUE_TURNS = 24;
/** Long enough that many rounds fit into one request. */
const BESIDE_TOKENS = 256;
const ROUNDS_PER_LINE = 50;

/** Loads the default model and adapters of the adapters' folder, and measures. Rejects when there are less than two. */
export async function measureSwaps(options: SwapOptions): Promise<SwapResult> {
  const { config, services, roundCount, beside, seed, signal, onProgress } = options;
  const model = await services.models.load(defaultModelRequest(config));
  const adapterIds = await loadAdapters(services, model, config.adaptersDir);
  onProgress(`${model.id} with ${adapterIds.length} adapters`);
  const text = writeDialogue(new SeededRandom(seed), DIALOGUE_TURNS);
  const { ids } = await model.tokenizer.encodeWithin(text, Math.min(SOURCE_TOKENS, model.config.maxInputTokens));
  const probe = new SwapProbe(services, model, adapterIds, ids);
  const settings: SwapResult['settings'][number][] = [];
  for (const besideCount of beside) {
    const times = await probe.measure({ roundCount, besideCount, signal, onProgress });
    settings.push({ besideCount, times });
  }
  const facts = factsOf(options, model, adapterIds, ids.length);
  return { facts, settings, steps: await measureLargest(options, model, adapterIds, ids) };
}

/** Loads the largest adapter again and again, beside as many requests as in the last setting. */
async function measureLargest(
  { services, roundCount, beside, signal, onProgress }: SwapOptions,
  model: ServedModel,
  adapterIds: readonly string[],
  promptTokenIds: readonly number[],
): Promise<SwapResult['steps']> {
  const sizeOf = ({ facts }: ServedAdapter): number => facts.memoryBytes;
  const [largest, ...others] = services.adapters.list(model.id).toSorted((a, b) => sizeOf(b) - sizeOf(a));
  invariant(largest !== undefined, 'adapters are loaded');
  const { id, source, facts } = largest;
  const ids = adapterIds.filter((one) => others.some((other) => other.id === one));
  const besideCount = Math.max(1, ...beside);
  await services.adapters.activate(model.id, null);
  const rounds = Math.min(roundCount, MOST_LOADS);
  onProgress(`${besideCount} beside: ${source} is loaded ${rounds} times`);
  const times = await measureSteps({
    ...{ services, model, adapterIds: [ids[0] ?? id, ids[1] ?? ids[0] ?? id], largest: { id, source } },
    ...{ promptTokenIds, besideCount, roundCount: rounds, signal },
  });
  const size = `${mebibytes(facts.memoryBytes)}: ${facts.method} of rank ${facts.rank} on ${facts.modules.length} matrices`;
  return { besideCount, largest: size, times };
}

function factsOf(
  { services, seed }: SwapOptions,
  { id, source, precision, parameterCount }: ServedModel,
  adapterIds: readonly string[],
  sourceTokenCount: number,
): Readonly<Record<string, string>> {
  const kinds = adapterIds.flatMap((adapterId) => {
    const facts = services.adapters.find(adapterId)?.facts;
    return facts === undefined ? [] : [`${facts.method} of rank ${facts.rank} on ${facts.targetModules.join(', ')}`];
  });
  return {
    ...machineFacts(),
    model: `${id} (${source}, ${(parameterCount / 1e6).toFixed(1)} M parameters)`,
    precision,
    adapters: `${adapterIds.length}: ${[...new Set(kinds)].join('; ')}`,
    'source tokens': String(sourceTokenCount),
    seed: String(seed),
  };
}

/** Returns the ids of the first adapters of a folder, which are in memory then. */
async function loadAdapters(services: Services, model: ServedModel, folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  const names = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  if (names.length < 2) {
    const came = `${folder} has ${names.length || 'none'}`;
    throw new Error(
      `Expected a folder of at least 2 adapters of ${model.id}, ${came}. Name one with --adapters or GISTQL_ADAPTERS_DIR.`,
    );
  }
  const ids: string[] = [];
  for (const name of names.sort().slice(0, MOST_ADAPTERS)) {
    const id = `adapter-${ids.length}`;
    await services.adapters.load({ id, modelId: model.id, source: `dir:${name}` });
    ids.push(id);
  }
  return ids;
}

interface Setting {
  readonly roundCount: number;
  readonly besideCount: number;
  readonly signal: AbortSignal;
  readonly onProgress: (line: string) => void;
}

class SwapProbe {
  /** What is active now, by its place. */
  private place = 0;
  private requestCount = 0;

  constructor(
    private readonly services: Services,
    private readonly model: ServedModel,
    private readonly adapterIds: readonly string[],
    private readonly promptTokenIds: readonly number[],
  ) {}

  async measure({ roundCount, besideCount, signal, onProgress }: Setting): Promise<SwapTimes> {
    const ending = new AbortController();
    const running = Array.from({ length: besideCount }, () => this.keepRunning(ending.signal));
    const times: Record<keyof SwapTimes, number[]> = { stay: [], again: [], back: [], swap: [], activate: [] };
    try {
      await this.swap();
      for (let round = -WARM_UP_ROUNDS; round < roundCount && !signal.aborted; round++) {
        const measured = await this.measureRound(ORDERS[(round + WARM_UP_ROUNDS) % ORDERS.length] ?? []);
        if (round < 0) continue;
        for (const [kind, value] of measured) times[kind].push(value);
        if ((round + 1) % ROUNDS_PER_LINE === 0) onProgress(`${besideCount} beside: ${round + 1} of ${roundCount}`);
      }
    } finally {
      ending.abort();
      await Promise.all(running);
    }
    return times;
  }

  private async measureRound(order: readonly Kind[]): Promise<ReadonlyMap<keyof SwapTimes, number>> {
    const measured = new Map<keyof SwapTimes, number>();
    for (const kind of order) {
      if (kind === 'swap') measured.set('activate', await this.swap());
      if (kind === 'back') await this.swapThereAndBack();
      measured.set(kind, await this.firstTokenMs());
    }
    return measured;
  }

  /** Activates the next adapter; returns how long it took. */
  private async swap(): Promise<number> {
    this.place = (this.place + 1) % this.adapterIds.length;
    const begun = performance.now();
    await this.services.adapters.activate(this.model.id, this.activeId);
    return performance.now() - begun;
  }

  private async swapThereAndBack(): Promise<void> {
    const { place } = this;
    await this.swap();
    this.place = place;
    await this.services.adapters.activate(this.model.id, this.activeId);
  }

  private get activeId(): string {
    return this.adapterIds[this.place] ?? '';
  }

  /** Of a request that names no adapter, from its coming in until its first token is in this thread. */
  private async firstTokenMs(): Promise<number> {
    const begun = performance.now();
    let firstMs: number | undefined;
    const lease = this.services.adapters.acquire(this.model, null);
    try {
      invariant(lease.adapters[0]?.id === this.activeId, 'a request is answered by the active adapter');
      await lease.use((adapters) => {
        const request = { ...this.nextRequest(1), adapters, stream: true };
        const onTokens = (): void => {
          firstMs ??= performance.now() - begun;
        };
        return this.model.engine.generate(request, { onTokens });
      });
    } finally {
      lease.release();
    }
    invariant(firstMs !== undefined, 'a request has a first token');
    return firstMs;
  }

  /** Generates with the first adapter, request after request, until the signal. */
  private async keepRunning(signal: AbortSignal): Promise<void> {
    const lease = this.services.adapters.acquire(this.model, [{ id: this.adapterIds[0] ?? '' }]);
    try {
      await lease.use(async (adapters) => {
        while (!signal.aborted) {
          const request = { ...this.nextRequest(BESIDE_TOKENS), adapters, stream: false };
          await this.model.engine.generate(request, { signal });
        }
      });
    } finally {
      lease.release();
    }
  }

  private nextRequest(tokenCount: number) {
    const id = String(this.requestCount++);
    return { id, promptTokenIds: this.promptTokenIds, params: greedyParams(tokenCount, this.model.maxRows) };
  }
}
