/**
 * The units of the adapters that run in the batch, in memory that sessions read in place: for every adapted module
 * a [places, in, 16] and b [places, 16, out]. A unit is written once, when the first row of its adapter comes, and
 * stays until its place is needed; an adapter that comes back before that costs nothing.
 */

import { MEBIBYTE } from '../../storage/byte-size.ts';
import { type AdaptedModule, LORA_UNIT, loraInput } from '../graph/lora.ts';
import { floatTensor, type TensorValue } from '../tensor.ts';
import { AdapterUnits, unitBytesOf } from './adapter-units.ts';

/** Which unit of LORA_UNIT ranks of an adapter. */
interface Unit {
  readonly adapter: AdapterUnits;
  readonly index: number;
}

interface ModulePlanes {
  readonly module: AdaptedModule;
  readonly a: Float32Array;
  readonly b: Float32Array;
  /** By how much more than once the module's own product counts; [places, out]. */
  readonly gainChange: Float32Array;
}

/** Places that lie together. */
export interface PlaceRange {
  readonly first: number;
  readonly count: number;
}

/** Bytes of units that stay when nothing needs their places. */
const KEPT_BYTES = 64 * MEBIBYTE;
/** Places that address space is taken for at first. */
const FIRST_PLACES = 256;
/** Memory is given back when a single unit is left of more than twice so many, or twice those that are kept. */
const MANY_PLACES = 8;

export class UnitStack {
  /** By place; what nobody uses any more stays until it is overwritten. */
  private units: (Unit | undefined)[] = [];
  private readonly places = new Map<AdapterUnits, number[]>();
  private planes: readonly ModulePlanes[] = [];
  private capacity = 0;
  /** Of a unit of all modules. */
  private readonly unitBytes: number;
  /** Units that fit the limit. */
  private readonly room: number;
  private readonly keptPlaces: number;
  private lastWritten = -1;

  constructor(
    private readonly modules: readonly AdaptedModule[],
    /** Bytes that the units of a batch may take. */
    stackBytes: number,
  ) {
    this.unitBytes = Math.max(1, unitBytesOf(modules));
    this.room = Math.max(1, Math.floor(stackBytes / this.unitBytes));
    this.keptPlaces = Math.max(1, Math.min(this.room, FIRST_PLACES, Math.floor(KEPT_BYTES / this.unitBytes)));
  }

