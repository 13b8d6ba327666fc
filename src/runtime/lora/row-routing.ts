/** Which rows of a step each unit serves, and where each row finds its share: what RowLora (graph/lora.ts) is fed. */
import { LORA_UNIT, type RouteNames } from '../graph/lora.ts';
import { floatTensor, intTensor, longTensor, type TensorValue } from '../tensor.ts';
import type { AdapterCombination } from './adapter-combination.ts';
import type { AdapterUnits } from './adapter-units.ts';
import type { PlaceRange } from './unit-stack.ts';

/** A product of a single row rounds differently from one of several. */
const LEAST_ROWS = 2;
/** Shares that onnxruntime adds at a time (seen in 1.30.0: 7 summed alone differ from 7 and a zero). */
const SHARES_CUT = 4;

/**
 * Rows of a unit are padded to two; from LORA_UNIT on to a multiple of it and two for each thread, because onnxruntime
 * then cuts rows among its threads, and a thread must not be left with a single one.
 */
function paddedRows(most: number, threadCount: number): number {
  if (most < LORA_UNIT) return Math.max(LEAST_ROWS, most);
  return Math.max(LEAST_ROWS * threadCount, Math.ceil(most / LORA_UNIT) * LORA_UNIT);
}

/** Sums of several shares are cut into fours; what is left over is added in another order, so nothing may be. */
function paddedShares(most: number): number {
  return most === 1 ? 1 : Math.ceil(most / SHARES_CUT) * SHARES_CUT;
}

interface Routes {
  /** The places that the step reads. */
  readonly range: PlaceRange;
  /** Where the units of an adapter lie. */
  readonly placesOf: (adapter: AdapterUnits) => readonly number[];
  /** Of the session. */
  readonly threadCount: number;
}

/** Padding repeats row 0 and is not read. */
export function routeRows(
  rows: readonly AdapterCombination[],
  { range, placesOf, threadCount }: Routes,
  names: RouteNames,
): Readonly<Record<string, TensorValue>> {
  const served: number[][] = Array.from({ length: range.count }, () => []);
  const shareCount = paddedShares(Math.max(...rows.map((combination) => combination.unitCount)));
  const places: number[] = [];
  const units = new Int32Array(rows.length * shareCount);
  const shares = new Float32Array(rows.length * shareCount);
  for (const [row, { parts }] of rows.entries()) {
    let share = row * shareCount;
    for (const { weight, adapter } of parts) {
      for (const place of placesOf(adapter)) {
        const unit = place - range.first;
        const list = served[unit] as number[];
        places.push(unit, list.length);
        units[share] = unit;
        shares[share++] = weight;
        list.push(row);
      }
    }
    // padding counts 0 times, and 0 · NaN is NaN: a row whose numbers overflow must reach nobody but itself
    const own = places.slice(-2);
    for (; share < (row + 1) * shareCount; share++) {
      places.push(...own);
      units[share] = own[0] as number;
    }
  }
  const width = paddedRows(Math.max(...served.map(({ length }) => length)), threadCount);
  const members = new Int32Array(range.count * width);
  for (const [unit, list] of served.entries()) members.set(list, unit * width);
  return {
    [names.rows]: intTensor(members, [range.count, width]),
    [names.places]: longTensor(places, [rows.length, shareCount, 2]),
    [names.shares]: floatTensor(shares, [rows.length, 1, shareCount]),
    [names.units]: intTensor(units, [rows.length, shareCount]),
  };
}
