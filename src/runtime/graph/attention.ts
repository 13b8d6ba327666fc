/**
 * Attention as graph nodes.
 *
 * A decode step has two sections of rows, because ONNX Runtime multiplies a single query row with another kernel than
 * several, and their roundings differ: a request must take the same kernel whoever shares its batch.
 *   singles: one query row a request          groups: the rows (beams, samples, a chunk of a prompt) of one request,
 *                                             padded to Q ≥ 2 queries
 * Within a section, what one row gets does not depend on the others: masked positions add exact zeros.
 */
import { invariant } from '../errors.ts';
import { type CachedTensor, floatCache } from './cached-tensors.ts';
import { BOOL, type GraphBuilder, type Value } from './graph-builder.ts';

export interface HeadShape {
  readonly headCount: number;
  readonly headSize: number;
  /** Heads of keys and values; each serves equally many heads of queries. Default: headCount. */
  readonly keyValueHeadCount?: number;
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

/**
 * Where the rows of a section are, and how they come back. Heads of queries that share keys are rows of one product:
 * G = H / KV of them to a head of keys.
 */
interface SectionLayout {
  /** [n, H·dk] → [g, KV, G·q, dk] */
  readonly queries: (rows: Value) => Value;
  /** [n, KV·dk] → [g, KV, q, dk] */
  readonly keys: (rows: Value) => Value;
  /** [g, KV, G·q, dk] → [n, H·dk] */
  readonly toRows: (attended: Value) => Value;
}

/** Of rows that stand alone: only names change, no bytes move. */
export function singlesLayout(
  graph: GraphBuilder,
  { headCount, headSize, keyValueHeadCount = headCount }: HeadShape,
): SectionLayout {
  const shared = headCount / keyValueHeadCount;
  const reshape = (x: Value, ...dims: readonly number[]): Value => graph.node('Reshape', [x, graph.integers(...dims)]);
  return {
    queries: (rows) => reshape(rows, 0, keyValueHeadCount, shared, headSize),
    keys: (rows) => reshape(rows, 0, keyValueHeadCount, 1, headSize),
    toRows: (attended) => reshape(attended, 0, headCount * headSize),
  };
}

/** `rows` [g, q], the row of each query; `places` [n], the query (of g·q) of each row. */
function groupsLayout(
  graph: GraphBuilder,
  shape: HeadShape,
  { rows: groupRows, places }: { readonly rows: Value; readonly places: Value },
): SectionLayout {
  const { headCount, headSize, keyValueHeadCount = headCount } = shape;
  const width = headCount * headSize;
  const gather = (rows: Value): Value => graph.node('Gather', [rows, groupRows], { axis: 0 }); // [g, q, …]
  const flatten = (queries: Value): Value =>
    graph.node('Gather', [graph.node('Reshape', [queries, graph.integers(-1, width)]), places], { axis: 0 });
  const keys = (rows: Value): Value => splitHeads(graph, gather(rows), { headCount: keyValueHeadCount, headSize });
  if (keyValueHeadCount === headCount) {
    return { queries: keys, keys, toRows: (attended) => flatten(mergeHeads(graph, attended, shape)) };
  }
  const shared = headCount / keyValueHeadCount;
  // told in full: no dimension can be told from an empty tensor
  const [groups, queries] = [graph.size(groupRows, 0), graph.size(groupRows, 1)];
  const sizes = (...dims: readonly Value[]): Value => graph.node('Concat', dims, { axis: 0 });
  const split = sizes(groups, graph.integers(keyValueHeadCount, shared), queries, graph.integers(headSize));
  const joinedQueries = graph.node('Mul', [queries, graph.integers(shared)]);
  const joined = sizes(groups, graph.integers(keyValueHeadCount), joinedQueries, graph.integers(headSize));
  return {
    keys,
    queries: (rows) => {
      const heads = graph.node('Reshape', [gather(rows), graph.integers(0, 0, keyValueHeadCount, shared, headSize)]);
      const byHead = graph.node('Transpose', [heads], { perm: [0, 2, 3, 1, 4] });
      return graph.node('Reshape', [byHead, joined]);
    },
    toRows: (attended) => {
      const byHead = graph.node('Reshape', [attended, split]);
      return flatten(graph.node('Transpose', [byHead], { perm: [0, 3, 1, 2, 4] }));
    },
  };
}

export type SectionName = 'singles' | 'groups';

export interface KeysAndValues {
  readonly keys: Value;
  readonly values: Value;
}

/** The inputs of `floatCache`. */
export function keysAndValues([keys, values]: readonly Value[]): KeysAndValues {
  invariant(keys !== undefined && values !== undefined, 'keys and values are cached');
  return { keys, values };
}

/** One section's rows and what is cached of them, by layer: the inputs of the cache's tensors, in their order. */
export interface DecodeSection {
  readonly name: SectionName;
  readonly layout: SectionLayout;
  /** How many rows it has, int64 [1]. */
  readonly rowCount: Value;
  /** Of each request, int64 [1]. */
  readonly queryCount: Value;
  /** Of the tokens decoded so far, as `floatCache` has them. */
  readonly selfCache: (layer: number) => readonly Value[];
  /** Of the source, or of the prompt. */
  readonly sourceCache: (layer: number) => readonly Value[];
}

/** The shapes that a step's sections have in common. */
export interface SectionShape {
  readonly heads: HeadShape;
  readonly layerCount: number;
  readonly source: readonly CachedTensor[];
}

/**
 * Declares the inputs of a section. Names carry the section: `singles.self_keys.0`, `groups.source_keys.3`, …; groups.rows
 * [g, q], the row of each query; groups.places [n], the query (of g·q) of each row.
 */
function declareSection(
  graph: GraphBuilder,
  name: SectionName,
  { heads, layerCount, source }: SectionShape,
): DecodeSection {
  const declare = (tensors: readonly CachedTensor[], length: string) => {
    const layers = Array.from({ length: layerCount }, (_, layer) =>
      tensors.map((tensor) => {
        const dims = tensor.dims.map((size) => (size === 'length' ? `${name}_${length}` : size));
        return graph.input(`${name}.${tensor.name}.${layer}`, tensor.type, [`${name}_count`, ...dims]);
      }),
    );
    return (layer: number): readonly Value[] => {
      const found = layers[layer];
      invariant(found !== undefined, `the cache has a layer ${layer}`);
      return found;
    };
  };
  const selfCache = declare(floatCache('self', heads), 'positions');
  const sourceCache = declare(source, 'source');
  if (name === 'singles') {
    const rowCount = graph.size(keysAndValues(selfCache(0)).keys, 0);
    return {
      name,
      layout: singlesLayout(graph, heads),
      rowCount,
      queryCount: graph.integers(1),
      selfCache,
      sourceCache,
    };
  }
  const rows = graph.input('groups.rows', 'int32', ['groups_count', 'groups_queries']);
  const places = graph.input('groups.places', 'int32', ['groups_row_count']);
  return {
    name,
    layout: groupsLayout(graph, heads, { rows, places }),
    rowCount: graph.size(places, 0),
    queryCount: graph.size(rows, 1),
    selfCache,
    sourceCache,
  };
}

/** SectionView's `widths`, of the keys of each cached part [g, KV, length, dk]. */
export function sectionWidths(
  graph: GraphBuilder,
  { queryCount }: Pick<DecodeSection, 'queryCount'>,
  cachedKeys: readonly Value[],
): Value {
  return graph.node('Concat', [...cachedKeys.map((keys) => graph.size(keys, 2)), queryCount], { axis: 0 });
}

/** Both sections of a decode step. */
export class DecodeSections {
  readonly singles: DecodeSection;
  readonly groups: DecodeSection;
  /** [2]: rows that are singles, rows that are in groups; in this order. */
  private readonly sizes: Value;
  /** Whether there are any, [1] each. */
  private readonly hasSingles: Value;
  private readonly hasGroups: Value;
  private readonly width: number;

