/** The models in service: loads them, finds them, lets them go. */

import type { Clock } from '../engine/clock.ts';
import type { SchedulerOptions } from '../engine/scheduler.ts';
import { SupervisedEngine, type SupervisorEvent } from '../engine/supervised-engine.ts';
import { type LoadedFacts, type StartOptions, WorkerEngineClient } from '../engine/worker-engine-client.ts';
import type { ModelSetup } from '../engine/worker-messages.ts';
import { RuntimeError } from '../errors.ts';
import type { SourceFetcher } from '../hub-sources.ts';
import { HuggingFaceTokenizer } from '../tokenizer/hugging-face-tokenizer.ts';
import { HEAD_PATH } from './linear-module.ts';
import { type ModelDirectories, readModelFiles } from './model-files.ts';
import type {
  Device,
  LoadModelRequest,
  ModelAdapters,
  ModelDirectory,
  Precision,
  ServedModel,
} from './served-model.ts';

export interface RegistryOptions {
  readonly directories: ModelDirectories;
  /** Default: nothing is fetched. */
  readonly sources?: SourceFetcher;
  /** Where all models run. */
  readonly device: Device;
  /** Threads of each model's worker. */
  readonly threadCount: number;
  /** Bound on source tokens, whatever a model's own files allow: attention takes memory by their square. */
  readonly maxInputTokens: number;
  readonly scheduler: SchedulerOptions;
  readonly engine: Omit<StartOptions, 'onProgress'>;
  readonly adapters: ModelAdapters;
  readonly onProgress?: (modelId: string, stage: string, share: number) => void;
  readonly onLoaded?: (modelId: string, facts: LoadedFacts) => void;
  readonly onWarning?: (modelId: string, warning: string) => void;
  /** Called when a model's worker ended, is back, or is given up. */
  readonly onWorker?: (modelId: string, event: SupervisorEvent) => void;
  /** Once aborted, no worker that ended is started again. */
  readonly stopping?: AbortSignal;
  /** Says when a worker that ended is started again. */
  readonly clock: Clock;
}

const MODEL_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** Precisions by device: the kernels of 8 bits are the CPU's, those of 16 bits the GPU's. */
/** Where a run makes one step, adapted heads have a graph of their own. */
const ADAPTED_ALWAYS: Readonly<Record<Device, ReadonlySet<string>>> = {
  cpu: new Set([HEAD_PATH]),
  cuda: new Set(),
};
const PRECISIONS: Readonly<Record<Device, readonly Precision[]>> = { cpu: ['fp32', 'int8'], cuda: ['fp32', 'fp16'] };

export class ModelRegistry implements ModelDirectory {
  private readonly models = new Map<string, ServedModel>();
  private readonly loading = new Set<string>();
  private defaultModelId: string | undefined;

  constructor(private readonly options: RegistryOptions) {}

  get defaultId(): string | undefined {
    return this.defaultModelId;
  }

  list(): readonly ServedModel[] {
    return [...this.models.values()];
  }

  find(id: string): ServedModel | undefined {
    return this.models.get(id);
  }

  get(id?: string | null): ServedModel {
    const wanted = id ?? this.defaultModelId;
    const model = wanted === undefined ? undefined : this.models.get(wanted);
    if (model !== undefined) return model;
    const known = [...this.models.keys()].join(', ') || 'none';
    throw new RuntimeError('NOT_FOUND', `Expected the id of a loaded model (${known}), ${wanted ?? 'nothing'} came.`);
  }

