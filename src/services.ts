/** What lives as long as a process that serves models, opened from its settings: behind a server or without one. */
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Config } from './config.ts';
import type { Services } from './context.ts';
import { RougeScorer } from './evaluation/rouge/rouge.ts';
import { evaluationKind } from './evaluation/runs/evaluation-kind.ts';
import { WorkTurns } from './evaluation/work.ts';
import { RunDesk } from './jobs/run-desk.ts';
import { AdapterRegistry } from './runtime/adapters/adapter-registry.ts';
import { type DatasetDirectories, DatasetDirectory } from './runtime/datasets/dataset-directory.ts';
import { chooseDevice, type DeviceChoice, keepFloat32 } from './runtime/device/device-choice.ts';
import { probeCuda } from './runtime/device/probe-cuda.ts';
import { type Clock, systemClock } from './runtime/engine/clock.ts';
import { prefillTokensOn } from './runtime/engine/prefill-tokens.ts';
import type { StepTrace } from './runtime/engine/step-plan.ts';
import { EngineTextGenerator } from './runtime/engine-text-generator.ts';
import { HubSources } from './runtime/hub-sources.ts';
import type { ModelDirectories } from './runtime/models/model-files.ts';
import { ModelRegistry } from './runtime/models/model-registry.ts';
import { modelIdOf } from './runtime/models/model-source.ts';
import type { Device, LoadModelRequest } from './runtime/models/served-model.ts';
import { AdapterLoader } from './runtime/peft/adapter-loader.ts';
import type { AdapterPlaces } from './runtime/peft/adapter-source.ts';
import { TemplateSummarizer } from './runtime/template-summarizer.ts';
import { logWorkerEvent } from './server/log-worker-event.ts';
import { AdapterStore } from './storage/adapter-store.ts';
import { MEBIBYTE } from './storage/byte-size.ts';
import { HubStore } from './storage/hub/hub-store.ts';
import { trainingKind } from './training/jobs/training-kind.ts';
import type { TrainingRunner } from './training/jobs/training-parts.ts';
import { runTraining } from './training/run/training-process.ts';
import { readVersion } from './version.ts';

export interface ServiceHooks {
  /** Called with the plan of every step of every model. */
  readonly onStep?: (trace: StepTrace) => void;
  /** Says when workers that ended are started again. Default: the system's. */
  readonly clock?: Clock;
  /** Default: in a process of their own. */
  readonly runTraining?: TrainingRunner;
}

/** Steps after which a request gives way to waiting ones: longer than almost every summary. */
const TIME_SLICE_STEPS = 512;
/** Between two lines of the log on what comes from the hub. */
const FETCHING_EVERY_MS = 5000;

interface ServiceParts {
  readonly log: Logger;
  readonly hooks: ServiceHooks;
  readonly stopping: AbortSignal;
}

interface OpenServices {
  readonly services: Services;
  /** Where models run, and why there. */
  readonly deviceChoice: DeviceChoice;
  /** Lets evaluations and trainings go on that a process left; rejects when their database cannot be opened. */
  resumeRuns(): Promise<void>;
  /** Lets what runs end, then frees everything. */
  close(): Promise<void>;
}

/** Rejects with what stands in the way. */
export async function openServices(config: Config, parts: ServiceParts): Promise<OpenServices> {
  const { maxAdapterRank, maxRows } = config.limits;
  const { log, hooks, stopping } = parts;
  const deviceChoice = await chooseDevice(config.device, probeCuda);
  log.info({ asked: config.device, ...deviceChoice }, 'device');
  if (deviceChoice.device === 'cuda') keepFloat32(process.env);
  const reader = new AdapterLoader(adapterPlaces(config), { maxRank: maxAdapterRank });
  const sources = createSources(config, parts);
  const adapters = await openAdapters(config, parts, { reader, sources });
  const models = createModels(config, parts, { adapters, sources, device: deviceChoice.device });
  const generator = new EngineTextGenerator(models, adapters);
  const turns = new WorkTurns();
  const common = {
    models,
    adapters,
    datasets: new DatasetDirectory(datasetDirectories(config), stopping, sources),
    summarizer: new TemplateSummarizer(models, generator),
    rouge: new RougeScorer(turns),
  };
  const clock = hooks.clock ?? systemClock;
  const { databaseUrl, dataDir } = config;
  const onError = (error: unknown): void => log.error({ err: error }, 'runs');
  const runs = new RunDesk({ databaseUrl, dataDir, clock, onError, stopping });
  const { maxQueue } = config.limits;
  const evaluations = runs.add(
    evaluationKind({ ...common, turns, clock, version: readVersion(), maxRows, maxQueue, stopping }),
  );
  const trainings = runs.add(
    trainingKind({
      ...common,
      clock,
      stopping,
      onError,
      folders: {
        models: modelDirectories(config),
        datasets: datasetDirectories(config),
        adapters: config.adaptersDir,
        checkpoints: join(dataDir, 'trainings'),
      },
      runTraining: hooks.runTraining ?? runTraining,
      threadCount: config.threadCount,
      maxInputTokens: config.limits.maxInputTokens,
      maxRank: maxAdapterRank,
      checkpointMs: config.checkpointMs,
    }),
  );
  return {
    services: { ...common, generator, evaluations, trainings },
    deviceChoice,
    resumeRuns: () => runs.resume(),
    close: async () => {
      await runs.close();
      await models.close();
      await reader.close();
      await adapters.close();
    },
  };
}

