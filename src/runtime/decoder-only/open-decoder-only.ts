/** Makes a decoder-only model's runner from its files. */

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
import type { DecoderOnlyConfig } from '../models/model-config.ts';
import { countElements } from '../models/tensor-catalog.ts';
import { buildDecoderOnlyGraph } from './decoder-only-graph.ts';
import { buildDecoderOnlyLoop } from './decoder-only-loop.ts';
import { DecoderOnlyLoopRunner } from './decoder-only-loop-runner.ts';
import { readDecoderOnlyParameters } from './decoder-only-parameters.ts';
import { DecoderOnlyRunner } from './decoder-only-runner.ts';
import { checkDecoderOnlyTensors, decoderOnlyTensorShapes } from './decoder-only-tensors.ts';

export async function openDecoderOnly(config: DecoderOnlyConfig, context: LoadContext): Promise<LoadedRunner> {
  const { files, targets, memory, threadCount, int8, loop, onProgress } = context;
  const warnings = checkDecoderOnlyTensors(config, files);
  const parameters = await readDecoderOnlyParameters(config, files, countTensors(context));
  const { embeddings, positionEmbeddings, head } = parameters;
  onProgress('decoder', 0);
  const decoder = await openGraph(buildDecoderOnlyGraph(config, parameters, targets, int8 ?? loop), context);
  const parts = { decoder, positionEmbeddings, memory, threadCount };
  const parameterCount = countElements(decoderOnlyTensorShapes(config));
  const { length: positionCount, byteLength: positionBytes } = positionEmbeddings ?? new Float32Array(0);
  const inner = parameterCount - (config.tiedHead ? 1 : 2) * embeddings.length - positionCount;
  const facts = { parameterCount, kernels: kernelsOf(context), warnings };
  if (loop !== undefined) {
    const table = new FloatTable(embeddings, config.hiddenSize);
    const prompts = new DecoderOnlyRunner(config, { ...parts, table, heads: undefined });
    onProgress('loop', 0);
    const answers = await openGraph(buildDecoderOnlyLoop(config, parameters, targets, loop), context);
    const runner = new DecoderOnlyLoopRunner(config, { decoder: answers, prompts, memory, threadCount });
    // prompts and answers have weights of their own: sessions share none
    const memoryBytes = graphBytes(inner + parameterCount, context) + table.byteLength + positionBytes;
    return { ...facts, runner, memoryBytes };
  }
  const { heads, table, byteLength } = await openEnds(head, embeddings, config.hiddenSize, context);
  const runner = new DecoderOnlyRunner(config, { ...parts, heads, table });
  return { ...facts, runner, memoryBytes: graphBytes(inner, context) + byteLength + positionBytes };
}
