/** What LoRA's dropout drops: a pure function of seed, step, batch and module. */
import type { LinearModule } from '../../runtime/models/linear-module.ts';
import type { DropoutMasks } from '../graph/training-graph.ts';
import { randomWords } from '../random-bits.ts';

const WORDS = 2 ** 32;

/** `batch` counts from 0 over all steps. What is kept is multiplied by 1 / (1 - dropout), as in PyTorch. */
export function dropoutMasks(
  adapted: readonly LinearModule[],
  { seed, dropout, batch }: { readonly seed: number; readonly dropout: number; readonly batch: number },
): DropoutMasks {
  const streams = new Map(adapted.map(({ path }, stream) => [path, stream]));
  const kept = 1 / (1 - dropout);
  const threshold = dropout * WORDS;
  return (module, length) => {
    const words = randomWords(seed, 'dropout', { stream: streams.get(module) ?? 0, place: batch, length });
    return Float32Array.from(words, (word) => (word < threshold ? 0 : kept));
  };
}