function openAdapters(
  config: Config,
  { log, hooks, stopping }: ServiceParts,
  io: { readonly reader: AdapterLoader; readonly sources: HubSources },
): Promise<AdapterRegistry> {
  const { adaptersMemoryMb, maxAdapters, maxQueue, requestTimeoutMs } = config.limits;
  return AdapterRegistry.open({
    ...io,
    ...adapterPlaces(config),
    store: new AdapterStore(config.dataDir),
    residency: {
      budgetBytes: adaptersMemoryMb * MEBIBYTE,
      maxWaiting: maxQueue,
      waitMs: requestTimeoutMs,
      clock: hooks.clock ?? systemClock,
    },
    maxAdapters,
    onWarning: (warning, adapter) => log.warn({ adapter }, warning),
    stopping,
  });
}

function createModels(
  config: Config,
  { log, hooks, stopping }: ServiceParts,
  io: { readonly adapters: AdapterRegistry; readonly sources: HubSources; readonly device: Device },
): ModelRegistry {
  const { maxRows, maxInputTokens, maxQueue, requestTimeoutMs } = config.limits;
  const { clock = systemClock, ...engineHooks } = hooks;
  return new ModelRegistry({
    ...io,
    directories: modelDirectories(config),
    threadCount: config.threadCount,
    maxInputTokens,
    scheduler: { maxRows, prefillTokens: prefillTokensOn(io.device), timeSliceSteps: TIME_SLICE_STEPS },
    engine: { limits: { maxPending: maxQueue, requestTimeoutMs }, ...engineHooks },
    onProgress: (model, stage, share) => log.info({ model, stage, share: Number(share.toFixed(2)) }, 'loading'),
    onLoaded: (model, { kernels, memoryBytes }) => log.info({ model, weights: kernels, memoryBytes }, 'loaded'),
    onWarning: (model, warning) => log.warn({ model }, warning),
    onWorker: (model, event) => logWorkerEvent(log, model, event),
    stopping,
    clock,
  });
}

function createSources({ hub }: Config, { log, hooks, stopping }: ServiceParts): HubSources {
  const { clock = systemClock } = hooks;
  let nextMs = Number.NEGATIVE_INFINITY;
  return new HubSources(new HubStore(hub, { clock }), {
    stopping,
    onNotice: (notice) => log.warn(notice),
    onProgress: (source, { bytesDone, bytesTotal }) => {
      if (clock.now() < nextMs) return;
      nextMs = clock.now() + FETCHING_EVERY_MS;
      log.info({ source, bytesDone, bytesTotal }, 'fetching');
    },
  });
}

function adapterPlaces({ adaptersDir, hub }: Config): AdapterPlaces {
  return { adaptersDir, hubCacheDir: hub.cacheDir };
}

function modelDirectories({ embeddedModelsDir, modelsDir, hub }: Config): ModelDirectories {
  return { embedded: embeddedModelsDir, models: modelsDir, hubCacheDir: hub.cacheDir };
}

function datasetDirectories({ datasetsDir, embeddedDatasetsDir, hub }: Config): DatasetDirectories {
  return { datasets: datasetsDir, embedded: embeddedDatasetsDir, hubCacheDir: hub.cacheDir };
}

/** The default model under its own name: the one in its source. */
export function defaultModelRequest({ modelSource }: Config): LoadModelRequest {
  return { id: modelIdOf(modelSource) ?? modelSource, source: modelSource };
}
