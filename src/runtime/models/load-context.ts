/** What each family's loader is given, and what all of them make alike. */
import type { ModelRunner } from '../engine/model-runner.ts';
import type { AdaptableGraph, LoraTargets } from '../graph/lora.ts';
import type { AdapterMemory } from '../lora/adapter-memory.ts';
import { AdaptedHead } from '../output-head/adapted-head.ts';
import { OutputHead } from '../output-head/output-head.ts';
import { RowHeads } from '../output-head/row-heads.ts';
import { Session } from '../session.ts';
import type { AdaptableSession } from './batch-runner.ts';
import type { TensorCatalog, TensorSource } from './tensor-catalog.ts';

export interface LoadContext {
  readonly files: TensorCatalog & TensorSource;
  readonly targets: LoraTargets;
  readonly memory: AdapterMemory;
  readonly threadCount: number;
  /** As in OutputHeadOptions. */
  readonly screened?: boolean;
  readonly onProgress: (stage: string, share: number) => void;
}

export interface LoadedRunner {
  readonly runner: ModelRunner;
  readonly parameterCount: number;
  /** Of weights held in memory. */
  readonly memoryBytes: number;
  readonly warnings: readonly string[];
}

const FLOAT_BYTES = 4;
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
  { threadCount }: LoadContext,
): Promise<AdaptableSession> {
  return { session: await Session.create(model, { threadCount }), adapted };
}

export interface OpenedHeads {
  readonly heads: RowHeads;
  /** Beside the weights that are counted once: what screening takes, and what is there twice. */
  readonly extraBytes: number;
}

/** `head` [vocabulary, size]: the same array as `embeddings` when it is tied. */
export async function openHeads(
  head: Float32Array,
  embeddings: Float32Array,
  size: number,
  context: LoadContext,
): Promise<OpenedHeads> {
  context.onProgress('head', 0);
  const isTied = head === embeddings;
  const own = await OutputHead.create(head, size, { ...context, isShared: isTied });
  const adapted = new AdaptedHead(own, head, size, context);
  // rows lie in JavaScript too: the table that a tied head's session packed a copy of, the head that is screened
  const isTwice = isTied ? !own.isInPlace : own.screenBytes > 0;
  return { heads: new RowHeads(own, adapted, size), extraBytes: own.screenBytes + (isTwice ? head.byteLength : 0) };
}

export function bytesOfParameters(count: number): number {
  return count * FLOAT_BYTES;
}
