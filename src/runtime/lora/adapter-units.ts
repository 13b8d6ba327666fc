/** The factors of one adapter, cut into units of LORA_UNIT ranks: unit n holds ranks 16 n … 16 n + 15 of every module. */
import { type AdaptedModule, LORA_UNIT } from '../graph/lora.ts';
import type { LoraFactors, LoraWeights } from './lora-weights.ts';

/** Where a unit is written. */
interface UnitTarget {
  /** In rows of `stride` numbers, of which the first LORA_UNIT are the unit's. */
  readonly a: Float32Array;
  readonly b: Float32Array;
  /** Default: LORA_UNIT. */
  readonly stride?: number;
}

/** Bytes of a unit of all modules. */
export function unitBytesOf(modules: readonly AdaptedModule[]): number {
  const floats = modules.reduce((sum, { inSize, outSize }) => sum + (inSize + outSize) * LORA_UNIT, 0);
  return floats * Float32Array.BYTES_PER_ELEMENT;
}

const NOTHING = new Float32Array(0);

/** Stands for one state of an adapter: what replaces it under its name is another object. */
export class AdapterUnits {
  /** No adapter: one unit of zeros. */
  static readonly none = new AdapterUnits({ factors: [], head: undefined });

  /** As many as its widest module takes; at least one. */
  readonly unitCount: number;
  /** [vocabulary, hiddenSize] in place of the model's output head. */
  readonly head: Float32Array | undefined;
  private readonly factors: ReadonlyMap<string, LoraFactors>;

  constructor({ factors, head }: LoraWeights) {
    this.factors = new Map(factors.map((one) => [one.module, one]));
    this.unitCount = Math.ceil(Math.max(1, ...factors.map(({ rank }) => rank)) / LORA_UNIT);
    this.head = head;
  }

  adapts(module: string): boolean {
    return this.factors.has(module);
  }

  /** Writes a unit of a module: a [in, LORA_UNIT], b [LORA_UNIT, out]; ranks that it does not have are zeros. */
  write(module: string, unit: number, { a, b, stride = LORA_UNIT }: UnitTarget): void {
    const own = this.factors.get(module);
    const first = unit * LORA_UNIT;
    const width = own === undefined ? 0 : Math.min(LORA_UNIT, own.rank - first);
    const outSize = b.length / LORA_UNIT;
    b.fill(0, Math.max(0, width) * outSize);
    if (own === undefined || width <= 0) {
      spread(a, NOTHING, { width: 0, stride });
      return;
    }
    b.set(own.b.subarray(first * outSize, (first + width) * outSize));
    const inSize = own.a.length / own.rank;
    const unitA = own.a.subarray(first * inSize, (first + width) * inSize);
    if (width === stride) a.set(unitA);
    else spread(a, unitA, { width, stride });
  }

  /** [out]: by how much more than once the rows of a module's own matrix count; undefined: they count once. */
  gainChange(module: string): Float32Array | undefined {
    return this.factors.get(module)?.gainChange;
  }
}

/** Copies rows of `width` numbers to rows of LORA_UNIT that begin `stride` numbers apart; the rest of them are zeros. */
function spread(
  target: Float32Array,
  source: Float32Array,
  { width, stride }: { readonly width: number; readonly stride: number },
): void {
  let read = 0;
  for (let row = 0; row < target.length; row += stride) {
    for (let place = row; place < row + width; place++) target[place] = source[read++] as number;
    target.fill(0, row + width, row + LORA_UNIT);
  }
}
