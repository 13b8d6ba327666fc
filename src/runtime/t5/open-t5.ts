/** Makes a T5's runner from its files. */
import {
  bytesOfParameters,
  countTensors,
  type LoadContext,
  type LoadedRunner,
  openGraph,
  openHeads,
} from '../models/load-context.ts';
import type { T5Config } from '../models/model-config.ts';
import { buildT5Decoder, buildT5Encoder } from './t5-graphs.ts';
import { readT5Parameters } from './t5-parameters.ts';
import { T5Runner } from './t5-runner.ts';
import { checkT5Tensors, t5ParameterCount } from './t5-tensors.ts';

export async function openT5(config: T5Config, context: LoadContext): Promise<LoadedRunner> {
  const { files, targets, memory, threadCount, onProgress } = context;
  const warnings = checkT5Tensors(config, files);
  const parameters = await readT5Parameters(config, files, countTensors(context));
  const { embeddings, head } = parameters;
  onProgress('encoder', 0);
  const encoder = await openGraph(buildT5Encoder(config, parameters, targets), context);
  onProgress('decoder', 0);
  const decoder = await openGraph(buildT5Decoder(config, parameters, targets), context);
  const { heads, extraBytes } = await openHeads(head, embeddings, config.hiddenSize, context);
  const runner = new T5Runner(config, { encoder, decoder, heads, embeddings, memory, threadCount });
  const parameterCount = t5ParameterCount(config, head !== embeddings);
  return { runner, parameterCount, memoryBytes: bytesOfParameters(parameterCount) + extraBytes, warnings };
}
