/** The environment, read once and checked, as one readonly Config. */
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { type Environment, readHubSettings } from './hub-environment.ts';
import type { DeviceSetting } from './runtime/device/device-choice.ts';
import type { HubSettings } from './storage/hub/hub-settings.ts';

interface Setting {
  readonly name: string;
  readonly default: string;
  /** What it means, with its unit. */
  readonly meaning: string;
}

/** Every setting, in the order of the README's table (a test holds both equal). */
export const settings = [
  { name: 'PORT', default: '4000', meaning: 'Port of HTTP and WebSocket; 0 takes a free one.' },
  { name: 'HOST', default: '127.0.0.1', meaning: 'Address to listen on.' },
  {
    name: 'GISTQL_MODEL',
    default: 'embedded:gist-mini',
    meaning: 'Source of the default model: `embedded:NAME`, `dir:NAME` or `hub:OWNER/NAME`.',
  },
  { name: 'GISTQL_MODELS_DIR', default: 'data/models', meaning: 'Folder of the models that `dir:NAME` names.' },
  { name: 'GISTQL_ADAPTERS_DIR', default: 'data/adapters', meaning: 'Folder of the adapters that `dir:NAME` names.' },
  { name: 'GISTQL_DATASETS_DIR', default: 'data/datasets', meaning: 'Folder of datasets.' },
  { name: 'GISTQL_DATA_DIR', default: 'data', meaning: 'Folder of what the server itself writes.' },
  {
    name: 'HF_HOME',
    default: '~/.cache/huggingface',
    meaning: "Hugging Face's folder, with the cache of `hub:OWNER/NAME` and a `token` in it.",
  },
  { name: 'HF_HUB_CACHE', default: '(HF_HOME/hub)', meaning: 'The cache, where it is elsewhere.' },
  {
    name: 'HF_ENDPOINT',
    default: 'https://huggingface.co',
    meaning: 'Address of the hub, or of one that speaks as it does.',
  },
  {
    name: 'HF_TOKEN',
    default: '(HF_HOME/token)',
    meaning: 'Token of the hub, for repositories that are private or have terms; sent to it alone.',
  },
  {
    name: 'HF_HUB_OFFLINE',
    default: '0',
    meaning: 'With 1 the hub is never asked: what is in the cache is all there is.',
  },
  {
    name: 'DATABASE_URL',
    default: '(embedded)',
    meaning: 'PostgreSQL of evaluations and jobs, as `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.',
  },
  {
    name: 'GISTQL_CHECKPOINT_MS',
    default: '30000',
    meaning:
      'Milliseconds that a training goes on without a checkpoint; writing them takes a tenth of the time at most.',
  },
  { name: 'GISTQL_THREADS', default: '(processors, at most 8)', meaning: 'Threads of each model, 1 to 16.' },
  {
    name: 'GISTQL_DEVICE',
    default: 'auto',
    meaning: 'Where models run: cpu, cuda, or auto, which is CUDA where it works and else the CPU.',
  },
  { name: 'GISTQL_LOG_LEVEL', default: 'info', meaning: 'trace, debug, info, warn, error, fatal or silent.' },
  { name: 'GISTQL_MAX_ROWS', default: '32', meaning: 'Rows (beams, sampled sequences) that run in one batch.' },
  {
    name: 'GISTQL_MAX_INPUT_TOKENS',
    default: '4096',
    meaning: 'Source tokens of a request, where a model would take more.',
  },
  {
    name: 'GISTQL_MAX_QUEUE',
    default: '1000',
    meaning: 'Requests of a model in work; more are refused with OVERLOADED.',
  },
  {
    name: 'GISTQL_REQUEST_TIMEOUT_MS',
    default: '300000',
    meaning: 'Milliseconds that a request may take; then TIMEOUT.',
  },
  {
    name: 'GISTQL_ADAPTERS_MEMORY_MB',
    default: '1024',
    meaning: 'Mebibytes of adapters in memory; the least recently used go out and come back on demand.',
  },
  { name: 'GISTQL_MAX_ADAPTERS', default: '1000', meaning: 'Adapters registered, in memory or not.' },
  { name: 'GISTQL_MAX_ADAPTER_RANK', default: '256', meaning: 'Rank of an adapter.' },
  { name: 'GISTQL_MAX_BODY_BYTES', default: '1000000', meaning: 'Bytes of a request body or WebSocket message.' },
  { name: 'GISTQL_MAX_QUERY_DEPTH', default: '12', meaning: 'Nesting of fields in a document.' },
  { name: 'GISTQL_MAX_ALIASES', default: '64', meaning: 'Aliases in a document.' },
  {
    name: 'GISTQL_MAX_DOCUMENT_TOKENS',
    default: '65536',
    meaning:
      'New tokens that one document may ask for: maxNewTokens × max(beams, sequences), summed over its fields and variants.',
  },
  { name: 'GISTQL_MAX_SUBSCRIPTIONS', default: '32', meaning: 'Subscriptions running on one WebSocket connection.' },
] as const satisfies readonly Setting[];

type SettingName = (typeof settings)[number]['name'];

