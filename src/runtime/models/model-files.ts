/** The small files of a model folder: what the serving thread needs before a worker reads the weights. */
import { totalmem } from 'node:os';
import { isObject } from '../../storage/bounded-file.ts';
import { MEBIBYTE } from '../../storage/byte-size.ts';
import { checkFile, readJson, readText, resolveFolder } from '../../storage/model-folder.ts';
import { quoted, StorageError } from '../../storage/storage-error.ts';
import { RuntimeError } from '../errors.ts';
import { type ChatFrame, readChatFrame } from '../prompts/chat-template.ts';
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
  readonly tokenizerPath: string;
}

export interface ModelDirectories {
  /** Folders of `embedded:NAME`. */
  readonly embedded: string;
  /** Folders of `dir:NAME`. */
  readonly models: string;
}

const STORAGE_CODES = { missing: 'NOT_FOUND', invalid: 'INVALID_MODEL', name: 'BAD_USER_INPUT' } as const;
const SOURCE = /^(embedded|dir):(.*)$/s;
const FLOAT_BYTES = 4;

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

/** Finds and reads the folder of a source: `embedded:NAME` or `dir:NAME`, never a path. */
export function readModelFiles(source: string, directories: ModelDirectories): Promise<ModelFiles> {
  return withModelErrors(async () => {
    const [, kind, name] = SOURCE.exec(source) ?? [];
    if (kind === undefined || name === undefined) {
      const message = `Expected source to be dir:NAME or embedded:NAME, ${quoted(source)} came.`;
      throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'source' });
    }
    return readFolder(await resolveFolder(kind === 'dir' ? directories.models : directories.embedded, name), source);
  });
}

async function readFolder(folder: string, source: string): Promise<ModelFiles> {
  const json = await readJson(folder, 'config.json');
  if (json === undefined) return missing(source, 'config.json');
  const tokenizerPath = await checkFile(folder, 'tokenizer.json');
  if (tokenizerPath === undefined) return missing(source, 'tokenizer.json');
  const tokenizer = await readJson(folder, 'tokenizer_config.json');
  const generation = (await readJson(folder, 'generation_config.json')) ?? {};
  const config = parseConfig(json, { tokenizer, generation });
  checkMemory(config);
  return {
    folder,
    config,
    generationDefaults: parseGenerationDefaults(generation),
    chat: config.family === 't5' ? undefined : await readChat(folder, tokenizer ?? {}),
    templateId: parseTemplateId(generation),
    tokenizerPath,
  };
}

/** A file of its own outranks what tokenizer_config.json holds, as transformers has it. */
async function readChat(folder: string, tokenizer: Readonly<Record<string, unknown>>): Promise<ChatFrame | undefined> {
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
function specialTokens(tokenizer: Readonly<Record<string, unknown>>): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const key of ['bos_token', 'eos_token', 'pad_token', 'unk_token']) {
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
  const available = Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
  if (needed <= available) return;
  const message = `config.json: expected sizes that fit ${mebibytes(available)} of memory, its weights take ${mebibytes(needed)} as float32.`;
  throw new RuntimeError('INVALID_MODEL', message);
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / MEBIBYTE)} MiB`;
}
