/**
 * Attention as graph nodes. Scores are not scaled: T5 folds the scale into its weights.
 *
 * A decode step has two sections of rows, because ONNX Runtime multiplies a single query row with another kernel than
 * several, and their roundings differ: a request must take the same kernel whoever shares its batch.
 *   singles: one query row a request          groups: the rows (beams, samples) of one request, padded to Q ≥ 2 queries
 * Within a section, what one row gets does not depend on the others: masked positions add exact zeros.
 */
import type { GraphBuilder, Value } from './graph-builder.ts';

export interface HeadShape {
  readonly headCount: number;
  readonly headSize: number;
}

/** softmax(queries × keysᵀ + bias) × values; queries [b, H, q, dk], keys and values [b, H, s, dk], bias broadcasts to [b, H, q, s]. */
export function attend(graph: GraphBuilder, queries: Value, keys: Value, values: Value, bias: Value): Value {
  const scores = graph.node('FusedMatMul', [queries, keys], { transB: 1 });
  const probabilities = graph.node('Softmax', [graph.node('Add', [scores, bias])], { axis: -1 });
  return graph.node('MatMul', [probabilities, values]);
}

/** [b, s, H·dk] → [b, H, s, dk]. */
export function splitHeads(graph: GraphBuilder, x: Value, { headCount, headSize }: HeadShape): Value {
  const split = graph.node('Reshape', [x, graph.integers(0, 0, headCount, headSize)]);
  return graph.node('Transpose', [split], { perm: [0, 2, 1, 3] });
}

/** [b, H, s, dk] → [b, s, H·dk]. */
export function mergeHeads(graph: GraphBuilder, x: Value, { headCount, headSize }: HeadShape): Value {
  const merged = graph.node('Transpose', [x], { perm: [0, 2, 1, 3] });
  return graph.node('Reshape', [merged, graph.integers(0, 0, headCount * headSize)]);
}

/** Where the rows of a section are: how they become [b, H, q, dk] and back. */
interface SectionLayout {
  readonly fromRows: (rows: Value) => Value;
  readonly toRows: (attended: Value) => Value;
}

/** [n, H·dk] ⇄ [n, H, 1, dk]: only names change, no bytes move. */
function singlesLayout(graph: GraphBuilder, { headCount, headSize }: HeadShape): SectionLayout {
  return {
    fromRows: (rows) => graph.node('Reshape', [rows, graph.integers(0, headCount, 1, headSize)]),
    toRows: (attended) => graph.node('Reshape', [attended, graph.integers(0, headCount * headSize)]),
  };
}

/** [n, H·dk] ⇄ [g, H, q, dk]; `groupRows` [g, q] names the row of each query, `rowPlaces` [n] the query (of g·q) of each row. */
function groupsLayout(graph: GraphBuilder, shape: HeadShape, groupRows: Value, rowPlaces: Value): SectionLayout {
  const width = shape.headCount * shape.headSize;
  return {
    fromRows: (rows) => splitHeads(graph, graph.node('Gather', [rows, groupRows], { axis: 0 }), shape),
    toRows: (attended) => {
      const queries = graph.node('Reshape', [mergeHeads(graph, attended, shape), graph.integers(-1, width)]);
      return graph.node('Gather', [queries, rowPlaces], { axis: 0 });
    },
  };
}

/** One section's cache and masks of one step; which layer's cache is asked by number. */
export interface DecodeSection {
  readonly layout: SectionLayout;
  /** [g, H, q, positions + q] relative bias of past entries, then of the step's own tokens; masked ones are -inf. */
  readonly selfBias: Value;
  /** [2]: past entries, own tokens: how the scores' last axis falls in two. */
  readonly selfWidths: Value;
  /** [g, 1, 1, source] 0 or -inf. */
  readonly sourceMask: Value;
  /** [g, H, positions, dk] */
  readonly selfCache: (layer: number) => KeysAndValues;
  /** [g, H, source, dk] */
  readonly sourceCache: (layer: number) => KeysAndValues;
}

interface KeysAndValues {
  readonly keys: Value;
  readonly values: Value;
}

/**
 * Declares the inputs of a section. Names carry the section: `singles.self_bias_index`, `groups.source_keys.3`, …
 * `biasTable` [buckets + 1, H]; its last row is -inf, so that one index says both the distance and what is masked.
 */
export function declareSection(
  graph: GraphBuilder,
  name: 'singles' | 'groups',
  shape: HeadShape,
  biasTable: Value,
): DecodeSection {
  const dim = (size: string) => `${name}_${size}`;
  const cache = (kind: string, positions: string) => (layer: number) => {
    const dims = [dim('count'), shape.headCount, dim(positions), shape.headSize];
    return {
      keys: graph.input(`${name}.${kind}_keys.${layer}`, 'float32', dims),
      values: graph.input(`${name}.${kind}_values.${layer}`, 'float32', dims),
    };
  };
  const index = graph.input(`${name}.self_bias_index`, 'int32', [dim('count'), dim('queries'), dim('keys')]);
  const bias = graph.node('Gather', [biasTable, index], { axis: 0 }); // [g, q, keys, H]
  const layout =
    name === 'singles'
      ? singlesLayout(graph, shape)
      : groupsLayout(
          graph,
          shape,
          graph.input('groups.rows', 'int32', [dim('count'), dim('queries')]),
          graph.input('groups.places', 'int32', ['groups_row_count']),
        );
  return {
    layout,
    selfBias: graph.node('Transpose', [bias], { perm: [0, 3, 1, 2] }),
    selfWidths: graph.input(`${name}.self_widths`, 'int64', [2]),
    sourceMask: graph.input(`${name}.source_mask`, 'float32', [dim('count'), 1, 1, dim('source')]),
    selfCache: cache('self', 'positions'),
    sourceCache: cache('source', 'source'),
  };
}

/**
 * Self-attention of one section: queries meet the cached entries and the step's own keys, which are not in the cache
 * yet. Rows [n, H·dk] in and out.
 */
export function decodeSelfAttention(
  graph: GraphBuilder,
  section: DecodeSection,
  layer: number,
  rows: { readonly queries: Value; readonly keys: Value; readonly values: Value },
): Value {
  const { fromRows, toRows } = section.layout;
  const cached = section.selfCache(layer);
  const queries = fromRows(rows.queries);
  const own = { keys: fromRows(rows.keys), values: fromRows(rows.values) };
  const scores = graph.node(
    'Concat',
    [
      graph.node('FusedMatMul', [queries, cached.keys], { transB: 1 }),
      graph.node('FusedMatMul', [queries, own.keys], { transB: 1 }),
    ],
    { axis: -1 },
  );
  const probabilities = graph.node('Softmax', [graph.node('Add', [scores, section.selfBias])], { axis: -1 });
  const [past, now] = graph.nodeWithOutputs('Split', [probabilities, section.selfWidths], { axis: -1 }, 2) as [
    Value,
    Value,
  ];
  const attended = graph.node('Add', [
    graph.node('MatMul', [past, cached.values]),
    graph.node('MatMul', [now, own.values]),
  ]);
  return toRows(attended);
}

/** Cross-attention of one section to its sources. Rows [n, H·dk] in and out. */
export function decodeCrossAttention(graph: GraphBuilder, section: DecodeSection, layer: number, rows: Value): Value {
  const source = section.sourceCache(layer);
  const attended = attend(graph, section.layout.fromRows(rows), source.keys, source.values, section.sourceMask);
  return section.layout.toRows(attended);
}
