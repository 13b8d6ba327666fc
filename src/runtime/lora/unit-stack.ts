/**
 * The factors of the adapters that run in the batch, in memory that sessions read in place: for every adapted module
 * a [units, in, 16] and b [units, 16, out]. An adapter is written when its first row comes and forgotten with its last;
 * there are no gaps, so that a step reads nothing that it does not need.
 */
import { invariant } from '../errors.ts';
import { type AdaptedModule, LORA_UNIT, loraInput } from '../graph/lora.ts';
import { floatTensor, type TensorValue } from '../tensor.ts';
import type { AdapterCombination } from './adapter-combination.ts';

interface Unit {
  readonly combination: AdapterCombination;
  /** Which block of LORA_UNIT ranks of it. */
  readonly index: number;
}

interface ModulePlanes {
  readonly module: AdaptedModule;
  a: Float32Array;
  b: Float32Array;
  gain: Float32Array;
}

const CAPACITIES = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64] as const;

export class UnitStack {
  private units: (Unit | undefined)[] = [];
  private capacity = 0;
  private readonly planes: readonly ModulePlanes[];

  constructor(modules: readonly AdaptedModule[]) {
    const empty = new Float32Array(0);
    this.planes = modules.map((module) => ({ module, a: empty, b: empty, gain: empty }));
  }

  /** Gives every unit of the combinations one of the first places; returns the places of each, in order of its units. */
  arrange(combinations: readonly AdapterCombination[]): ReadonlyMap<AdapterCombination, readonly number[]> {
    const count = combinations.reduce((sum, { unitCount }) => sum + unitCount, 0);
    this.reserve(count);
    this.units.length = count;
    const wanted = new Set(combinations);
    const staying = new Map<AdapterCombination, number[]>();
    const free: number[] = [];
    for (let place = 0; place < count; place++) {
      const unit = this.units[place];
      if (unit === undefined || !wanted.has(unit.combination)) free.push(place);
      else (staying.get(unit.combination) ?? setNew(staying, unit.combination))[unit.index] = place;
    }
    for (const combination of combinations) {
      const places = staying.get(combination) ?? setNew(staying, combination);
      for (let index = 0; index < combination.unitCount; index++) {
        places[index] ??= this.write({ combination, index }, free.shift());
      }
    }
    return staying;
  }

  /** Lets go of an adapter that no row uses any more. */
  forget(key: string): void {
    this.units = this.units.map((unit) => (unit?.combination.has(key) ? undefined : unit));
  }

  /** Adds the first `count` units to `feeds` under the decoder graph's names. */
  feed(feeds: Record<string, TensorValue>, count: number): void {
    for (const { module, a, b, gain } of this.planes) {
      const { path, inSize, outSize, hasGain } = module;
      feeds[loraInput.a(path)] = floatTensor(a.subarray(0, count * inSize * LORA_UNIT), [count, inSize, LORA_UNIT]);
      feeds[loraInput.b(path)] = floatTensor(b.subarray(0, count * outSize * LORA_UNIT), [count, LORA_UNIT, outSize]);
      if (hasGain) feeds[loraInput.gain(path)] = floatTensor(gain.subarray(0, count * outSize), [count, outSize]);
    }
  }

  private write(unit: Unit, place: number | undefined): number {
    invariant(place !== undefined, 'every unit has a place');
    this.units[place] = unit;
    const { combination, index } = unit;
    for (const { module, a, b, gain } of this.planes) {
      const { path, inSize, outSize, hasGain } = module;
      combination.write(path, {
        first: index * LORA_UNIT,
        count: LORA_UNIT,
        a: part(a, place, inSize * LORA_UNIT),
        b: part(b, place, outSize * LORA_UNIT),
      });
      if (hasGain) combination.writeGain(path, part(gain, place, outSize));
    }
    return place;
  }

  /** Makes room; grown in steps, so that it seldom happens, and let go when a quarter would do. */
  private reserve(count: number): void {
    if (count <= this.capacity && count > this.capacity / 4) return;
    const capacity = CAPACITIES.find((size) => size >= count) ?? count;
    if (capacity === this.capacity) return;
    for (const planes of this.planes) {
      const { inSize, outSize, hasGain } = planes.module;
      planes.a = resized(planes.a, capacity * inSize * LORA_UNIT);
      planes.b = resized(planes.b, capacity * outSize * LORA_UNIT);
      if (hasGain) planes.gain = resized(planes.gain, capacity * outSize);
    }
    this.capacity = capacity;
  }
}

function setNew(map: Map<AdapterCombination, number[]>, key: AdapterCombination): number[] {
  const places: number[] = [];
  map.set(key, places);
  return places;
}

function part(plane: Float32Array, place: number, size: number): Float32Array {
  return plane.subarray(place * size, (place + 1) * size);
}

function resized(old: Float32Array, length: number): Float32Array {
  const plane = new Float32Array(length);
  plane.set(old.subarray(0, length));
  return plane;
}