  /** Declares the inputs of both sections. */
  constructor(
    private readonly graph: GraphBuilder,
    shape: SectionShape,
  ) {
    this.singles = declareSection(graph, 'singles', shape);
    this.groups = declareSection(graph, 'groups', shape);
    this.sizes = graph.node('Concat', [this.singles.rowCount, this.groups.rowCount], { axis: 0 });
    this.hasSingles = graph.node('Cast', [this.singles.rowCount], { to: BOOL });
    this.hasGroups = graph.node('Cast', [this.groups.rowCount], { to: BOOL });
    this.width = shape.heads.headCount * shape.heads.headSize;
  }

  /**
   * What the sections make of their rows, in the order of the rows, [rows, H·dk]. A section that has no rows takes no
   * time: its nodes do not run.
   */
  attend(rows: readonly Value[], attendRows: (section: DecodeSection, part: readonly Value[]) => Value): Value {
    const { graph, singles, groups } = this;
    const value = { type: 'float32', dims: ['rows', this.width] } as const;
    return graph.either(
      this.hasGroups,
      value,
      () =>
        graph.either(
          this.hasSingles,
          value,
          () => this.attendBoth(rows, attendRows),
          () => attendRows(groups, rows),
        ),
      () => attendRows(singles, rows),
    );
  }

