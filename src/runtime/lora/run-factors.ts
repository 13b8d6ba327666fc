/** The factors of runs that serve one request each, the encoder's and the head's, in memory that sessions read in place. */

import { type AdaptedModule, LORA_UNIT, loraInput } from '../graph/lora.ts';
import { floatTensor, type TensorValue } from '../tensor.ts';
import type { AdapterCombination } from './adapter-combination.ts';
import { type AdapterUnits, unitBytesOf } from './adapter-units.ts';
import { CombinationCache } from './combination-cache.ts';

interface Factors {
  readonly byteLength: number;
  readonly feeds: Readonly<Record<string, TensorValue>>;
  /** Units that are not written yet: the writes that do it. */
  readonly missing: (() => void)[];
}

export class RunFactors {
  private readonly cache: CombinationCache<Factors>;
  /** Bytes of a unit of all modules. */
  private readonly unitBytes: number;

  /** `keptBytes`: of factors that stay for the next run of the same adapters, those of the run at hand included. */
  constructor(
    private readonly modules: readonly AdaptedModule[],
    keptBytes: number,
  ) {
    this.unitBytes = unitBytesOf(modules);
    this.cache = new CombinationCache(keptBytes, (combination) => this.allocate(combination));
  }

  /** Bytes of all that is kept. */
  get byteLength(): number {
    return this.cache.byteLength;
  }

  /** Writes one unit of what a run of `combination` will need; returns its bytes, 0 when nothing is missing. */
  prepare(combination: AdapterCombination): number {
    const write = this.cache.of(combination).missing.pop();
    write?.();
    return write === undefined ? 0 : this.unitBytes;
  }

  /** The inputs under the graph's names. */
  of(combination: AdapterCombination): Readonly<Record<string, TensorValue>> {
    const { feeds, missing } = this.cache.of(combination);
    for (const write of missing.splice(0)) write();
    return feeds;
  }

  /** Lets go of what was used longest ago and does not fit; what runs of `needed` take stays. */
  evict(needed: ReadonlySet<AdapterCombination>): void {
    this.cache.evict(needed);
  }

  /** Lets go of an adapter that no request uses any more. */
  forget(adapter: AdapterUnits): void {
    this.cache.forget(adapter);
  }

  private allocate(combination: AdapterCombination): Factors {
    const feeds: Record<string, TensorValue> = {};
    const { unitCount } = combination;
    const planes = this.modules.map(({ path, inSize, outSize, hasGain }) => {
      const a = new Float32Array(unitCount * inSize * LORA_UNIT);
      const b = new Float32Array(unitCount * LORA_UNIT * outSize);
      feeds[loraInput.a(path)] = floatTensor(a, [1, inSize, unitCount * LORA_UNIT]);
      feeds[loraInput.b(path)] = floatTensor(b, [1, unitCount * LORA_UNIT, outSize]);
      if (hasGain) {
        const gain = new Float32Array(outSize);
        combination.writeGain(path, gain);
        feeds[loraInput.gain(path)] = floatTensor(gain, [1, outSize]);
      }
      return { path, a, b };
    });
    const stride = unitCount * LORA_UNIT;
    const missing: (() => void)[] = [];
    let place = 0;
    for (const { weight, adapter } of combination.parts) {
      for (let unit = 0; unit < adapter.unitCount; unit++, place++) {
        const at = place;
        missing.push(() => {
          for (const { path, a, b } of planes) {
            const size = b.length / unitCount;
            const own = b.subarray(at * size, (at + 1) * size);
            adapter.write(path, unit, { a: a.subarray(at * LORA_UNIT), b: own, stride });
            if (weight !== 1) scale(own, weight);
          }
        });
      }
    }
    return { byteLength: unitCount * this.unitBytes, feeds, missing };
  }
}

function scale(values: Float32Array, factor: number): void {
  for (let index = 0; index < values.length; index++) values[index] = (values[index] as number) * factor;
}
