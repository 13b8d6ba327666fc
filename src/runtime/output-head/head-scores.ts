/**
 * What strategies read of the logits: little, because whole rows are slow to copy out. Inputs of a head's graph beside
 * its own: top_count [1]; normalized [1], 0 where nobody reads log_sum_exp; asked_index [n, 2] of (row, id). Outputs:
 * log_sum_exp [r, 1]; top_logits and top_ids [r, top_count]; asked_logits [n]; all_logits [r, vocabulary]. A run copies out only what it names.
 */
import type { RowNeeds, RowScores } from '../decoding/decoding-strategy.ts';
import { BOOL, type GraphBuilder, INT32, type Value } from '../graph/graph-builder.ts';
import type { Feeds, Session } from '../session.ts';
import { longTensor } from '../tensor.ts';

/** The highest values of each row in falling order, the lower id first among equals; [r, count] each. */
export interface HighestValues {
  readonly values: Value;
  /** int64 */
  readonly ids: Value;
}

/** `count` int64 [1], at most the vocabulary. */
export function highest(graph: GraphBuilder, scores: Value, count: Value): HighestValues {
  const outputs = graph.nodeWithOutputs('TopK', [scores, count], { axis: -1, largest: 1, sorted: 1 }, 2);
  const [values, ids] = outputs as [Value, Value];
  return { values, ids };
}

/** log Σ exp(logit) of each row [r, 1]; where not `isNormalized` (bool, one element) something else, which nobody reads. */
export function logSumExpOf(graph: GraphBuilder, logits: Value, best: HighestValues, isNormalized: Value): Value {
  const first = (listed: Value): Value =>
    graph.node('Slice', [listed, graph.integers(0), graph.integers(1), graph.integers(1)]);
  return graph.either(
    isNormalized,
    { type: 'float32', dims: ['rows', 1] },
    () => {
      // by way of LogSoftmax, whose rows do not depend on how many there are; those of Log and ReduceSum do
      const logProbabilities = graph.node('LogSoftmax', [logits], { axis: -1 });
      const ofBest = graph.node('GatherElements', [logProbabilities, first(best.ids)], { axis: 1 });
      return graph.node('Sub', [first(best.values), ofBest]);
    },
    () => first(best.values),
  );
}

/** Declares the outputs of logits [r, vocabulary]. */
export function declareScores(graph: GraphBuilder, logits: Value, vocabularySize: number): void {
  graph.output(logits, 'all_logits', 'float32', ['rows', vocabularySize]);
  const topCount = graph.input('top_count', 'int64', [1]);
  const best = highest(graph, logits, topCount);
  const { values: topLogits, ids: topIds } = best;
  graph.output(topLogits, 'top_logits', 'float32', ['rows', 'top']);
  // int32 halves what is copied and spares JavaScript the BigInts; ids are far below 2^31
  graph.output(graph.node('Cast', [topIds], { to: INT32 }), 'top_ids', 'int32', ['rows', 'top']);
  const isNormalized = graph.node('Cast', [graph.input('normalized', 'int64', [1])], { to: BOOL });
  const logSumExp = logSumExpOf(graph, logits, best, isNormalized);
  graph.output(logSumExp, 'log_sum_exp', 'float32', ['rows', 1]);
  const asked = graph.input('asked_index', 'int64', ['asked', 2]);
  graph.output(graph.node('GatherND', [logits, asked]), 'asked_logits', 'float32', ['asked']);
}

export interface ScoreRun {
  readonly session: Session;
  /** The graph's own inputs; rows beyond those of `needs` are padding. */
  readonly feeds: Feeds;
  readonly needs: readonly RowNeeds[];
  readonly vocabularySize: number;
}

/** Runs a head's graph and gives each row what it needs. */
export async function runScores({ session, feeds, needs, vocabularySize }: ScoreRun): Promise<readonly RowScores[]> {
  const asked = needs.flatMap(({ askedIds }, row) => askedIds.flatMap((id) => [row, id]));
  // two at least: for a single one the kernel takes a slower way
  const topCount = Math.min(vocabularySize, Math.max(2, ...needs.map((need) => need.topCount)));
  const isNormalized = needs.some(({ orderOnly }) => !orderOnly);
  const names = isNormalized ? ['log_sum_exp', 'top_logits', 'top_ids'] : ['top_logits', 'top_ids'];
  if (asked.length > 0) names.push('asked_logits');
  if (needs.some(({ allLogits }) => allLogits)) names.push('all_logits');
  const outputs = await session.run(
    {
      ...feeds,
      top_count: longTensor([topCount]),
      normalized: longTensor([Number(isNormalized)]),
      asked_index: longTensor(asked, [asked.length / 2, 2]),
    },
    names,
  );
  const logSumExp = isNormalized ? outputs.floats('log_sum_exp') : undefined;
  const topLogits = outputs.floats('top_logits');
  const topIds = outputs.ints('top_ids');
  let askedOffset = 0;
  return needs.map(({ askedIds, allLogits, orderOnly }, row): RowScores => {
    const askedStart = askedOffset;
    askedOffset += askedIds.length;
    return {
      // not read then, and the same whoever else asks for it
      logSumExp: orderOnly ? Number.NaN : (logSumExp?.[row] ?? Number.NaN),
      topIds: topIds.subarray(row * topCount, (row + 1) * topCount),
      topLogits: topLogits.subarray(row * topCount, (row + 1) * topCount),
      askedLogits: askedIds.length > 0 ? outputs.floats('asked_logits').subarray(askedStart, askedOffset) : [],
      logits: allLogits
        ? outputs.floats('all_logits').subarray(row * vocabularySize, (row + 1) * vocabularySize)
        : undefined,
    };
  });
}

/** Copies rows of [rows, size] together, followed by zeros up to `length` rows. */
export function gatherRows(
  values: Float32Array,
  size: number,
  rows: readonly number[],
  length = rows.length,
): Float32Array {
  const gathered = new Float32Array(length * size);
  for (const [index, row] of rows.entries()) gathered.set(values.subarray(row * size, (row + 1) * size), index * size);
  return gathered;
}
