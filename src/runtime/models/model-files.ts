/** The small files of a model folder: what the serving thread needs before a worker reads the weights. */
import { isObject, parseJsonObject } from '../../storage/bounded-file.ts';
import { wholeMebibytes } from '../../storage/byte-size.ts';
import { isHubSource } from '../../storage/hub/hub-source.ts';
import { findGguf, readJson, readText, resolveFolder } from '../../storage/model-folder.ts';
import { quoted, StorageError } from '../../storage/storage-error.ts';
import { RuntimeError } from '../errors.ts';
import { GgufModel } from '../gguf/gguf-model.ts';
import { findHubFolder } from '../hub-sources.ts';
import { type ChatFrame, readChatFrame } from '../prompts/chat-template.ts';
import type { SpecialTokens } from '../tokenizer/hugging-face-tokenizer.ts';
import { usableMemory } from '../usable-memory.ts';
import type { JsonObject } from './config-fields.ts';
import type { GenerationDefaults, ModelConfig } from './model-config.ts';
import { leastParameterCount } from './model-modules.ts';
import { parseConfig } from './parse-config.ts';
import { parseGenerationDefaults, parseTemplateId } from './parse-generation-config.ts';

export interface ModelFiles {
  readonly folder: string;
  readonly config: ModelConfig;
  readonly generationDefaults: GenerationDefaults;
  /** What an instruct model wants around a user's message. */
  readonly chat: ChatFrame | undefined;
  /** Prompt template named by `prompt_template` of generation_config.json. */
  readonly templateId: string | undefined;
  /** The text of a tokenizer.json. */
  readonly tokenizerJson: string;
  /** End tokens, and what tokenizer_config.json names: no part of a text, as transformers has it. */
  readonly specialTokens: SpecialTokens;
}

export interface ModelDirectories {
  /** Folders of `embedded:NAME`. */
  readonly embedded: string;
  /** Folders of `dir:NAME`. */
  readonly models: string;
  /** Hugging Face's cache, of `hub:OWNER/NAME`. Default: sources of the hub are refused. */
  readonly hubCacheDir?: string;
}

const STORAGE_CODES = { missing: 'NOT_FOUND', invalid: 'INVALID_MODEL', name: 'BAD_USER_INPUT' } as const;
const SOURCE = /^(embedded|dir):(.*)$/s;
const FLOAT_BYTES = 4;
const SPECIAL_TOKENS = ['bos_token', 'eos_token', 'pad_token', 'unk_token'];

/** Gives what storage says of a model's files its public code. */
export async function withModelErrors<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof StorageError)) throw cause;
    const details = cause.reason === 'invalid' ? {} : { argument: 'source' };
    throw new RuntimeError(STORAGE_CODES[cause.reason], cause.message, details, { cause });
  }
}

/** Finds and reads the folder of a source: `embedded:NAME`, `dir:NAME` or, once it is fetched, `hub:…`; never a path. */
export function readModelFiles(source: string, directories: ModelDirectories): Promise<ModelFiles> {
  return withModelErrors(async () => {
    const { hubCacheDir } = directories;
    if (isHubSource(source) && hubCacheDir !== undefined) {
      return readFolder((await findHubFolder(hubCacheDir, 'model', source)).folder, source);
    }
    const [, kind, name] = SOURCE.exec(source) ?? [];
    if (kind === undefined || name === undefined) {
      const message = `Expected source to be dir:NAME, embedded:NAME or hub:OWNER/NAME, ${quoted(source)} came.`;
      throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'source' });
    }
    return readFolder(await resolveFolder(kind === 'dir' ? directories.models : directories.embedded, name), source);
  });
}

/** What a folder's files say in the spelling of Hugging Face, wherever they say it. */
interface SmallFiles {
  readonly config: JsonObject;
  readonly generation: JsonObject;
  readonly tokenizerConfig: JsonObject;
  readonly tokenizerJson: string;
}

