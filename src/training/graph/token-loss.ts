/**
 * The loss over label tokens and its gradient by the logits, in closed form: for smoothing e over V ids
 *   loss = log Σ exp z − (1−e) z_label − e mean(z)          gradient of z = softmax(z) − (1−e) [label] − e / V
 * One row of logits is as long as the vocabulary, so the rows may be taken in chunks: only those of one chunk are in
 * memory at a time.
 */
import type { GraphBuilder, Value } from '../../runtime/graph/graph-builder.ts';
import { floatTensor } from '../../runtime/tensor.ts';

interface TokenLossInput {
  /** [labels, d] */
  readonly states: Value;
  /** [labels] int32 */
  readonly labelIds: Value;
  /** Rows of states → logits [rows, vocabulary]. */
  readonly project: (states: Value) => Value;
  readonly vocabularySize: number;
  readonly labelSmoothing: number;
  /** [chunkCount] int64: rows of each chunk. */
  readonly chunkSizes: Value;
  readonly chunkCount: number;
}

interface TokenLoss {
  /** [labels] */
  readonly losses: Value;
  /** The gradient of the sum of the losses, by the logits of each chunk. */
  readonly seeds: ReadonlyMap<Value, Value>;
}

export function addTokenLoss(graph: GraphBuilder, input: TokenLossInput): TokenLoss {
  const { chunkCount, chunkSizes } = input;
  const cut = (value: Value): Value[] =>
    chunkCount === 1 ? [value] : graph.nodeWithOutputs('Split', [value, chunkSizes], { axis: 0 }, chunkCount);
  const labels = cut(graph.node('Unsqueeze', [input.labelIds, graph.integers(1)])); // [rows, 1]
  const losses: Value[] = [];
  const seeds = new Map<Value, Value>();
  for (const [chunk, states] of cut(input.states).entries()) {
    const logits = input.project(states);
    const { loss, gradient } = addChunk(graph, logits, labels[chunk] as Value, input);
    losses.push(loss);
    seeds.set(logits, gradient);
  }
  const all = chunkCount === 1 ? (losses[0] as Value) : graph.node('Concat', losses, { axis: 0 });
  return { losses: graph.node('Reshape', [all, graph.integers(-1)]), seeds };
}

/** logits [rows, V], labels [rows, 1] → loss [rows, 1], gradient [rows, V]. */
function addChunk(
  graph: GraphBuilder,
  logits: Value,
  labels: Value,
  { labelSmoothing, vocabularySize }: TokenLossInput,
): { readonly loss: Value; readonly gradient: Value } {
  const scalar = (value: number): Value => graph.weight('scalar', floatTensor(new Float32Array([value]), []));
  const lastAxis = graph.integers(-1);
  const keep = scalar(1 - labelSmoothing);
  const highest = graph.node('ReduceMax', [logits, lastAxis], { keepdims: 1 });
  const ofLabel = graph.node('GatherElements', [logits, labels], { axis: 1 });
  const probabilities = graph.node('Softmax', [logits], { axis: -1 });
  // the highest probability is 1 / Σ exp(z - highest)
  const share = graph.node('ReduceMax', [probabilities, lastAxis], { keepdims: 1 });
  const logSum = graph.node('Sub', [highest, graph.node('Log', [share])]);
  const certain = graph.node('GatherElements', [probabilities, labels], { axis: 1 });
  const missing = graph.node('Sub', [certain, keep]);
  const gradient = graph.node('ScatterElements', [probabilities, labels, missing], { axis: 1 });
  if (labelSmoothing === 0) return { loss: graph.node('Sub', [logSum, ofLabel]), gradient };
  const mean = graph.node('ReduceMean', [logits, lastAxis], { keepdims: 1 });
  const kept = graph.node('Add', [
    graph.node('Mul', [ofLabel, keep]),
    graph.node('Mul', [mean, scalar(labelSmoothing)]),
  ]);
  return {
    loss: graph.node('Sub', [logSum, kept]),
    gradient: graph.node('Sub', [gradient, scalar(labelSmoothing / vocabularySize)]),
  };
}