  /** Bytes of address space taken. */
  get byteLength(): number {
    const arrays = this.planes.flatMap(({ a, b, gainChange }) => [a, b, gainChange]);
    return arrays.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  /** Whether rows of `adapters` may come beside those of `running`; always when nothing runs. */
  hasRoom(adapters: ReadonlySet<AdapterUnits>, running: ReadonlySet<AdapterUnits>): boolean {
    return running.size === 0 || unitCount(new Set([...running, ...adapters])) <= this.room;
  }

  /** Writes one unit of what rows of `adapters` will need beside those of `running`; returns its bytes, 0 when none is missing. */
  prepare(adapters: ReadonlySet<AdapterUnits>, running: ReadonlySet<AdapterUnits>): number {
    const [next] = missingUnits(adapters, this.places);
    if (next === undefined) return 0;
    this.write(next, new Set([...running, ...adapters]));
    return this.unitBytes;
  }

  /** Sees that all units of `wanted` are there; returns the places that a step reads. */
  arrange(wanted: ReadonlySet<AdapterUnits>): PlaceRange {
    const missing = missingUnits(wanted, this.places);
    for (const unit of missing) this.write(unit, wanted);
    const count = unitCount(wanted);
    const range = this.rangeOf(wanted);
    // one move a step: what lies scattered comes together without holding any step up
    if (missing.length === 0 && range.count > 2 * count) this.moveLast(range, wanted);
    if (count === 1 && this.units.length > 2 * Math.max(this.keptPlaces, MANY_PLACES)) this.shrink(range.first);
    return this.rangeOf(wanted);
  }

  /** The places of an adapter, in the order of its units. */
  placesOf(adapter: AdapterUnits): readonly number[] {
    return this.places.get(adapter) ?? [];
  }

  /** Lets go of an adapter that no row uses any more. */
  forget(adapter: AdapterUnits): void {
    for (const place of this.placesOf(adapter)) this.units[place] = undefined;
    this.places.delete(adapter);
  }

  /** Gives all memory back when no adapter is there any more. */
  trim(): void {
    for (const adapter of this.places.keys()) if (adapter !== AdapterUnits.none) return;
    this.places.clear();
    this.units = [];
    this.planes = [];
    this.capacity = 0;
    this.lastWritten = -1;
  }

  /** Adds a range of places to `feeds` under the decoder graph's names. */
  feed(feeds: Record<string, TensorValue>, { first, count }: PlaceRange): void {
    for (const { module, a, b, gainChange } of this.planes) {
      const { path, inSize, outSize, hasGain } = module;
      feeds[loraInput.a(path)] = floatTensor(parts(a, first, count, inSize * LORA_UNIT), [count, inSize, LORA_UNIT]);
      feeds[loraInput.b(path)] = floatTensor(parts(b, first, count, outSize * LORA_UNIT), [count, LORA_UNIT, outSize]);
      if (hasGain)
        feeds[loraInput.gain(path)] = floatTensor(parts(gainChange, first, count, outSize), [count, outSize]);
    }
  }

  private write(unit: Unit, wanted: ReadonlySet<AdapterUnits>): void {
    const place = this.freePlace(wanted);
    if (this.capacity === 0) this.reserve(0);
    // what fails half-way leaves nobody's unit here
    this.vacate(place);
    for (const { module, a, b, gainChange } of this.planes) {
      const { path, inSize, outSize, hasGain } = module;
      unit.adapter.write(path, unit.index, {
        a: parts(a, place, 1, inSize * LORA_UNIT),
        b: parts(b, place, 1, outSize * LORA_UNIT),
      });
      if (!hasGain) continue;
      const gain = parts(gainChange, place, 1, outSize);
      // the change counts once, whatever the number of units
      const change = unit.index === 0 ? unit.adapter.gainChange(path) : undefined;
      if (change === undefined) gain.fill(0);
      else gain.set(change);
    }
    this.settle(unit, place);
    this.lastWritten = place;
  }

  /**
   * A place that no adapter of `wanted` has: among theirs or beside them, so that a step reads little else; of the kept
   * ones as long as there are any. When there are none of theirs, the one after the last that was written: what was
   * written long ago goes first.
   */
  private freePlace(wanted: ReadonlySet<AdapterUnits>): number {
    const { first, count } = this.rangeOf(wanted);
    const end = first + count;
    if (count === 0) return (this.lastWritten + 1) % this.keptPlaces;
    const gap = this.gapIn({ first, count }, wanted);
    if (gap !== undefined) return gap;
    if (end >= this.keptPlaces && first > 0) return first - 1;
    if (end === this.capacity) this.grow();
    return end;
  }

  private gapIn({ first, count }: PlaceRange, wanted: ReadonlySet<AdapterUnits>): number | undefined {
    for (let place = first; place < first + count; place++) if (!this.isOf(place, wanted)) return place;
    return undefined;
  }

  private isOf(place: number, wanted: ReadonlySet<AdapterUnits>): boolean {
    const unit = this.units[place];
    return unit !== undefined && wanted.has(unit.adapter);
  }

  /** The adapter that had the place has to be written anew. */
  private vacate(place: number): void {
    const former = this.units[place]?.adapter;
    if (former !== undefined) this.forget(former);
  }

  /** Notes that a unit lies at `place`. */
  private settle(unit: Unit, place: number): void {
    this.units[place] = unit;
    const places = this.places.get(unit.adapter) ?? [];
    places[unit.index] = place;
    this.places.set(unit.adapter, places);
  }

  private moveLast(range: PlaceRange, wanted: ReadonlySet<AdapterUnits>): void {
    const from = range.first + range.count - 1;
    const to = this.gapIn(range, wanted);
    if (to === undefined) return;
    this.vacate(to);
    this.settle(this.units[from] as Unit, to);
    this.units[from] = undefined;
    this.copyFrom(this.planes, { first: from, count: 1 }, to);
  }

  /** Copies places of `source`, these planes or former ones, to those from `to` on. */
  private copyFrom(source: readonly ModulePlanes[], { first, count }: PlaceRange, to: number): void {
    for (const [index, { module, a, b, gainChange }] of this.planes.entries()) {
      const { inSize, outSize, hasGain } = module;
      const from = source[index] as ModulePlanes;
      a.set(parts(from.a, first, count, inSize * LORA_UNIT), to * inSize * LORA_UNIT);
      b.set(parts(from.b, first, count, outSize * LORA_UNIT), to * outSize * LORA_UNIT);
      if (hasGain) gainChange.set(parts(from.gainChange, first, count, outSize), to * outSize);
    }
  }

  /** From the first place of `wanted` to the last. */
  private rangeOf(wanted: ReadonlySet<AdapterUnits>): PlaceRange {
    let first = Number.POSITIVE_INFINITY;
    let last = -1;
    for (const adapter of wanted) {
      for (const place of this.placesOf(adapter)) {
        first = Math.min(first, place);
        last = Math.max(last, place);
      }
    }
    return last < 0 ? { first: 0, count: 0 } : { first, count: last + 1 - first };
  }

  /** Takes address space; memory is used where units are written. */
  private reserve(places: number): void {
    const capacity = Math.max(places, Math.min(this.room, FIRST_PLACES));
    this.planes = allocate(this.modules, capacity);
    this.capacity = capacity;
  }

  private grow(): void {
    const former = this.planes;
    const count = this.capacity;
    this.reserve(2 * count);
    this.copyFrom(former, { first: 0, count }, 0);
  }

  /** Gives back the memory of all places but one, which becomes the first. */
  private shrink(place: number): void {
    const unit = this.units[place] as Unit;
    const former = this.planes;
    this.reserve(0);
    this.places.clear();
    this.units = [];
    this.lastWritten = 0;
    this.settle(unit, 0);
    this.copyFrom(former, { first: place, count: 1 }, 0);
  }
}

function allocate(modules: readonly AdaptedModule[], places: number): readonly ModulePlanes[] {
  return modules.map((module) => ({
    module,
    a: new Float32Array(places * module.inSize * LORA_UNIT),
    b: new Float32Array(places * module.outSize * LORA_UNIT),
    gainChange: new Float32Array(module.hasGain ? places * module.outSize : 0),
  }));
}

/** The units of `adapters` that have no place. */
function missingUnits(
  adapters: ReadonlySet<AdapterUnits>,
  places: ReadonlyMap<AdapterUnits, readonly number[]>,
): readonly Unit[] {
  return [...adapters].flatMap((adapter) => {
    const known = places.get(adapter) ?? [];
    const units = Array.from({ length: adapter.unitCount }, (_, index) => ({ adapter, index }));
    return units.filter(({ index }) => known[index] === undefined);
  });
}

function unitCount(adapters: ReadonlySet<AdapterUnits>): number {
  let count = 0;
  for (const adapter of adapters) count += adapter.unitCount;
  return count;
}

function parts(plane: Float32Array, first: number, count: number, size: number): Float32Array {
  return plane.subarray(first * size, (first + count) * size);
}
