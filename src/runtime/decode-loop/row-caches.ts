/**
 * The cache of rows inside a decode loop. Outside, the tokens of a request's rows are a pool of entries that they share
 * (engine/row-paths.ts); here each row has its own entries, by position, [rows, KV, C, dk]: what is added up in the order
 * of positions does not depend on where the runs before it ended.
 */
import type { HeadShape, KeysAndValues, SectionName } from '../graph/attention.ts';
import { type CachedTensor, floatCache } from '../graph/cached-tensors.ts';
import type { GraphBuilder, Value } from '../graph/graph-builder.ts';

/** Rows of the requests of one section come before those of the next. */
export const SECTIONS = ['singles', 'groups'] as const satisfies readonly SectionName[];

export interface CacheLayout {
  readonly heads: HeadShape;
  readonly layerCount: number;
}

/**
 * The keys and values of each layer [rows, KV, C, dk]. Inputs, for each section NAME: NAME.self_keys.L and
 * NAME.self_values.L [requests, KV, entries, dk]; NAME.places int32 [rows, 1, C], where a row's entries lie in the pool
 * of its request, counted in tokens of all pools and for the first head; NAME.head_places int32 [1, KV, 1], how far
 * behind it each head's lie.
 */
export function gatherRowCaches(graph: GraphBuilder, { heads, layerCount }: CacheLayout): readonly KeysAndValues[] {
  const { headCount, headSize, keyValueHeadCount = headCount } = heads;
  const places = SECTIONS.map((section) =>
    graph.node('Add', [
      graph.input(`${section}.places`, 'int32', [`${section}_rows`, 1, 'positions']),
      graph.input(`${section}.head_places`, 'int32', [1, keyValueHeadCount, 1]),
    ]),
  );
  const gather = ({ name }: CachedTensor, layer: number): Value => {
    const parts = SECTIONS.map((section, index) => {
      const dims = [`${section}_requests`, keyValueHeadCount, `${section}_entries`, headSize];
      const pool = graph.input(`${section}.${name}.${layer}`, 'float32', dims);
      const entries = graph.node('Reshape', [pool, graph.integers(-1, headSize)]);
      return graph.node('Gather', [entries, places[index] as Value], { axis: 0 });
    });
    return graph.node('Concat', parts, { axis: 0 });
  };
  return Array.from({ length: layerCount }, (_, layer) => {
    const [keys, values] = floatCache('self', heads).map((tensor) => gather(tensor, layer));
    return { keys: keys as Value, values: values as Value };
  });
}

/**
 * What is cached of the sources of both sections' requests. Inputs, for each section NAME: NAME.TENSOR.L as the cache has
 * them; NAME.source_padding int64 [2 · axes], as ONNX's Pad takes it, which makes sources equally long.
 */
export class JoinedSources {
  private readonly paddings: readonly Value[];

  constructor(
    private readonly graph: GraphBuilder,
    private readonly tensors: readonly CachedTensor[],
  ) {
    const axes = 1 + Math.max(...tensors.map(({ dims }) => dims.length));
    this.paddings = SECTIONS.map((section) => graph.input(`${section}.source_padding`, 'int64', [2 * axes]));
  }

  /** Each of the tensors [requests, …]. */
  layer(layer: number): readonly Value[] {
    const { graph } = this;
    return this.tensors.map(({ name, type, dims }) => {
      const parts = SECTIONS.map((section, index) => {
        const sizes = dims.map((size) => (size === 'length' ? `${section}_source` : size));
        const source = graph.input(`${section}.${name}.${layer}`, type, [`${section}_requests`, ...sizes]);
        return graph.node('Pad', [source, this.paddings[index] as Value]);
      });
      return graph.node('Concat', parts, { axis: 0 });
    });
  }
}

/** A cache [rows, KV, C, dk] with the keys, or the values, of the token at `isOwn` (bool [rows, 1, C, 1]) written into it. */
export function writeToken(
  graph: GraphBuilder,
  cache: Value,
  fresh: Value,
  isOwn: Value,
  { headCount, headSize, keyValueHeadCount = headCount }: HeadShape,
): Value {
  const token = graph.node('Reshape', [fresh, graph.integers(0, keyValueHeadCount, 1, headSize)]);
  return graph.node('Where', [isOwn, token, cache]);
}
