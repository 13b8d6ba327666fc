/** What each family's loader is given, and what all of them make alike. */
import type { ModelRunner } from '../engine/model-runner.ts';
import type { AdaptableGraph, LoraTargets } from '../graph/lora.ts';
import type { FloatFormat } from '../graph/matrix-products.ts';
import type { Int8Format } from '../graph/quantized-linear.ts';
import type { AdapterMemory } from '../lora/adapter-memory.ts';
import { AdaptedHead } from '../output-head/adapted-head.ts';
import { type IntegerHead, OutputHead } from '../output-head/output-head.ts';
import { RowHeads } from '../output-head/row-heads.ts';
import { describeRange, quantizeRows } from '../quantization/quantize-rows.ts';
import { Session } from '../session.ts';
import type { AdaptableSession } from './adapting-runner.ts';
import { ByteTable, type EmbeddingTable, FloatTable } from './embedding-table.ts';
import type { Device } from './served-model.ts';
import type { TensorCatalog, TensorSource } from './tensor-catalog.ts';

export interface LoadContext {
  readonly files: TensorCatalog & TensorSource;
  readonly targets: LoraTargets;
  readonly memory: AdapterMemory;
  readonly threadCount: number;
  readonly device: Device;
  /** How weights are held where a run of the decoder makes several steps (decode-loop/). Undefined: it makes one. */
  readonly loop: FloatFormat | undefined;
  /** Undefined: float32, or as `loop` says. */
  readonly int8?: Int8Format | undefined;
  /** As in OutputHeadOptions. */
  readonly screened?: boolean;
  readonly onProgress: (stage: string, share: number) => void;
}

export interface LoadedRunner {
  readonly runner: ModelRunner;
  readonly parameterCount: number;
  /** Of weights held in memory. */
  readonly memoryBytes: number;
  /** The kind of weights that was chosen for this processor. */
  readonly kernels: string;
  readonly warnings: readonly string[];
}

const FLOAT_BYTES = { float32: 4, float16: 2 } as const;
/** Tensors between two reports of progress. */
const REPORTED_TENSORS = 50;

/** Returns what is to be called after each tensor. */
export function countTensors({ files, onProgress }: LoadContext): () => void {
  const total = files.names().length;
  let done = 0;
  return () => {
    done++;
    if (done % REPORTED_TENSORS === 0) onProgress('weights', done / total);
  };
}

export async function openGraph(
  { model, adapted }: AdaptableGraph,
  { threadCount, device }: LoadContext,
): Promise<AdaptableSession> {
  return { session: await Session.create(model, { threadCount, device }), adapted };
}

/** A model's two ends. */
export interface OpenedEnds {
  readonly table: EmbeddingTable;
  readonly heads: RowHeads;
  /** Of both. */
  readonly byteLength: number;
}

/** `head` [vocabulary, size]: the same array as `embeddings` when it is tied. */
export function openEnds(
  head: Float32Array,
  embeddings: Float32Array,
  size: number,
  context: LoadContext,
): Promise<OpenedEnds> {
  context.onProgress('head', 0);
  const { int8 } = context;
  if (int8 === undefined) return openFloatEnds(head, embeddings, size, context);
  const own = { matrix: quantizeRows(head, size, int8.range), rowBytes: int8.rowBytes };
  return openByteEnds(own, new ByteTable(embeddings, size), size, context);
}

async function openFloatEnds(
  head: Float32Array,
  embeddings: Float32Array,
  size: number,
  context: LoadContext,
): Promise<OpenedEnds> {
  const isTied = head === embeddings;
  const own = await OutputHead.create(head, size, { ...context, isShared: isTied });
  const adapted = new AdaptedHead(own, head.length / size, size, context);
  const table = new FloatTable(embeddings, size);
  // beside the table: what the session packed, the 8-bit copy, and rows of an untied head that is screened
  const packed = own.isInPlace ? 0 : head.byteLength;
  const rows = !isTied && own.screenBytes > 0 ? head.byteLength : 0;
  const byteLength = table.byteLength + packed + own.screenBytes + rows;
  return { table, heads: new RowHeads(own, adapted, size), byteLength };
}

async function openByteEnds(
  head: IntegerHead,
  table: ByteTable,
  size: number,
  context: LoadContext,
): Promise<OpenedEnds> {
  const own = await OutputHead.createInteger(head, context);
  const { scales, weights } = head.matrix;
  const adapted = new AdaptedHead(own, scales.length, size, context);
  const byteLength = table.byteLength + weights.byteLength;
  return { table, heads: new RowHeads(own, adapted, size), byteLength };
}

/** What is said of the weights in logs. */
export function kernelsOf({ int8, loop = 'float32' }: LoadContext): string {
  if (int8 === undefined) return loop;
  return `int8: ${describeRange(int8.range)}${int8.rowBytes === 1 ? '' : '; rows in two bytes'}`;
}

/** Bytes of the weights that graphs hold, of `count` parameters that are not the model's ends. */
export function graphBytes(count: number, { int8, loop = 'float32' }: LoadContext): number {
  return count * (int8 === undefined ? FLOAT_BYTES[loop] : 1);
}
