/** Where and with what a load ran: the facts without which its numbers mean nothing. */
import { createRequire } from 'node:module';
import { availableParallelism, cpus } from 'node:os';
import { readConfig } from '../config.ts';
import type { LoadClient } from './load-client.ts';

/** The model under load, as the server describes it. */
export interface LoadedModel {
  readonly id: string;
  readonly source: string;
  readonly precision: string;
  readonly parameterCount: number;
  readonly maxInputTokens: number;
  readonly isDefault: boolean;
}

/** Asks the server for its default model. */
export async function defaultModel(client: LoadClient): Promise<LoadedModel> {
  const data = await client.data('{ models { id source precision parameterCount maxInputTokens isDefault } }');
  const model = (data.models as readonly LoadedModel[]).find(({ isDefault }) => isDefault);
  if (model === undefined) throw new Error('Expected a server with a default model, it has none.');
  return model;
}

export function machineFacts(): Readonly<Record<string, string>> {
  const { version } = createRequire(import.meta.url)('onnxruntime-node/package.json') as { version: string };
  return {
    processor: cpus()[0]?.model ?? 'unknown',
    processors: String(availableParallelism()),
    'Node.js': process.versions.node,
    'onnxruntime-node': version,
    'threads of the model': String(readConfig(process.env).threadCount),
  };
}
