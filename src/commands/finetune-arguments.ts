/** What `gistql finetune` is asked on the command line, checked as far as that needs no file. */
import { parseArgs } from 'node:util';
import {
  DEFAULT_SPLIT,
  DEFAULT_TARGET_TOKENS,
  defaultLora,
  defaultOptimization,
  type LoraRequest,
  type TrainingRequest,
} from '../training/jobs/training-request.ts';
import type { OptimizationSettings } from '../training/run/trainer-protocol.ts';

interface StartArguments {
  /** Undefined: the default model. */
  readonly model: string | undefined;
  readonly request: Omit<TrainingRequest, 'modelId'>;
  readonly idempotencyKey: string | null;
}

export interface FinetuneArguments {
  /** A new training, or the id of one that is to go on. */
  readonly training: StartArguments | string;
  /** Whether the result is printed as one JSON object. */
  readonly json: boolean;
}

const { rank, alpha, dropout } = defaultLora;
const { epochs, batchSize, learningRate, schedule, maxGradNorm } = defaultOptimization;

export const FINETUNE_USAGE = `gistql finetune --dataset NAME --output ID [options]
gistql finetune --resume ID
    trains a LoRA adapter, or every weight of a model, on the samples of a dataset

  --dataset NAME            folder in GISTQL_DATASETS_DIR, one that comes with GistQL (everyday), or hub:OWNER/NAME
  --output ID               name of what comes out: a folder in GISTQL_ADAPTERS_DIR, or in GISTQL_MODELS_DIR
  --method lora|full        default: lora
  --model SOURCE            dir:NAME (folder in GISTQL_MODELS_DIR), embedded:NAME or hub:OWNER/NAME; default: GISTQL_MODEL
  --split NAME              default: ${DEFAULT_SPLIT}
  --limit N                 the first N samples; default: all
  --template ID             prompt template; default: the model's own
  --max-source-tokens N     longer texts are cut; default: 512, or what the model takes
  --max-target-tokens N     longer summaries are cut; default: ${DEFAULT_TARGET_TOKENS}

  --evaluate-every-steps N  looks at the loss on the validation split; the best weights come out
  --validation-split NAME   default: validation, where there is one
  --validation-limit N      the first N samples of it; default: all

  --rank N --alpha X --dropout X          default: ${rank}, ${alpha}, ${dropout}
  --target-modules q,v      ends of paths of matrices, or all-linear; default: q,v
  --rslora                  scales by the root of the rank

  --epochs X                default: ${epochs}
  --max-steps N             takes the place of epochs
  --batch-size N            default: ${batchSize}
  --gradient-accumulation N batches of a step; default: 1
  --learning-rate X         default: ${learningRate}
  --schedule constant|linear|cosine       default: ${schedule}
  --warmup-steps N --weight-decay X --label-smoothing X --seed N          default: 0
  --max-grad-norm X         0: gradients are not clipped; default: ${maxGradNorm}

  --idempotency-key K       the same key and command give the same run; one that was left unfinished goes on
  --resume ID               goes on with a training that was cancelled, failed, or left unfinished
  --json                    prints one JSON object
  --help                    prints this

  gistql finetune --dataset everyday --output everyday-lora --epochs 3
  gistql finetune --dataset mine --output mine-full --method full --learning-rate 0.0001 --evaluate-every-steps 200

What comes out is registered: a server on the same data folder has the adapter, and any server the folder.
Ctrl-C cancels the run: it ends after a step, and --resume goes on from there. A process that ends in another way
(kill, a crash) leaves the run unfinished; --resume goes on with it too.
Exit code 0: the run has succeeded; 130: it was cancelled by Ctrl-C; 143: it was left at SIGTERM; else 1.`;

const SEE_HELP = 'See gistql finetune --help.';
const SCHEDULES = ['constant', 'linear', 'cosine'] as const;
const METHODS = ['lora', 'full'] as const;
const LORA_OPTIONS = ['rank', 'alpha', 'dropout', 'target-modules', 'rslora'] as const;

/** Undefined: help is asked for. Throws an Error that says what was expected. */
export function readFinetuneArguments(written: readonly string[]): FinetuneArguments | undefined {
  const values = readOptions(written);
  if (values.help) return undefined;
  const { resume, json } = values;
  if (resume !== undefined) {
    const others = Object.keys(values).filter((name) => !['resume', 'json'].includes(name));
    if (others.length === 0) return { training: resume, json };
    throw new Error(`Expected --resume ID alone, --${others[0]} came too. Its settings stay as they are. ${SEE_HELP}`);
  }
  return { training: readStart(values), json };
}

