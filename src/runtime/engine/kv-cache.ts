/**
 * The keys and values of one section of the running batch: for every slot (one request) the source's, written once,
 * and a pool of entries of the tokens decoded so far, shared by the request's beams (row-paths.ts says whose is whose).
 * Slots and lengths grow and shrink in buckets with what runs; content beyond a slot's own length is never read: the
 * masks hide it.
 */
import { invariant } from '../errors.ts';
import type { HeadShape } from '../graph/attention.ts';
import { type CachedTensor, floatCache } from '../graph/cached-tensors.ts';
import type { TensorValue } from '../tensor.ts';
import { type CacheData, CachePlane, slotBytes } from './cache-plane.ts';

/** By layer. */
type Layers = readonly CacheData[];

export interface CacheShape {
  readonly layerCount: number;
  readonly heads: HeadShape;
  /** What is kept of a source, or of a prompt. */
  readonly source: readonly CachedTensor[];
}

/** What is kept of a source of `length` tokens: each part of the cache's shape, of every layer. */
export interface SourceCache {
  readonly length: number;
  readonly parts: readonly Layers[];
}

/** What a preempted request leaves and comes back with. */
export interface SavedSlot {
  readonly source: SourceCache;
  readonly entryCount: number;
  readonly self: readonly Layers[];
}

const NOTHING = new Float32Array(0);
/** Buckets are multiples of 16: padding up to one of them leaves every row's bits as they are (test/runtime/graph). */
const LENGTH_BUCKETS = [16, 32, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024] as const;
const SLOT_BUCKETS = [0, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64] as const;

/** The length that so many positions are given, padding included. */
export function lengthBucket(needed: number): number {
  return bucket(LENGTH_BUCKETS, needed);
}

function bucket(buckets: readonly number[], needed: number): number {
  const found = buckets.find((size) => size >= needed);
  if (found !== undefined) return found;
  const largest = buckets.at(-1) as number;
  return Math.ceil(needed / largest) * largest;
}

/** Lengths are let go when a third of the bucket would do: less often than they are taken, so that nothing flutters. */
const SHRINK_SHARE = 1 / 3;

export class KvCache {
  /** Capacity in decoded tokens, and in source tokens, of every slot. */
  positions = LENGTH_BUCKETS[0] as number;
  sourceLength = LENGTH_BUCKETS[0] as number;
  private slotCapacity = 0;
  /** Keys, then values. */
  private readonly self: readonly CachedPart[];
  private readonly source: readonly CachedPart[];
  /** Numbers of a token's keys, and of its values. */
  private readonly entrySize: number;

  constructor({ heads, layerCount, source }: CacheShape) {
    this.self = floatCache('self', heads).map((tensor) => partOf(tensor, layerCount));
    this.source = source.map((tensor) => partOf(tensor, layerCount));
    const { headCount, headSize, keyValueHeadCount = headCount } = heads;
    this.entrySize = keyValueHeadCount * headSize;
  }

  get byteLength(): number {
    let bytes = 0;
    for (const { layers } of [...this.self, ...this.source]) for (const plane of layers) bytes += plane.byteLength;
    return bytes;
  }

  /** Bytes that it would take for so many slots and so long sources. */
  bytesFor(slots: number, source: number): number {
    const of = (parts: readonly CachedPart[], length: number): number =>
      parts.reduce((sum, { tensor, layers }) => sum + layers.length * slotBytes(tensor, length), 0);
    const slot = of(this.self, this.positions) + of(this.source, bucket(LENGTH_BUCKETS, Math.max(source, 1)));
    return bucket(SLOT_BUCKETS, slots) * slot;
  }

  /** Fits the capacities to what is needed, keeping the content of the first `used` slots. */
  fit(needed: { readonly slots: number; readonly positions: number; readonly source: number }, used: number): void {
    const slots = bucket(SLOT_BUCKETS, needed.slots);
    const positions = refit(this.positions, needed.positions);
    const sourceLength = refit(this.sourceLength, needed.source);
    // slots of a burst that is over are let go before each of them gets longer
    const isLonger = positions > this.positions || sourceLength > this.sourceLength;
    const slotCapacity = slots > this.slotCapacity || slots === 0 || isLonger ? slots : this.slotCapacity;
    for (const { layers } of this.self) for (const plane of layers) plane.resize(slotCapacity, positions, used);
    for (const { layers } of this.source) for (const plane of layers) plane.resize(slotCapacity, sourceLength, used);
    this.slotCapacity = slotCapacity;
    this.positions = positions;
    this.sourceLength = sourceLength;
  }

  /** Writes a source, and zeros over what a former request decoded: a mask hides numbers, but not infinities. */
  writeSource(slot: number, { parts, length }: SourceCache): void {
    writeAll(this.source, slot, parts, length);
    for (const { layers } of this.self) for (const plane of layers) plane.write(slot, NOTHING, 0);
  }

  /** Writes one row's new keys and values, [layers, 2, heads, headSize] at `offset`, as entry `entry` of a slot. */
  writeEntry(slot: number, entry: number, row: Float32Array, offset: number): void {
    for (const [part, { layers }] of this.self.entries()) {
      for (const [layer, plane] of layers.entries()) {
        plane.writeEntry(slot, entry, row, offset + (2 * layer + part) * this.entrySize);
      }
    }
  }

  moveSlot(from: number, to: number): void {
    for (const { layers } of [...this.self, ...this.source]) for (const plane of layers) plane.copySlot(from, to);
  }

  save(slot: number, sourceLength: number, entryCount: number): SavedSlot {
    const read = (parts: readonly CachedPart[], length: number): readonly Layers[] =>
      parts.map(({ layers }) => layers.map((plane) => plane.read(slot, length)));
    const source = { length: sourceLength, parts: read(this.source, sourceLength) };
    return { source, entryCount, self: read(this.self, entryCount) };
  }

  restore(slot: number, saved: SavedSlot): void {
    writeAll(this.source, slot, saved.source.parts, saved.source.length);
    writeAll(this.self, slot, saved.self, saved.entryCount);
  }

  /** Adds the first `count` slots to `feeds` under the decoder graph's names for this section. */
  feed(feeds: Record<string, TensorValue>, section: string, count: number): void {
    for (const { tensor, layers } of [...this.self, ...this.source]) {
      for (const [layer, plane] of layers.entries()) feeds[`${section}.${tensor.name}.${layer}`] = plane.view(count);
    }
  }
}

interface CachedPart {
  readonly tensor: CachedTensor;
  readonly layers: readonly CachePlane[];
}

function partOf(tensor: CachedTensor, layerCount: number): CachedPart {
  const count = tensor.isShared === true ? 1 : layerCount;
  return { tensor, layers: Array.from({ length: count }, () => new CachePlane(tensor)) };
}

/** Writes the first `length` positions of a slot. */
function writeAll(parts: readonly CachedPart[], slot: number, values: readonly Layers[], length: number): void {
  for (const [part, { layers }] of parts.entries()) {
    for (const [layer, plane] of layers.entries()) {
      const data = values[part]?.[layer];
      invariant(data !== undefined, `part ${part} of layer ${layer} is there`);
      plane.write(slot, data, length);
    }
  }
}

function refit(current: number, needed: number): number {
  if (needed > current || needed <= current * SHRINK_SHARE) return bucket(LENGTH_BUCKETS, Math.max(needed, 1));
  return current;
}
