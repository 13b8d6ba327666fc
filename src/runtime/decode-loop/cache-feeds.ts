/** What a decode loop is fed of the cache: the inputs of row-caches.ts. */
import type { CacheShape, KvCache } from '../engine/kv-cache.ts';
import type { StepCaches } from '../engine/model-runner.ts';
import type { ScheduledRequest } from '../engine/scheduled-request.ts';
import type { StepPlan } from '../engine/step-plan.ts';
import type { HeadShape, SectionName } from '../graph/attention.ts';
import type { CachedTensor } from '../graph/cached-tensors.ts';
import { floatTensor, intTensor, longTensor, type TensorValue } from '../tensor.ts';
import type { LoopFeeds } from './loop-feeds.ts';
import type { LoopRow } from './loop-rows.ts';
import { SECTIONS } from './row-caches.ts';

export interface LoopBatch {
  readonly plan: StepPlan;
  readonly caches: StepCaches;
  /** Those of singles, then those of groups. */
  readonly rows: readonly LoopRow[];
  /** Places that a row's cache has. */
  readonly positions: number;
  /** Of the longest source, padding included. */
  readonly sourceLength: number;
}

/** The pools of both sections, and where each row's entries lie in them. */
export function cacheFeeds({ plan, caches, rows, positions, sourceLength }: LoopBatch, shape: CacheShape): LoopFeeds {
  const feeds: LoopFeeds = {};
  for (const section of SECTIONS) {
    const cache = caches[section];
    cache.feed(feeds, section, plan[section].length);
    const own = rows.filter(({ request }) => request.section === section);
    const slots = new Map(plan[section].map((request, slot) => [request, slot]));
    feedPlaces(feeds, section, { rows: own, slots, cache, positions, heads: shape.heads });
    feeds[`${section}.source_padding`] = padding(shape.source, sourceLength - cache.sourceLength);
  }
  return feeds;
}

/** As in LoopBatch. */
export function longestSource(caches: StepCaches): number {
  return Math.max(...SECTIONS.map((section) => caches[section].sourceLength));
}

/** The request of each row, counted over both sections. */
export function rowSources({ plan: { singles, groups }, rows }: LoopBatch): TensorValue {
  const numbers = new Map([...singles, ...groups].map((request, number) => [request, number]));
  const sources = rows.map(({ request }) => numbers.get(request) ?? 0);
  return intTensor(Int32Array.from(sources), [rows.length]);
}

/** [rows, 1, 1, source]: -inf behind the tokens of a row's own source. `lengthOf`: tokens that are seen. */
export function sourceMask(
  { sourceLength: length, rows }: LoopBatch,
  lengthOf: (request: ScheduledRequest) => number,
): TensorValue {
  const mask = new Float32Array(rows.length * length).fill(Number.NEGATIVE_INFINITY);
  for (const [row, { request }] of rows.entries()) mask.fill(0, row * length, row * length + lengthOf(request));
  return floatTensor(mask, [rows.length, 1, 1, length]);
}

interface RowPlaces {
  readonly rows: readonly LoopRow[];
  /** Those of the plan: who left since it was made has none of its own any more. */
  readonly slots: ReadonlyMap<ScheduledRequest, number>;
  readonly cache: KvCache;
  readonly positions: number;
  readonly heads: HeadShape;
}

function feedPlaces(feeds: LoopFeeds, section: SectionName, { rows, slots, cache, positions, heads }: RowPlaces): void {
  const { headCount, keyValueHeadCount = headCount } = heads;
  const places = new Int32Array(rows.length * positions);
  for (const [row, { request, index }] of rows.entries()) {
    const first = (slots.get(request) ?? 0) * keyValueHeadCount * cache.positions;
    const start = row * positions;
    // what is not seen is read all the same: of its own request
    places.fill(first, start, start + positions);
    for (const [position, entry] of request.paths.path(index).entries()) places[start + position] = first + entry;
  }
  const headPlaces = Int32Array.from({ length: keyValueHeadCount }, (_, head) => head * cache.positions);
  feeds[`${section}.places`] = intTensor(places, [rows.length, 1, positions]);
  feeds[`${section}.head_places`] = intTensor(headPlaces, [1, keyValueHeadCount, 1]);
}

/** As ONNX's Pad takes it: nothing before, `more` behind on the axis of lengths. */
function padding([tensor]: readonly CachedTensor[], more: number): TensorValue {
  const dims = tensor?.dims ?? [];
  const behind = ['request', ...dims].map((size) => (size === 'length' ? more : 0));
  return longTensor([...behind.map(() => 0), ...behind]);
}