type Values = ReturnType<typeof readOptions>;

function readOptions(written: readonly string[]) {
  const text = { type: 'string' } as const;
  try {
    const { json = false, ...values } = parseArgs({
      args: [...written],
      options: {
        dataset: text,
        output: text,
        method: text,
        model: text,
        split: text,
        limit: text,
        template: text,
        'max-source-tokens': text,
        'max-target-tokens': text,
        'evaluate-every-steps': text,
        'validation-split': text,
        'validation-limit': text,
        rank: text,
        alpha: text,
        dropout: text,
        'target-modules': text,
        rslora: { type: 'boolean' },
        epochs: text,
        'max-steps': text,
        'batch-size': text,
        'gradient-accumulation': text,
        'learning-rate': text,
        schedule: text,
        'warmup-steps': text,
        'weight-decay': text,
        'label-smoothing': text,
        seed: text,
        'max-grad-norm': text,
        'idempotency-key': text,
        resume: text,
        json: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    }).values;
    return { ...values, json };
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : error} ${SEE_HELP}`, { cause: error });
  }
}

function readStart(values: Values): StartArguments {
  const { dataset, output, model, split, template } = values;
  if (dataset === undefined) throw new Error(`Expected --dataset NAME, none came. ${SEE_HELP}`);
  if (output === undefined) throw new Error(`Expected --output ID, none came. ${SEE_HELP}`);
  return {
    model,
    idempotencyKey: values['idempotency-key'] ?? null,
    request: {
      method: oneOf('--method', values.method ?? 'lora', METHODS),
      outputId: output,
      dataset,
      split: split ?? DEFAULT_SPLIT,
      limit: numberOf(values, 'limit', null),
      validationSplit: values['validation-split'] ?? null,
      validationLimit: numberOf(values, 'validation-limit', null),
      templateId: template ?? null,
      maxSourceTokens: numberOf(values, 'max-source-tokens', null),
      maxTargetTokens: numberOf(values, 'max-target-tokens', DEFAULT_TARGET_TOKENS),
      lora: readLora(values),
      optimization: readOptimization(values),
      evaluateEverySteps: numberOf(values, 'evaluate-every-steps', null),
    },
  };
}

/** Null where nothing of it is said. */
function readLora(values: Values): LoraRequest | null {
  if (LORA_OPTIONS.every((name) => values[name] === undefined)) return null;
  return {
    rank: numberOf(values, 'rank', rank),
    alpha: numberOf(values, 'alpha', alpha),
    dropout: numberOf(values, 'dropout', dropout),
    targetModules: values['target-modules']?.split(',').filter((name) => name !== '') ?? null,
    useRslora: values.rslora ?? defaultLora.useRslora,
  };
}

function readOptimization(values: Values): OptimizationSettings {
  const settings = defaultOptimization;
  return {
    epochs: numberOf(values, 'epochs', settings.epochs),
    maxSteps: numberOf(values, 'max-steps', settings.maxSteps),
    batchSize: numberOf(values, 'batch-size', settings.batchSize),
    gradientAccumulation: numberOf(values, 'gradient-accumulation', settings.gradientAccumulation),
    learningRate: numberOf(values, 'learning-rate', settings.learningRate),
    schedule: oneOf('--schedule', values.schedule ?? settings.schedule, SCHEDULES),
    warmupSteps: numberOf(values, 'warmup-steps', settings.warmupSteps),
    weightDecay: numberOf(values, 'weight-decay', settings.weightDecay),
    maxGradNorm: numberOf(values, 'max-grad-norm', settings.maxGradNorm),
    labelSmoothing: numberOf(values, 'label-smoothing', settings.labelSmoothing),
    seed: numberOf(values, 'seed', settings.seed),
  };
}

/** A number as it is written; whether it may be so is the training's to say. */
function numberOf<Otherwise extends number | null>(
  values: Values,
  name: keyof Values,
  otherwise: Otherwise,
): number | Otherwise {
  const written = values[name];
  if (written === undefined) return otherwise;
  const value = typeof written === 'string' && written.trim() !== '' ? Number(written) : Number.NaN;
  if (Number.isFinite(value)) return value;
  throw new Error(`Expected --${name} to be a number, ${JSON.stringify(written)} came. ${SEE_HELP}`);
}

function oneOf<Name extends string>(option: string, written: string, names: readonly Name[]): Name {
  const found = names.find((name) => name === written);
  if (found !== undefined) return found;
  throw new Error(`Expected ${option} to be ${names.join(' or ')}, ${JSON.stringify(written)} came. ${SEE_HELP}`);
}
