/** Makes a decoder-only model's runner from its files. */
import {
  countTensors,
  graphBytes,
  kernelsOf,
  type LoadContext,
  type LoadedRunner,
  openEnds,
  openGraph,
} from '../models/load-context.ts';
import type { DecoderOnlyConfig } from '../models/model-config.ts';
import { countElements } from '../models/tensor-catalog.ts';
import { buildDecoderOnlyGraph } from './decoder-only-graph.ts';
import { readDecoderOnlyParameters } from './decoder-only-parameters.ts';
import { DecoderOnlyRunner } from './decoder-only-runner.ts';
import { checkDecoderOnlyTensors, decoderOnlyTensorShapes } from './decoder-only-tensors.ts';

export async function openDecoderOnly(config: DecoderOnlyConfig, context: LoadContext): Promise<LoadedRunner> {
  const { files, targets, memory, threadCount, int8, onProgress } = context;
  const warnings = checkDecoderOnlyTensors(config, files);
  const parameters = await readDecoderOnlyParameters(config, files, countTensors(context));
  const { embeddings, positionEmbeddings, head } = parameters;
  onProgress('decoder', 0);
  const decoder = await openGraph(buildDecoderOnlyGraph(config, parameters, targets, int8), context);
  const { heads, table, byteLength } = await openEnds(head, embeddings, config.hiddenSize, context);
  const runner = new DecoderOnlyRunner(config, { decoder, heads, table, positionEmbeddings, memory, threadCount });
  const parameterCount = countElements(decoderOnlyTensorShapes(config));
  const { length: positionCount, byteLength: positionBytes } = positionEmbeddings ?? new Float32Array(0);
  const inner = parameterCount - (config.tiedHead ? 1 : 2) * embeddings.length - positionCount;
  const memoryBytes = graphBytes(inner, context) + byteLength + positionBytes;
  return { runner, parameterCount, memoryBytes, kernels: kernelsOf(context), warnings };
}
