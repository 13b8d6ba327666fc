/** Examples as one batch: what every family's batch has, and how rows are padded. */
import type { Feeds } from '../../runtime/session.ts';

export interface TrainingExample {
  /** What the model reads: a source, its end token included, or a prompt; one token at least. */
  readonly inputIds: readonly number[];
  /** What is to be written, its end token included; one token at least. */
  readonly labels: readonly number[];
}

/** Rows of token ids, padded at their ends to the longest. */
interface PaddedIds {
  /** [rows, length] */
  readonly ids: Int32Array;
  readonly length: number;
}

/** Tokens that a graph reads embedded, by the name of the input. */
interface EmbeddedTokens extends PaddedIds {
  readonly input: string;
}

export interface PaddedBatch {
  readonly count: number;
  readonly embedded: readonly EmbeddedTokens[];
  /** Places whose states tell a label, of all places of all rows, and the labels. */
  readonly labelRows: Int32Array;
  readonly labelIds: Int32Array;
  /** Rows of x that a matrix of this path meets, but for the output head's. */
  readonly rowDims: (module: string) => readonly number[];
  /** What else the graph of the family reads. */
  readonly feeds: Feeds;
}

export function padIds(rows: readonly (readonly number[])[], padId: number): PaddedIds {
  const length = Math.max(...rows.map((row) => row.length));
  const ids = new Int32Array(rows.length * length).fill(padId);
  for (const [row, own] of rows.entries()) ids.set(own, row * length);
  return { ids, length };
}

/** Of rows that are `length` long: the labels of each, told by the states from `startOf` on. */
export function placeLabels(
  examples: readonly TrainingExample[],
  length: number,
  startOf: (example: TrainingExample) => number,
): Pick<PaddedBatch, 'labelRows' | 'labelIds'> {
  const labelRows = examples.flatMap((example, row) =>
    example.labels.map((_, place) => row * length + startOf(example) + place),
  );
  const labelIds = examples.flatMap(({ labels }) => labels);
  return { labelRows: Int32Array.from(labelRows), labelIds: Int32Array.from(labelIds) };
}

/** [length, length]: -inf where a token would see one that comes later. */
export function causalMask(length: number): Float32Array {
  const mask = new Float32Array(length * length);
  for (let query = 0; query < length; query++) {
    mask.fill(Number.NEGATIVE_INFINITY, query * length + query + 1, (query + 1) * length);
  }
  return mask;
}