export interface Config {
  readonly port: number;
  readonly host: string;
  readonly modelSource: string;
  readonly modelsDir: string;
  /** Where `embedded:NAME` lies: the repository's own models folder. */
  readonly embeddedModelsDir: string;
  readonly adaptersDir: string;
  readonly datasetsDir: string;
  /** Datasets that come with GistQL: the repository's own. */
  readonly embeddedDatasetsDir: string;
  readonly dataDir: string;
  readonly hub: HubSettings;
  /** Absent: a database embedded in this process, in `dataDir`. */
  readonly databaseUrl: string | undefined;
  /** Milliseconds between two checkpoints of a training. */
  readonly checkpointMs: number;
  readonly threadCount: number;
  readonly device: DeviceSetting;
  readonly logLevel: string;
  readonly limits: Limits;
}

export interface Limits {
  readonly maxRows: number;
  readonly maxInputTokens: number;
  readonly maxQueue: number;
  readonly requestTimeoutMs: number;
  readonly adaptersMemoryMb: number;
  readonly maxAdapters: number;
  readonly maxAdapterRank: number;
  readonly maxBodyBytes: number;
  readonly maxQueryDepth: number;
  readonly maxAliases: number;
  readonly maxDocumentTokens: number;
  readonly maxSubscriptions: number;
}

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
const DEVICES = ['auto', 'cpu', 'cuda'] as const satisfies readonly DeviceSetting[];
/** With more, onnxruntime leaves a thread a single row of a batch, which rounds differently (src/runtime/lora/row-routing.ts). */
const MOST_THREADS = 16;
/** Beyond this many threads one step of a small model gains nothing. */
const MOST_DEFAULT_THREADS = 8;

/** Throws an Error that names the setting, what was expected and what came. */
export function readConfig(environment: Environment): Config {
  const read = (name: SettingName): string => {
    const value = environment[name];
    return value === undefined || value === ''
      ? (settings.find((setting) => setting.name === name)?.default ?? '')
      : value;
  };
  const whole = (name: SettingName, low: number, high: number): number => {
    const value = Number(read(name));
    if (Number.isInteger(value) && value >= low && value <= high) return value;
    throw new Error(
      `Expected ${name} to be a whole number from ${low} to ${high}, ${JSON.stringify(read(name))} came.`,
    );
  };
  const oneOf = <Value extends string>(name: SettingName, values: readonly Value[]): Value => {
    const found = values.find((value) => value === read(name));
    if (found !== undefined) return found;
    throw new Error(`Expected ${name} to be one of ${values.join(', ')}, ${JSON.stringify(read(name))} came.`);
  };
  const billion = 1_000_000_000;
  return {
    port: whole('PORT', 0, 65_535),
    host: read('HOST'),
    modelSource: read('GISTQL_MODEL'),
    modelsDir: read('GISTQL_MODELS_DIR'),
    embeddedModelsDir: fileURLToPath(new URL('../models', import.meta.url)),
    adaptersDir: read('GISTQL_ADAPTERS_DIR'),
    datasetsDir: read('GISTQL_DATASETS_DIR'),
    embeddedDatasetsDir: fileURLToPath(new URL('../examples/datasets', import.meta.url)),
    dataDir: read('GISTQL_DATA_DIR'),
    hub: readHubSettings(environment),
    databaseUrl: readDatabaseUrl(environment.DATABASE_URL),
    checkpointMs: whole('GISTQL_CHECKPOINT_MS', 0, billion),
    threadCount: environment.GISTQL_THREADS
      ? whole('GISTQL_THREADS', 1, MOST_THREADS)
      : Math.min(availableParallelism(), MOST_DEFAULT_THREADS),
    device: oneOf('GISTQL_DEVICE', DEVICES),
    logLevel: oneOf('GISTQL_LOG_LEVEL', LOG_LEVELS),
    limits: {
      maxRows: whole('GISTQL_MAX_ROWS', 1, 1024),
      maxInputTokens: whole('GISTQL_MAX_INPUT_TOKENS', 1, 100_000),
      maxQueue: whole('GISTQL_MAX_QUEUE', 1, billion),
      requestTimeoutMs: whole('GISTQL_REQUEST_TIMEOUT_MS', 1, billion),
      adaptersMemoryMb: whole('GISTQL_ADAPTERS_MEMORY_MB', 1, 1_000_000),
      maxAdapters: whole('GISTQL_MAX_ADAPTERS', 1, 100_000),
      maxAdapterRank: whole('GISTQL_MAX_ADAPTER_RANK', 1, 100_000),
      maxBodyBytes: whole('GISTQL_MAX_BODY_BYTES', 1, billion),
      maxQueryDepth: whole('GISTQL_MAX_QUERY_DEPTH', 1, 1000),
      maxAliases: whole('GISTQL_MAX_ALIASES', 1, 100_000),
      maxDocumentTokens: whole('GISTQL_MAX_DOCUMENT_TOKENS', 1, billion),
      maxSubscriptions: whole('GISTQL_MAX_SUBSCRIPTIONS', 1, 100_000),
    },
  };
}

/** The value is in no message: it has a password in it. */
function readDatabaseUrl(value: string | undefined): string | undefined {
  if (value === undefined || value === '') return undefined;
  if (/^postgres(ql)?:\/\/[^/]/.test(value) && URL.canParse(value)) return value;
  throw new Error('Expected DATABASE_URL to be postgres://USER:PASSWORD@HOST:PORT/DATABASE, something else came.');
}
