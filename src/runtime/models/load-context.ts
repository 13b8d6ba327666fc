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
  /** Beside the head's own weights: what screening takes, and a table that lies beside a head that is tied to it. */
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
  const own = await OutputHead.create(head, size, context);
  const adapted = new AdaptedHead(own, head, size, context);
  // the table of a tied head stays beside what the session packed for itself
  const table = head === embeddings ? embeddings.length * FLOAT_BYTES : 0;
  return { heads: new RowHeads(own, adapted, size), extraBytes: own.screenBytes + table };
}

export function bytesOfParameters(count: number): number {
  return count * FLOAT_BYTES;
}
