/** What `gistql pull` is asked on the command line, checked as far as that needs no network. */
import { parseArgs } from 'node:util';
import { type HubKind, isHubSource, parseHubSource } from '../storage/hub/hub-source.ts';

export interface PullArguments {
  /** `hub:…` */
  readonly source: string;
  /** Undefined: the repository says so itself. */
  readonly kind: HubKind | undefined;
  /** Whether the result is printed as one JSON object. */
  readonly json: boolean;
}

export const PULL_USAGE = `gistql pull hub:OWNER/NAME[@REVISION][#FILE] [--kind model|adapter|dataset] [--json]
    fetches a model, an adapter or a dataset of the Hugging Face hub into Hugging Face's cache

  hub:OWNER/NAME           a model, or an adapter where the repository has an adapter_config.json
  hub:datasets/OWNER/NAME  a dataset; the same as hub:OWNER/NAME --kind dataset
  @REVISION                a branch, a tag or a commit; default: main
  #FILE                    the one that is meant: of several *.gguf, or of several splits
  --kind KIND              what it must be
  --json                   prints one JSON object
  --help                   prints this

  gistql pull hub:google/flan-t5-small
  gistql pull hub:datasets/knkarthick/dialogsum

Of a repository only what is needed is fetched: settings, tokenizer and *.safetensors (or one *.gguf) of a model;
adapter_config.json and adapter_model.safetensors of an adapter; *.jsonl, *.csv and *.json of a dataset. Pickles (*.bin,
*.pt) never are. Every file is held against the digest that the hub says. A download that breaks off goes on where it
was when the same command is given again.
HF_HOME says where the cache is, HF_ENDPOINT where the hub is, HF_TOKEN who asks; HF_HUB_OFFLINE=1 asks nobody.
Exit code 0: all of it is here; 130: cancelled by Ctrl-C; 143: by SIGTERM; else 1.`;

const SEE_HELP = 'See gistql pull --help.';
const KINDS = ['model', 'adapter', 'dataset'] as const;

/** Undefined: help is asked for. Throws an Error that says what was expected. */
export function readPullArguments(written: readonly string[]): PullArguments | undefined {
  const { values, positionals } = readOptions(written);
  if (values.help) return undefined;
  const [name, surplus] = positionals;
  if (name === undefined || surplus !== undefined) {
    const came = name === undefined ? 'none' : positionals.join(' and ');
    throw new Error(`Expected one hub:OWNER/NAME, ${came} came. ${SEE_HELP}`);
  }
  if (!isHubSource(name)) throw new Error(`Expected hub:OWNER/NAME, ${JSON.stringify(name)} came. ${SEE_HELP}`);
  const kind = values.kind === undefined ? undefined : readKind(values.kind);
  parseHubSource(name, kind);
  return { source: name, kind, json: values.json };
}

function readOptions(written: readonly string[]) {
  try {
    return parseArgs({
      args: [...written],
      allowPositionals: true,
      options: {
        kind: { type: 'string' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : error} ${SEE_HELP}`, { cause: error });
  }
}

function readKind(written: string): HubKind {
  const kind = KINDS.find((one) => one === written);
  if (kind !== undefined) return kind;
  throw new Error(`Expected --kind to be ${KINDS.join(', ')}, ${JSON.stringify(written)} came. ${SEE_HELP}`);
}
