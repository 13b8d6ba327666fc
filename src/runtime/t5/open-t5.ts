/** Makes a T5's runner from its files. */

import type { FloatFormat } from '../graph/matrix-products.ts';
import { FloatTable } from '../models/embedding-table.ts';
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
import { buildT5Loop, buildT5StateEncoder, float32Count } from './t5-loop.ts';
import { T5LoopRunner } from './t5-loop-runner.ts';
import { readT5Parameters, type T5Parameters } from './t5-parameters.ts';
import { T5Runner } from './t5-runner.ts';
import { checkT5Tensors, t5ParameterCount } from './t5-tensors.ts';

export async function openT5(config: T5Config, context: LoadContext): Promise<LoadedRunner> {
  const { files, targets, memory, threadCount, int8, onProgress } = context;
  const warnings = checkT5Tensors(config, files);
  const parameters = await readT5Parameters(config, files, countTensors(context));
  const { embeddings, head } = parameters;
  if (context.loop !== undefined) return openT5Loop(config, parameters, warnings, { ...context, loop: context.loop });
  onProgress('encoder', 0);
  const encoder = await openGraph(buildT5Encoder(config, parameters, targets, int8), context);
  onProgress('decoder', 0);
  const decoder = await openGraph(buildT5Decoder(config, parameters, targets, int8), context);
  const { heads, table, byteLength } = await openEnds(head, embeddings, config.hiddenSize, context);
  const isQuantized = int8 !== undefined;
  const runner = new T5Runner(config, { encoder, decoder, heads, table, memory, threadCount, isQuantized });
  const parameterCount = t5ParameterCount(config, head !== embeddings);
  const inner = parameterCount - endCount(parameters);
  const memoryBytes = graphBytes(inner, context) + byteLength;
  return { runner, parameterCount, memoryBytes, kernels: kernelsOf(context), warnings };
}

const WHOLE_BYTES = Float32Array.BYTES_PER_ELEMENT;

async function openT5Loop(
  config: T5Config,
  parameters: T5Parameters,
  warnings: readonly string[],
  context: LoadContext & { readonly loop: FloatFormat },
): Promise<LoadedRunner> {
  const { targets, memory, threadCount, onProgress, loop } = context;
  onProgress('encoder', 0);
  const encoder = await openGraph(buildT5StateEncoder(config, parameters, targets, loop), context);
  onProgress('decoder', 0);
  const decoder = await openGraph(buildT5Loop(config, parameters, targets, loop), context);
  const table = new FloatTable(parameters.embeddings, config.hiddenSize);
  const runner = new T5LoopRunner(config, { encoder, decoder, table, memory, threadCount });
  const parameterCount = t5ParameterCount(config, parameters.head !== parameters.embeddings);
  const whole = float32Count(config);
  // the encoder's rows are looked up in a table beside the one that the decoder's graph holds
  const memoryBytes = graphBytes(parameterCount - whole, context) + whole * WHOLE_BYTES + table.byteLength;
  return { runner, parameterCount, memoryBytes, kernels: kernelsOf(context), warnings };
}

/** Parameters of the embeddings and the head, which may be the same. */
function endCount({ embeddings, head }: T5Parameters): number {
  return (head === embeddings ? 1 : 2) * embeddings.length;
}
