/** The small files of a model folder: what the serving thread needs before a worker reads the weights. */
import { join } from 'node:path';
import { readJson, resolveFolder } from '../../storage/model-folder.ts';
import { StorageError } from '../../storage/storage-error.ts';
import { RuntimeError } from '../errors.ts';
import type { GenerationDefaults, ModelConfig } from './model-config.ts';
import { parseGenerationDefaults, parseT5Config } from './parse-config.ts';

export interface ModelFiles {
  readonly folder: string;
  readonly config: ModelConfig;
  readonly generationDefaults: GenerationDefaults;
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

/** Gives what storage says of a model's files its public code. */
export async function withModelErrors<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof StorageError)
      throw new RuntimeError(STORAGE_CODES[cause.reason], cause.message, {}, { cause });
    throw cause;
  }
}

/** Finds and reads the folder of a source: `embedded:NAME` or `dir:NAME`, never a path. */
export function readModelFiles(source: string, directories: ModelDirectories): Promise<ModelFiles> {
  return withModelErrors(async () => {
    const [, kind, name] = /^(embedded|dir):(.*)$/s.exec(source) ?? [];
    if (kind === undefined || name === undefined) {
      const message = `Expected source to be dir:NAME or embedded:NAME, ${JSON.stringify(source)} came.`;
      throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'source' });
    }
    const folder = await resolveFolder(kind === 'dir' ? directories.models : directories.embedded, name);
    const json = await readJson(folder, 'config.json');
    if (json === undefined)
      throw new RuntimeError('INVALID_MODEL', `${source}: expected a config.json, there is none.`);
    if ((await readJson(folder, 'tokenizer.json')) === undefined) {
      throw new RuntimeError('INVALID_MODEL', `${source}: expected a tokenizer.json, there is none.`);
    }
    const generation = (await readJson(folder, 'generation_config.json')) ?? {};
    const template = generation.prompt_template;
    return {
      folder,
      config: parseT5Config(json, await readJson(folder, 'tokenizer_config.json')),
      generationDefaults: parseGenerationDefaults(generation),
      templateId: typeof template === 'string' ? template : undefined,
      tokenizerPath: join(folder, 'tokenizer.json'),
    };
  });
}