async function readFolder(folder: string, source: string): Promise<ModelFiles> {
  const gguf = await findGguf(folder);
  const files = gguf === undefined ? await readHuggingFace(folder, source) : await readGguf(folder, gguf);
  const { generation, tokenizerConfig, tokenizerJson } = files;
  const config = parseConfig(files.config, { tokenizer: tokenizerConfig, generation });
  checkMemory(config);
  return {
    folder,
    config,
    generationDefaults: parseGenerationDefaults(generation),
    chat: config.family === 't5' ? undefined : await readChat(folder, tokenizerConfig),
    templateId: parseTemplateId(generation),
    tokenizerJson,
    specialTokens: { texts: Object.values(specialTokens(tokenizerConfig)), ids: config.eosTokenIds },
  };
}

async function readHuggingFace(folder: string, source: string): Promise<SmallFiles> {
  const config = await readJson(folder, 'config.json');
  if (config === undefined) return missing(source, 'config.json');
  const tokenizerJson = await readText(folder, 'tokenizer.json');
  if (tokenizerJson === undefined) return missing(source, 'tokenizer.json');
  return {
    config,
    tokenizerJson,
    tokenizerConfig: (await readJson(folder, 'tokenizer_config.json')) ?? {},
    generation: (await readJson(folder, 'generation_config.json')) ?? {},
  };
}

/** All in one file; what lies beside it outranks what it holds, but for the config, which is that of its weights. */
async function readGguf(folder: string, path: string): Promise<SmallFiles> {
  const model = await GgufModel.open(path);
  try {
    const tokenizerJson = (await readText(folder, 'tokenizer.json')) ?? model.tokenizerJson();
    const own = { ...namedTokens(tokenizerJson, model.configJson), chat_template: model.chatTemplate };
    return {
      config: model.configJson,
      tokenizerJson,
      tokenizerConfig: { ...own, ...(await readJson(folder, 'tokenizer_config.json')) },
      generation: (await readJson(folder, 'generation_config.json')) ?? {},
    };
  } finally {
    await model.close();
  }
}

/** The texts of the special tokens that a config knows by id, under the names of tokenizer_config.json. */
function namedTokens(tokenizerJson: string, config: JsonObject): Record<string, string> {
  const added = parseJsonObject(tokenizerJson, 'tokenizer.json').added_tokens;
  const tokens: Record<string, string> = {};
  for (const { id, content } of Array.isArray(added) ? added.filter(isObject) : []) {
    for (const name of SPECIAL_TOKENS) {
      const ids = [config[`${name}_id`]].flat();
      // of several end tokens the first
      if (ids[0] === id && typeof content === 'string') tokens[name] = content;
    }
  }
  return tokens;
}

/** A file of its own outranks what tokenizer_config.json holds, as transformers has it. */
async function readChat(folder: string, tokenizer: JsonObject): Promise<ChatFrame | undefined> {
  const template = (await readText(folder, 'chat_template.jinja')) ?? templateOf(tokenizer.chat_template);
  return template === undefined ? undefined : readChatFrame(template, specialTokens(tokenizer));
}

/** A text, or a list of named ones of which the default is taken. */
function templateOf(value: unknown): string | undefined {
  if (!Array.isArray(value)) return typeof value === 'string' ? value : undefined;
  const named = value.filter(isObject);
  return templateOf((named.find(({ name }) => name === 'default') ?? named[0])?.template);
}

/** The tokens that tokenizer_config.json names: as texts, or as objects that hold one. */
function specialTokens(tokenizer: JsonObject): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const key of SPECIAL_TOKENS) {
    const value = tokenizer[key];
    const text = isObject(value) ? value.content : value;
    if (typeof text === 'string') tokens[key] = text;
  }
  return tokens;
}

function missing(source: string, file: string): never {
  throw new RuntimeError('INVALID_MODEL', `${source}: expected a ${file} in its folder, there is none.`);
}

/** Refuses sizes that no weights could fill here: each alone may be in range, their product is what gets allocated. */
function checkMemory(config: ModelConfig): void {
  const needed = leastParameterCount(config) * FLOAT_BYTES;
  const available = usableMemory();
  if (needed <= available) return;
  const message = `config.json: expected sizes that fit ${wholeMebibytes(available)} of memory, its weights take ${wholeMebibytes(needed)} as float32.`;
  throw new RuntimeError('INVALID_MODEL', message);
}
