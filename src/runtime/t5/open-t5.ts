/** Makes a T5's runner from its files. */
import {
  countTensors,
  graphBytes,
  kernelsOf,
  type LoadContext,
  type LoadedRunner,
  openEnds,
  openGraph,
} from '../models/load-context.ts';
import type { T5Config } from '../models/model-config.ts';
import { buildT5Decoder, buildT5Encoder } from './t5-graphs.ts';
import { readT5Parameters } from './t5-parameters.ts';
import { T5Runner } from './t5-runner.ts';
import { checkT5Tensors, t5ParameterCount } from './t5-tensors.ts';

export async function openT5(config: T5Config, context: LoadContext): Promise<LoadedRunner> {
  const { files, targets, memory, threadCount, int8, onProgress } = context;
  const warnings = checkT5Tensors(config, files);
  const parameters = await readT5Parameters(config, files, countTensors(context));
  const { embeddings, head } = parameters;
  onProgress('encoder', 0);
  const encoder = await openGraph(buildT5Encoder(config, parameters, targets, int8), context);
  onProgress('decoder', 0);
  const decoder = await openGraph(buildT5Decoder(config, parameters, targets, int8), context);
  const { heads, table, byteLength } = await openEnds(head, embeddings, config.hiddenSize, context);
  const isQuantized = int8 !== undefined;
  const runner = new T5Runner(config, { encoder, decoder, heads, table, memory, threadCount, isQuantized });
  const isUntied = head !== embeddings;
  const parameterCount = t5ParameterCount(config, isUntied);
  const inner = parameterCount - (isUntied ? 2 : 1) * embeddings.length;
  const memoryBytes = graphBytes(inner, context) + byteLength;
  return { runner, parameterCount, memoryBytes, kernels: kernelsOf(context), warnings };
}
