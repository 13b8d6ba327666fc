/** Which files of a repository are needed, by their names alone. What can run code when it is opened never is. */
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from '../adapter-folder.ts';
import { MANIFEST_FILE, splitOf } from '../dataset-files.ts';
import { PICKLE, WEIGHTS_FILE, WEIGHTS_INDEX } from '../model-folder.ts';
import { listed } from '../storage-error.ts';
import { HubError } from './hub-error.ts';
import { type HubKind, type HubSource, withArticle } from './hub-source.ts';

export interface FileChoice {
  readonly kind: HubKind;
  /** Texts and settings, of bounded size. */
  readonly small: readonly string[];
  /** The files that all this is about. */
  readonly large: readonly string[];
  /** One of `small` that names the weights, where they are in several files. */
  readonly index: string | undefined;
}

const CONFIG = 'config.json';
const TOKENIZER = 'tokenizer.json';
/** Beside any weights, where they are there. */
const BESIDE_WEIGHTS = [
  'generation_config.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
];
const GGUF = /\.gguf$/;

type Names = ReadonlySet<string>;

/** `kind` undefined: what the repository is says so itself. Throws HubError where it has not what is needed. */
export function chooseFiles(names: readonly string[], source: HubSource, kind: HubKind | undefined): FileChoice {
  const all = new Set(names);
  const { file } = source;
  if (file !== undefined && !all.has(file)) {
    throw new HubError('missing', `Expected ${file} to be a file of ${source.repo}, it has ${sorted(names)}.`);
  }
  const meant = kind ?? kindOf(all, source);
  switch (meant) {
    case 'model':
      return chooseModel(all, source);
    case 'adapter':
      return chooseAdapter(all, source);
    case 'dataset':
      return chooseDataset(names, source);
    default:
      return meant satisfies never;
  }
}

function kindOf(names: Names, { type, file }: HubSource): HubKind {
  if (type === 'dataset') return 'dataset';
  const hasModel = file !== undefined || names.has(WEIGHTS_FILE) || names.has(WEIGHTS_INDEX);
  return names.has(ADAPTER_CONFIG_FILE) && !hasModel ? 'adapter' : 'model';
}

function chooseModel(names: Names, source: HubSource): FileChoice {
  const { repo, file } = source;
  if (file !== undefined && !GGUF.test(file)) {
    throw new HubError('name', `Expected the file behind the # to be one of ${repo}'s *.gguf, ${file} came.`);
  }
  const index = names.has(WEIGHTS_FILE) || !names.has(WEIGHTS_INDEX) ? undefined : WEIGHTS_INDEX;
  if (file !== undefined || (!names.has(WEIGHTS_FILE) && index === undefined)) {
    const small = [TOKENIZER, ...BESIDE_WEIGHTS].filter((name) => names.has(name));
    return { kind: 'model', small, large: [file ?? onlyGguf([...names], source)], index: undefined };
  }
  for (const name of [CONFIG, TOKENIZER]) if (!names.has(name)) throw lacks(source, 'model', name, names);
  const small = [CONFIG, TOKENIZER, ...BESIDE_WEIGHTS.filter((name) => names.has(name))];
  if (index !== undefined) return { kind: 'model', small: [...small, index], large: [], index };
  return { kind: 'model', small, large: [WEIGHTS_FILE], index };
}

function onlyGguf(names: readonly string[], source: HubSource): string {
  const files = names.filter((name) => GGUF.test(name)).sort();
  const [file, other] = files;
  if (file === undefined) {
    if (names.includes(ADAPTER_CONFIG_FILE)) {
      throw new HubError('invalid', `Expected ${source.repo} to be a model, it is an adapter. Load it as one.`);
    }
    throw lacks(source, 'model', `${WEIGHTS_FILE}, ${WEIGHTS_INDEX} or a *.gguf`, names);
  }
  if (other === undefined) return file;
  const example = `hub:${source.repo}@${source.revision}#${file}`;
  throw new HubError('name', `Expected one *.gguf in ${source.repo}, it has ${listed(files)}. Name one: ${example}.`);
}

function chooseAdapter(names: Names, source: HubSource): FileChoice {
  const { repo, file = ADAPTER_WEIGHTS_FILE } = source;
  if (file !== ADAPTER_WEIGHTS_FILE) {
    throw new HubError('name', `Expected no file of ${repo}, an adapter, but ${ADAPTER_WEIGHTS_FILE}; ${file} came.`);
  }
  for (const name of [ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE])
    if (!names.has(name)) throw lacks(source, 'adapter', name, names);
  return { kind: 'adapter', small: [ADAPTER_CONFIG_FILE], large: [ADAPTER_WEIGHTS_FILE], index: undefined };
}

function chooseDataset(names: readonly string[], source: HubSource): FileChoice {
  const { file } = source;
  const large = names.filter((name) => splitOf(name) !== undefined && (file === undefined || name === file)).sort();
  if (large.length === 0) throw lacks(source, 'dataset', 'a SPLIT.jsonl, SPLIT.csv or SPLIT.json', names);
  return { kind: 'dataset', small: names.filter((name) => name === MANIFEST_FILE), large, index: undefined };
}

function lacks({ repo, revision }: HubSource, kind: HubKind, wanted: string, names: Iterable<string>): HubError {
  const pickle = kind === 'dataset' ? undefined : [...names].find((name) => PICKLE.test(name));
  const came =
    pickle === undefined
      ? `it has ${sorted(names)}`
      : `the pickle ${pickle} came, which can run code and is never fetched. Name a revision that has safetensors`;
  return new HubError('invalid', `Expected ${repo}@${revision} to be ${withArticle(kind)} with ${wanted}, ${came}.`);
}

function sorted(names: Iterable<string>): string {
  const all = [...names].sort();
  return all.length === 0 ? 'no files' : listed(all);
}