  async load(request: LoadModelRequest): Promise<ServedModel> {
    const { id, source, precision = 'fp32', makeDefault = false } = request;
    if (!MODEL_ID.test(id)) {
      const message = `Expected id to be letters, digits, '.', '_' and '-', ${JSON.stringify(id)} came.`;
      throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'id' });
    }
    checkPrecision(precision, this.options.device);
    if (this.models.has(id) || this.loading.has(id)) {
      throw new RuntimeError('CONFLICT', `Expected a new id, ${id} is taken. Unload it first or choose another.`);
    }
    this.loading.add(id);
    try {
      const model = await this.open(id, source, precision);
      await this.options.adapters.modelLoaded(model);
      this.models.set(id, model);
      if (makeDefault || this.defaultModelId === undefined) this.defaultModelId = id;
      return model;
    } finally {
      this.loading.delete(id);
    }
  }

  async unload(id: string): Promise<boolean> {
    const model = this.models.get(id);
    if (model === undefined) return false;
    this.models.delete(id);
    if (this.defaultModelId === id) this.defaultModelId = undefined;
    this.options.adapters.modelUnloaded(id);
    await model.engine.close();
    return true;
  }

  /** Lets all models end what they run, then frees them. */
  async close(): Promise<void> {
    await Promise.all([...this.models.keys()].map((id) => this.unload(id)));
  }

  private async open(id: string, asked: string, precision: Precision): Promise<ServedModel> {
    const { directories, sources, device, maxInputTokens, scheduler } = this.options;
    const source = (await sources?.fetch('model', asked)) ?? asked;
    const files = await readModelFiles(source, directories);
    const tokenizer = await HuggingFaceTokenizer.parse(files.tokenizerJson, files.specialTokens);
    const { vocabularySize } = files.config;
    if (tokenizer.vocabularySize > vocabularySize) {
      const message = `Expected the tokenizer's ids to stay below vocab_size, which is ${vocabularySize}; it has ${tokenizer.vocabularySize}.`;
      throw new RuntimeError('INVALID_MODEL', message);
    }
    const config = { ...files.config, maxInputTokens: Math.min(files.config.maxInputTokens, maxInputTokens) };
    const { engine, facts } = await this.startEngine(id, tokenizer, { modelFolder: files.folder, config, precision });
    this.options.onLoaded?.(id, facts);
    for (const warning of facts.warnings) this.options.onWarning?.(id, warning);
    return {
      id,
      source,
      folder: files.folder,
      config,
      generationDefaults: files.generationDefaults,
      chat: files.chat,
      templateId: files.templateId,
      tokenizer,
      engine,
      maxRows: scheduler.maxRows,
      precision,
      device,
      parameterCount: facts.parameterCount,
      memoryBytes: facts.memoryBytes,
      loadedAt: new Date(),
    };
  }

  private startEngine(
    id: string,
    { vocabulary }: HuggingFaceTokenizer,
    model: Pick<ModelSetup, 'modelFolder' | 'config' | 'precision'>,
  ) {
    const { device, threadCount, scheduler, engine, onProgress, onWorker, stopping, clock } = this.options;
    const traceSteps = engine.onStep !== undefined;
    const setup = { ...model, device, vocabulary, threadCount, scheduler, traceSteps };
    const options = {
      ...engine,
      onProgress: (stage: string, share: number): void => onProgress?.(id, stage, share),
    };
    return SupervisedEngine.start({
      start: (life) => WorkerEngineClient.start(setup, { ...options, ...life }),
      targets: this.options.adapters.targetsOf(id),
      adaptedAlways: ADAPTED_ALWAYS[setup.device],
      onEvent: (event) => onWorker?.(id, event),
      clock,
      ...(stopping === undefined ? {} : { stopping }),
    });
  }
}

function checkPrecision(precision: Precision, device: Device): void {
  const possible = PRECISIONS[device];
  if (possible.includes(precision)) return;
  const [asked, known] = [precision.toUpperCase(), possible.map((name) => name.toUpperCase()).join(' or ')];
  const other = device === 'cpu' ? 'cuda, on a machine with a GPU' : 'cpu';
  const message = `Expected precision to be ${known} on ${device.toUpperCase()}, ${asked} came. Choose one of these, or start the server with GISTQL_DEVICE=${other}.`;
  throw new RuntimeError('UNSUPPORTED_ARGUMENT', message, { argument: 'precision' });
}
