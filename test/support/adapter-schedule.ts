/**
 * A random life of an engine: requests with many adapters, blends, replaced heads and none come, leave and give way
 * while adapters go out of memory and come back. Everything follows from a seed.
 */
import assert from 'node:assert/strict';
import type { DecodingOptions } from '../../src/runtime/decoding/sampling-params.ts';
import type { EngineOptions } from '../../src/runtime/engine/engine.ts';
import type { ModelRunner } from '../../src/runtime/engine/model-runner.ts';
import type { LoraWeights, WeightedAdapter } from '../../src/runtime/lora/lora-weights.ts';
import type { ModelConfig } from '../../src/runtime/models/model-config.ts';
import { type Asked, EngineHarness } from './engine-harness.ts';
import { randomAdapter } from './random-adapters.ts';
import { seededNumbers } from './seeded-numbers.ts';

/** Of one unit, of several, and of seven, which kernels do not take in fours. */
const RANKS = [1, 3, 5, 8, 16, 17, 33, 64, 100, 112, 130] as const;
const MODULES = ['q', 'k', 'v', 'o', 'wi', 'wi_0', 'wi_1', 'wo', 'lm_head'] as const;
const MOST_STEPS = 10_000;

const OPTIONS: readonly DecodingOptions[] = [
  { maxNewTokens: 14, minNewTokens: 10 },
  { maxNewTokens: 30, minNewTokens: 20, noRepeatNgramSize: 2 },
  { maxNewTokens: 12, numBeams: 3, numReturnSequences: 2 },
  { maxNewTokens: 9, doSample: true, seed: 3, topK: 20 },
  { maxNewTokens: 12, numBeams: 6, lengthPenalty: 0.5 },
  { maxNewTokens: 10, doSample: true, seed: 5, numReturnSequences: 3, topP: 0.9 },
  { maxNewTokens: 16, repetitionPenalty: 1.3 },
];

class Draw {
  readonly number: () => number;

  constructor(readonly seed: number) {
    this.number = seededNumbers(seed);
  }

  /** A whole number from `low` to `high`. */
  count(low: number, high: number): number {
    return low + Math.floor(this.number() * (high - low + 1));
  }

  chance(share: number): boolean {
    return this.number() < share;
  }

  one<T>(items: readonly T[]): T {
    return items[this.count(0, items.length - 1)] as T;
  }
}

/** Adapters by key, of any rank, with DoRA, factors of the head or a head of their own. */
export function randomAdapters(config: ModelConfig, count: number, seed: number): ReadonlyMap<string, LoraWeights> {
  const draw = new Draw(seed);
  return new Map(
    Array.from({ length: count }, (_, index) => {
      const targets = MODULES.filter(() => draw.chance(0.4));
      const rank = draw.one(RANKS);
      const weights = randomAdapter(config, { seed: draw.count(0, 1e9), rank, targets, dora: draw.chance(0.25) });
      const head = draw.chance(0.2) ? randomHead(config, draw) : undefined;
      return [`a${index}`, { ...weights, head }];
    }),
  );
}

function randomHead({ vocabularySize, hiddenSize }: ModelConfig, draw: Draw): Float32Array {
  return Float32Array.from({ length: vocabularySize * hiddenSize }, () => (draw.number() - 0.5) / 4);
}

function randomChoice(keys: readonly string[], draw: Draw): readonly WeightedAdapter[] {
  const wanted = draw.one([0, 1, 1, 1, 1, 2, 3, 5]);
  const chosen = new Set(Array.from({ length: wanted }, () => draw.one(keys)));
  return [...chosen].map((key) => ({ key, weight: draw.one([1, 1, 0.5, -0.75, 2]) }));
}

function randomRequests({ vocabularySize }: ModelConfig, keys: readonly string[], draw: Draw): readonly Asked[] {
  // now and then so many that a unit serves more rows than it has ranks
  const count = draw.chance(0.1) ? 40 : draw.count(6, 16);
  return Array.from({ length: count }, (_, index) => ({
    id: `r${index}`,
    promptTokenIds: Array.from({ length: draw.count(2, 60) }, () => draw.count(3, vocabularySize - 1)),
    options: draw.one(OPTIONS),
    logprobs: draw.chance(0.7),
    adapters: randomChoice(keys, draw),
    priority: draw.chance(0.2) ? 'background' : 'interactive',
  }));
}

function randomLimits(draw: Draw): Partial<EngineOptions> {
  return {
    maxRows: draw.one([6, 9, 16, 48]),
    timeSliceSteps: draw.one([2, 5, 1000]),
    prefillTokens: draw.one([16, 512]),
  };
}

