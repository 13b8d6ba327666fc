/** What `gistql evaluate` is asked on the command line, checked as far as that needs no file. */
import { extname } from 'node:path';
import { parseArgs } from 'node:util';
import { readWhole } from '../bench/read-number.ts';
import { exportExtensions, findExportFormat } from '../evaluation/sample-export.ts';
import { decodingNames, parseVariantSpec, type VariantSpec } from './variant-spec.ts';

export interface EvaluateArguments {
  readonly dataset: string;
  readonly split: string;
  /** Null: every sample. */
  readonly limit: number | null;
  /** Null: the first ones. */
  readonly sampleSeed: number | null;
  /** Null: all. */
  readonly references: readonly number[] | null;
  readonly useStemmer: boolean;
  /** Undefined: as many as the number of variants asks for. */
  readonly signPatterns: number | undefined;
  readonly idempotencyKey: string | null;
  readonly variants: readonly VariantSpec[];
  /** Whether the result is printed as one JSON object. */
  readonly json: boolean;
  /** Files to which the samples go. */
  readonly exports: readonly string[];
}

export const EVALUATE_USAGE = `gistql evaluate --dataset NAME --variant SPEC [--variant SPEC …] [options]
    measures variants on the samples of a dataset: ROUGE with intervals, differences from the first variant

  --dataset NAME        folder in GISTQL_DATASETS_DIR, one that comes with GistQL (everyday), or hub:OWNER/NAME
  --split NAME          default: test
  --limit N             the first N samples; with --sample-seed: N drawn ones
  --sample-seed N       whole number that decides which samples are drawn
  --references 0,1      reference sets by index, the best counts for each metric; default: all
  --no-stemmer          compares words as they are, not their stems
  --sign-patterns N     of each randomization test, 1,000 to 10,000,000; default: 10,000 for each variant but the first
  --idempotency-key K   the same key and command give the same run; one that was left unfinished goes on
  --export FILE         writes the samples to FILE.jsonl or FILE.csv; may be given several times
  --json                prints one JSON object instead of the tables
  --help                prints this

SPEC is NAME=VALUE,NAME=VALUE,… of
  label        name of the variant in the tables; default: the SPEC itself
  model        dir:NAME (folder in GISTQL_MODELS_DIR), embedded:NAME or hub:OWNER/NAME; default: GISTQL_MODEL
  adapters     dir:NAME:WEIGHT+dir:NAME:WEIGHT… (folders in GISTQL_ADAPTERS_DIR, loaded for the run), hub:OWNER/NAME,
               ids of registered ones, or none; without :WEIGHT 1; default: the model's active one
  template     id of a prompt template; default: the model's own
  shots        worked examples in the prompt: the first ones of the dataset's split train, with their first reference
  beams        short for numBeams
  decoding     by the names of the API: ${decodingNames.slice(0, 5).join(', ')},
               ${decodingNames.slice(5, 11).join(', ')},
               ${decodingNames.slice(11).join(', ')};
               stop and badWords may come several times; default: the model's own
  A \\ before a comma (or a +, :, \\) makes it part of the value.

  gistql evaluate --dataset everyday --variant label=greedy --variant label=beams,beams=4
  gistql evaluate --dataset mine --limit 100 --variant label=base,adapters=none --variant label=tuned,adapters=dir:tuned

Ctrl-C cancels the run: it ends within a sample, and what was scored is printed. A process that ends in another way
(kill, a crash) leaves the run unfinished; the same command with the same --idempotency-key goes on with it.
Exit code 0: the run has succeeded; 130: it was cancelled by Ctrl-C; 143: it was left at SIGTERM; else 1.`;

const LARGEST_SEED = 2 ** 31 - 1;
const SEE_HELP = 'See gistql evaluate --help.';

/** Undefined: help is asked for. Throws an Error that says what was expected. */
export function readEvaluateArguments(written: readonly string[]): EvaluateArguments | undefined {
  const values = readOptions(written);
  if (values.help) return undefined;
  const { dataset, split, limit, 'sample-seed': seed, references } = values;
  const { 'idempotency-key': idempotencyKey, 'sign-patterns': signPatterns } = values;
  if (dataset === undefined) throw new Error(`Expected --dataset NAME, none came. ${SEE_HELP}`);
  if (values.variant.length === 0) {
    throw new Error(`Expected at least one --variant, none came, as in --variant label=greedy. ${SEE_HELP}`);
  }
  const range = { low: 1, high: Number.MAX_SAFE_INTEGER };
  return {
    dataset,
    split,
    limit: limit === undefined ? null : readWhole('--limit', limit, range),
    sampleSeed: seed === undefined ? null : readWhole('--sample-seed', seed, { low: 0, high: LARGEST_SEED }),
    references: references === undefined ? null : readReferences(references),
    useStemmer: !values['no-stemmer'],
    signPatterns:
      signPatterns === undefined
        ? undefined
        : readWhole('--sign-patterns', signPatterns, { low: 1000, high: 10_000_000 }),
    idempotencyKey: idempotencyKey ?? null,
    variants: values.variant.map(parseVariantSpec),
    json: values.json,
    exports: values.export.map(checkExport),
  };
}

function readOptions(written: readonly string[]) {
  try {
    return parseArgs({
      args: [...written],
      options: {
        dataset: { type: 'string' },
        split: { type: 'string', default: 'test' },
        variant: { type: 'string', multiple: true, default: [] },
        limit: { type: 'string' },
        'sample-seed': { type: 'string' },
        references: { type: 'string' },
        'no-stemmer': { type: 'boolean', default: false },
        'sign-patterns': { type: 'string' },
        'idempotency-key': { type: 'string' },
        export: { type: 'string', multiple: true, default: [] },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values;
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : error} ${SEE_HELP}`, { cause: error });
  }
}

function readReferences(text: string): readonly number[] {
  if (/^\d{1,6}(,\d{1,6})*$/.test(text)) return text.split(',').map(Number);
  throw new Error(`Expected --references to be indexes like 0,1, ${JSON.stringify(text)} came.`);
}

function checkExport(file: string): string {
  if (findExportFormat(extname(file).slice(1)) !== undefined) return file;
  const endings = exportExtensions.map((name) => `.${name}`).join(' or ');
  throw new Error(`Expected --export to name a file that ends in ${endings}, ${JSON.stringify(file)} came.`);
}
