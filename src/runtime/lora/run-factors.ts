/** The factors of one run that serves one request: the encoder's. */
import { type AdaptedModule, LORA_UNIT, loraInput } from '../graph/lora.ts';
import { floatTensor, type TensorValue } from '../tensor.ts';
import type { AdapterCombination } from './adapter-combination.ts';

export class RunFactors {
  private combination: AdapterCombination | undefined;
  private feeds: Readonly<Record<string, TensorValue>> = {};

  constructor(private readonly modules: readonly AdaptedModule[]) {}

  /** The inputs under the graph's names; kept for the next run of the same adapters. */
  of(combination: AdapterCombination): Readonly<Record<string, TensorValue>> {
    if (this.combination !== combination) {
      this.feeds = this.write(combination);
      this.combination = combination;
    }
    return this.feeds;
  }

  /** Lets go of an adapter that no request uses any more. */
  forget(key: string): void {
    if (!this.combination?.has(key)) return;
    this.combination = undefined;
    this.feeds = {};
  }

  private write(combination: AdapterCombination): Record<string, TensorValue> {
    const feeds: Record<string, TensorValue> = {};
    const count = combination.unitCount * LORA_UNIT;
    for (const { path, inSize, outSize, hasGain } of this.modules) {
      const a = new Float32Array(inSize * count);
      const b = new Float32Array(count * outSize);
      combination.write(path, { first: 0, count, a, b });
      feeds[loraInput.a(path)] = floatTensor(a, [1, inSize, count]);
      feeds[loraInput.b(path)] = floatTensor(b, [1, count, outSize]);
      if (!hasGain) continue;
      const gain = new Float32Array(outSize);
      combination.writeGain(path, gain);
      feeds[loraInput.gain(path)] = floatTensor(gain, [1, outSize]);
    }
    return feeds;
  }
}
