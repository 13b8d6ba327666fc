/** Runs generation requests through an engine over a model folder, in this thread. */

import { createStrategy } from '../../src/runtime/decoding/create-strategy.ts';
import type { TokensAppended } from '../../src/runtime/decoding/decoding-strategy.ts';
import { parseSamplingParams } from '../../src/runtime/decoding/parse-sampling-params.ts';
import type { DecodingOptions } from '../../src/runtime/decoding/sampling-params.ts';
import { Engine, type EngineOptions } from '../../src/runtime/engine/engine.ts';
import type { GenerationOutput, RequestPriority } from '../../src/runtime/engine/generation-request.ts';
import type { ModelRunner } from '../../src/runtime/engine/model-runner.ts';
import type { StepTrace } from '../../src/runtime/engine/step-plan.ts';
import type { WeightedAdapter } from '../../src/runtime/lora/lora-weights.ts';
import { type LoadOptions, loadRunner as loadModelRunner } from '../../src/runtime/models/load-runner.ts';
import { type ModelFiles, readModelFiles } from '../../src/runtime/models/model-files.ts';

export interface Asked {
  readonly id: string;
  readonly promptTokenIds: readonly number[];
  readonly options?: DecodingOptions;
  readonly badWordsIds?: readonly (readonly number[])[];
  readonly logprobs?: boolean;
  readonly adapters?: readonly WeightedAdapter[];
  readonly priority?: RequestPriority;
  /** Default: true. */
  readonly stream?: boolean;
}

/** Loads the model of folder `name` below `parent`. */
export async function loadRunner(
  parent: string,
  name: string,
  options: Partial<Pick<LoadOptions, 'screened' | 'targets' | 'precision' | 'decodeLoop'>> = {},
): Promise<{ runner: ModelRunner; files: ModelFiles; warnings: readonly string[] }> {
  const files = await readModelFiles(`dir:${name}`, { embedded: parent, models: parent });
  const { folder: modelFolder, config } = files;
  const loaded = await loadModelRunner({ modelFolder, config, threadCount: 2, ...options }, () => {});
  return { runner: loaded.runner, files, warnings: loaded.warnings };
}

export class EngineHarness {
  readonly engine: Engine;
  readonly outputs = new Map<string, GenerationOutput>();
  readonly failures = new Map<string, unknown>();
  readonly streamed = new Map<string, TokensAppended[]>();
  readonly traces: StepTrace[] = [];

  constructor(
    private readonly runner: ModelRunner,
    options: Partial<EngineOptions> = {},
    /** Called before each step: where a test lets requests come late or leave. */
    onStep: (trace: StepTrace) => void = () => {},
    pieceText: (id: number) => string = (id) => (id > 2 ? ` t${id}` : ''),
  ) {
    let clock = 0;
    const context = {
      eosTokenIds: runner.eosTokenIds,
      vocabularySize: runner.vocabularySize,
      endOfText: (ids: readonly number[]) => ids.map(pieceText).join(''),
    };
    this.engine = new Engine(
      runner,
      {
        maxRows: 64,
        prefillTokens: 512,
        timeSliceSteps: 1000,
        createStrategy: (params, history) => createStrategy(params, { ...context, history }),
        now: () => clock++,
        ...options,
      },
      {
        onTokens: (id, tokens) => this.streamed.set(id, [...(this.streamed.get(id) ?? []), ...tokens]),
        onFinished: (id, output) => this.outputs.set(id, output),
        onFailed: (id, error) => this.failures.set(id, error),
        onStep: (trace) => {
          this.traces.push(trace);
          onStep(trace);
        },
      },
    );
  }

  submit({ id, promptTokenIds, options = {}, badWordsIds = [], logprobs = true, ...asked }: Asked): void {
    const { adapters = [], priority = 'interactive', stream = true } = asked;
    const context = { defaults: {}, badWordsIds, drawSeed: () => 1, maxRows: 64, logprobs };
    const params = parseSamplingParams(options, context);
    this.engine.submit({ id, promptTokenIds, params, stream, adapters, priority });
  }

  /** Runs until nothing is left to do; rejects with what failed, unless that is what is looked for. */
  async drain({ mayFail = false } = {}): Promise<void> {
    while (this.engine.hasWork) await this.engine.step();
    const [failure] = this.failures.values();
    if (failure !== undefined && !mayFail) throw failure;
  }

  /** The token ids of each returned sequence. */
  tokenIds(id: string): readonly (readonly number[])[] {
    return (this.outputs.get(id)?.sequences ?? []).map(({ tokens }) => tokens.map((token) => token.id));
  }

  static async runAll(runner: ModelRunner, asked: readonly Asked[]): Promise<EngineHarness> {
    const harness = new EngineHarness(runner);
    for (const one of asked) harness.submit(one);
    await harness.drain();
    return harness;
  }

  dispose(): Promise<void> {
    return this.runner.dispose();
  }
}
