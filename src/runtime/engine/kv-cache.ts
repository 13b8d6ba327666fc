/**
 * The keys and values of one section of the running batch: for every slot (one request) the source's, written once,
 * and a pool of entries of the tokens decoded so far, shared by the request's beams (row-paths.ts says whose is whose).
 * Slots and lengths grow and shrink in buckets with what runs; content beyond a slot's own length is never read: the
 * masks hide it.
 */
import { invariant } from '../errors.ts';
import type { TensorValue } from '../tensor.ts';
import { CachePlane } from './cache-plane.ts';

export interface CacheShape {
  readonly layerCount: number;
  readonly headCount: number;
  readonly headSize: number;
}

/** The source's keys and values of every layer, as the encoder gives them: [heads, length, headSize] at `offset`. */
export interface SourceCache {
  readonly length: number;
  readonly offset: number;
  readonly keys: readonly Float32Array[];
  readonly values: readonly Float32Array[];
}

/** What a preempted request leaves and comes back with. */
export interface SavedSlot {
  readonly source: SourceCache;
  readonly entryCount: number;
  readonly selfKeys: readonly Float32Array[];
  readonly selfValues: readonly Float32Array[];
}

/** Buckets are multiples of 16: padding up to one of them leaves every row's bits as they are (test/runtime/graph). */
const LENGTH_BUCKETS = [16, 32, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024] as const;
const SLOT_BUCKETS = [0, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64] as const;

function bucket(buckets: readonly number[], needed: number): number {
  const found = buckets.find((size) => size >= needed);
  if (found !== undefined) return found;
  const largest = buckets.at(-1) as number;
  return Math.ceil(needed / largest) * largest;
}

const FLOAT_BYTES = 4;

/** Lengths are let go when a third of the bucket would do: less often than they are taken, so that nothing flutters. */
const SHRINK_SHARE = 1 / 3;

export class KvCache {
  /** Capacity in decoded tokens, and in source tokens, of every slot. */
  positions = LENGTH_BUCKETS[0] as number;
  sourceLength = LENGTH_BUCKETS[0] as number;
  private slotCapacity = 0;
  private readonly selfKeys: readonly CachePlane[];
  private readonly selfValues: readonly CachePlane[];
  private readonly sourceKeys: readonly CachePlane[];
  private readonly sourceValues: readonly CachePlane[];

  constructor(private readonly shape: CacheShape) {
    const planes = () =>
      Array.from({ length: shape.layerCount }, () => new CachePlane(shape.headCount, shape.headSize));
    this.selfKeys = planes();
    this.selfValues = planes();
    this.sourceKeys = planes();
    this.sourceValues = planes();
  }

  get byteLength(): number {
    const planes = [...this.selfKeys, ...this.selfValues, ...this.sourceKeys, ...this.sourceValues];
    return planes.reduce((sum, plane) => sum + plane.byteLength, 0);
  }

  /** Bytes that it would take for so many slots and so long sources. */
  bytesFor(slots: number, source: number): number {
    const { layerCount, headCount, headSize } = this.shape;
    const length = bucket(LENGTH_BUCKETS, Math.max(source, 1)) + this.positions;
    return 2 * layerCount * bucket(SLOT_BUCKETS, slots) * headCount * headSize * length * FLOAT_BYTES;
  }

  /** Fits the capacities to what is needed, keeping the content of the first `used` slots. */
  fit(needed: { readonly slots: number; readonly positions: number; readonly source: number }, used: number): void {
    const slots = bucket(SLOT_BUCKETS, needed.slots);
    const positions = refit(this.positions, needed.positions);
    const sourceLength = refit(this.sourceLength, needed.source);
    // slots of a burst that is over are let go before each of them gets longer
    const isLonger = positions > this.positions || sourceLength > this.sourceLength;
    const slotCapacity = slots > this.slotCapacity || slots === 0 || isLonger ? slots : this.slotCapacity;
    for (const planes of [this.selfKeys, this.selfValues]) {
      for (const plane of planes) plane.resize(slotCapacity, positions, used);
    }
    for (const planes of [this.sourceKeys, this.sourceValues]) {
      for (const plane of planes) plane.resize(slotCapacity, sourceLength, used);
    }
    this.slotCapacity = slotCapacity;
    this.positions = positions;
    this.sourceLength = sourceLength;
  }

  writeSource(slot: number, source: SourceCache): void {
    for (let layer = 0; layer < this.shape.layerCount; layer++) {
      at(this.sourceKeys, layer).write(slot, at(source.keys, layer), source.offset, source.length);
      at(this.sourceValues, layer).write(slot, at(source.values, layer), source.offset, source.length);
    }
  }

  /** Writes one row's new keys and values, [layers, 2, heads, headSize] at `offset`, as entry `entry` of a slot. */
  writeEntry(slot: number, entry: number, row: Float32Array, offset: number): void {
    const size = this.shape.headCount * this.shape.headSize;
    for (let layer = 0; layer < this.shape.layerCount; layer++) {
      at(this.selfKeys, layer).writeEntry(slot, entry, row, offset + 2 * layer * size);
      at(this.selfValues, layer).writeEntry(slot, entry, row, offset + (2 * layer + 1) * size);
    }
  }

  moveSlot(from: number, to: number): void {
    for (const planes of [this.selfKeys, this.selfValues, this.sourceKeys, this.sourceValues]) {
      for (const plane of planes) plane.copySlot(from, to);
    }
  }

  save(slot: number, sourceLength: number, entryCount: number): SavedSlot {
    const read = (planes: readonly CachePlane[], length: number) => planes.map((plane) => plane.read(slot, length));
    return {
      source: {
        length: sourceLength,
        offset: 0,
        keys: read(this.sourceKeys, sourceLength),
        values: read(this.sourceValues, sourceLength),
      },
      entryCount,
      selfKeys: read(this.selfKeys, entryCount),
      selfValues: read(this.selfValues, entryCount),
    };
  }

  restore(slot: number, saved: SavedSlot): void {
    this.writeSource(slot, saved.source);
    for (let layer = 0; layer < this.shape.layerCount; layer++) {
      at(this.selfKeys, layer).write(slot, at(saved.selfKeys, layer), 0, saved.entryCount);
      at(this.selfValues, layer).write(slot, at(saved.selfValues, layer), 0, saved.entryCount);
    }
  }

  /** Adds the first `count` slots to `feeds` under the decoder graph's names for this section. */
  feed(feeds: Record<string, TensorValue>, section: string, count: number): void {
    for (let layer = 0; layer < this.shape.layerCount; layer++) {
      feeds[`${section}.self_keys.${layer}`] = at(this.selfKeys, layer).view(count);
      feeds[`${section}.self_values.${layer}`] = at(this.selfValues, layer).view(count);
      feeds[`${section}.source_keys.${layer}`] = at(this.sourceKeys, layer).view(count);
      feeds[`${section}.source_values.${layer}`] = at(this.sourceValues, layer).view(count);
    }
  }
}

function refit(current: number, needed: number): number {
  if (needed > current || needed <= current * SHRINK_SHARE) return bucket(LENGTH_BUCKETS, Math.max(needed, 1));
  return current;
}

function at<T>(items: readonly T[], index: number): T {
  const item = items[index];
  invariant(item !== undefined, `the cache has a layer ${index}`);
  return item;
}