/** What a request answers but the time it took; floats to the bit. */
function answerOf(harness: EngineHarness, id: string) {
  return harness.outputs.get(id)?.sequences;
}

export interface ScheduleSetup {
  readonly config: ModelConfig;
  readonly adapters: ReadonlyMap<string, LoraWeights>;
  /** Has all the adapters, and answers each request alone. */
  readonly reference: ModelRunner;
  /** Has all the adapters, and little memory for them. */
  readonly runner: ModelRunner;
  readonly seed: number;
}

/** How often what a schedule is about came about. */
export interface ScheduleAccount {
  readonly requestCount: number;
  cancelCount: number;
  /** Adapters that went out of memory and came back. */
  swapCount: number;
  /** Adapters and blends in the fullest step. */
  mostMixed: number;
}

class Schedule {
  readonly draw: Draw;
  readonly requests: readonly Asked[];
  readonly cancelled = new Set<string>();
  readonly harness: EngineHarness;
  readonly account: ScheduleAccount;
  private readonly coming: Asked[];
  private readonly submitted: Asked[] = [];

  constructor(readonly setup: ScheduleSetup) {
    const { config, adapters, runner, seed } = setup;
    this.draw = new Draw(seed);
    this.requests = randomRequests(config, [...adapters.keys()], this.draw);
    this.coming = [...this.requests];
    this.account = { requestCount: this.requests.length, cancelCount: 0, swapCount: 0, mostMixed: 0 };
    this.harness = new EngineHarness(runner, randomLimits(this.draw), ({ rows }) => {
      const names = rows.map(({ requestId }) => JSON.stringify(this.find(requestId)?.adapters));
      this.account.mostMixed = Math.max(this.account.mostMixed, new Set(names).size);
    });
  }

  async run(): Promise<void> {
    const { engine } = this.harness;
    for (let step = 0; this.coming.length > 0 || engine.hasWork; step++) {
      assert.ok(step < MOST_STEPS, `seed ${this.setup.seed}: it never ends`);
      for (const asked of this.coming.splice(0, this.draw.one([0, 0, 0, 1, 1, 3]))) {
        this.submitted.push(asked);
        this.harness.submit(asked);
      }
      if (this.draw.chance(0.03)) this.cancelOne();
      if (this.draw.chance(0.2)) this.swapOne();
      await engine.step();
    }
  }

  private find(requestId: string): Asked | undefined {
    return this.requests.find(({ id }) => id === requestId);
  }

  private get inWork(): readonly Asked[] {
    return this.submitted.filter(({ id }) => !this.harness.outputs.has(id) && !this.harness.failures.has(id));
  }

  private cancelOne(): void {
    if (this.inWork.length === 0) return;
    const { id } = this.draw.one(this.inWork);
    this.harness.engine.cancel(id);
    this.cancelled.add(id);
    this.account.cancelCount++;
  }

  /** Lets an adapter go that nobody has, and brings it back. */
  private swapOne(): void {
    const { adapters, runner } = this.setup;
    const used = new Set(this.inWork.flatMap((asked) => (asked.adapters ?? []).map(({ key }) => key)));
    const [key, weights] = this.draw.one([...adapters]);
    if (used.has(key)) return;
    runner.dropAdapter(key);
    runner.addAdapter(key, weights);
    this.account.swapCount++;
  }
}

/** Asserts that every request of a random schedule answers what it answers alone, bit for bit. */
export async function checkSchedule(setup: ScheduleSetup): Promise<ScheduleAccount> {
  const schedule = new Schedule(setup);
  await schedule.run();
  const { harness, cancelled, requests } = schedule;
  assert.deepEqual([...harness.failures], [], `seed ${setup.seed}`);
  for (const asked of requests) {
    const alone = answerOf(await EngineHarness.runAll(setup.reference, [asked]), asked.id);
    const mixed = answerOf(harness, asked.id);
    const what = `seed ${setup.seed}, request ${asked.id}: ${JSON.stringify({ ...asked, promptTokenIds: undefined })}`;
    if (!cancelled.has(asked.id)) assert.deepEqual(mixed, alone, what);
    else if ((asked.options?.numBeams ?? 1) === 1) {
      for (const [index, { tokens }] of (mixed ?? []).entries()) {
        assert.deepEqual(tokens, alone?.[index]?.tokens.slice(0, tokens.length), what);
      }
    }
  }
  return schedule.account;
}