  private attendBoth(
    rows: readonly Value[],
    attendRows: (section: DecodeSection, part: readonly Value[]) => Value,
  ): Value {
    const { graph, sizes } = this;
    const parts = rows.map((value) => graph.nodeWithOutputs('Split', [value, sizes], { axis: 0 }, 2));
    const attended = [this.singles, this.groups].map((section, index) =>
      attendRows(
        section,
        parts.map((part) => part[index] as Value),
      ),
    );
    return graph.node('Concat', attended, { axis: 0 });
  }
}

/** What a section's queries see, and how much of it. */
export interface SectionView {
  /** Cached keys and values, in the order of the bias. */
  readonly cached: readonly KeysAndValues[];
  /** Broadcasts to [g, KV, G·q, width]: of what is cached, then of the step's own q tokens; masked ones are -inf. */
  readonly bias: Value;
  /** [cached + 1]: how the width falls into parts. */
  readonly widths: Value;
  /** What scores are multiplied with. Default 1: T5 folds the scale into its weights. */
  readonly scale?: number;
}

/**
 * Self-attention of one section: queries meet the cached entries and the step's own keys, which are not in the cache
 * yet. Rows [n, H·dk] (queries) and [n, KV·dk] in, [n, H·dk] out.
 */
export function decodeSelfAttention(
  graph: GraphBuilder,
  { layout }: Pick<DecodeSection, 'layout'>,
  { cached, bias, widths, scale = 1 }: SectionView,
  rows: { readonly queries: Value; readonly keys: Value; readonly values: Value },
): Value {
  const queries = layout.queries(rows.queries);
  const parts = [...cached, { keys: layout.keys(rows.keys), values: layout.keys(rows.values) }];
  const attributes = scale === 1 ? { transB: 1 } : { transB: 1, alpha: { float: scale } };
  const scores = parts.map(({ keys }) => graph.node('FusedMatMul', [queries, keys], attributes));
  const biased = graph.node('Add', [graph.node('Concat', scores, { axis: -1 }), bias]);
  const probabilities = graph.node('Softmax', [biased], { axis: -1 });
  const shares = graph.nodeWithOutputs('Split', [probabilities, widths], { axis: -1 }, parts.length);
  const [first, ...others] = parts.map(({ values }, part) => graph.node('MatMul', [shares[part] as Value, values]));
  const attended = others.reduce((sum, part) => graph.node('Add', [sum, part]), first as Value);
  return layout.toRows(attended);
}
