/** An 8-bit matrix says how far it is from its own, and its weights stay where the processor's sums are exact. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { quantizeRows, roundingNorms, WEIGHT_RANGES } from '../../../src/runtime/quantization/quantize-rows.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const SEED = 20261125;

/** Rows of many kinds: spread evenly, of one large weight, of two neighbours that are large, of zeros. */
function makeHead(vocabularySize: number, size: number): Float32Array {
  const next = seededNumbers(SEED);
  const head = Float32Array.from({ length: vocabularySize * size }, () => next() - 0.5);
  for (let id = 0; id < vocabularySize; id++) {
    const start = id * size;
    if (id % 4 === 1) head[start + (id % size)] = 40 * (next() - 0.5);
    if (id % 4 === 2) head.fill(id % 8 === 2 ? 3 : -3, start + 2, start + 4);
    if (id % 4 === 3 && id % 16 === 3) head.fill(0, start, start + size);
  }
  return head;
}

for (const [index, range] of WEIGHT_RANGES.entries()) {
  for (const [vocabularySize, size] of [
    [130, 48],
    [65, 7],
  ] as const) {
    test(`range ${index}, rows of ${size}: weights stay in it, norms and errors are those of the rows`, () => {
      const head = makeHead(vocabularySize, size);
      const quantized = quantizeRows(head, size, range);
      const { weights, scales } = quantized;
      const { errorNorms, norms } = roundingNorms(head, size, quantized);
      for (let id = 0; id < vocabularySize; id++) {
        const rounded = Array.from({ length: size }, (_, column) => weights[column * vocabularySize + id] as number);
        const row = Array.from(head.subarray(id * size, (id + 1) * size));
        for (const [column, weight] of rounded.entries()) {
          assert.ok(Math.abs(weight) <= range.single);
          const neighbour = rounded[column ^ 1] ?? 0;
          assert.ok(Math.abs(weight) + Math.abs(neighbour) <= range.pair + 1, `id ${id}, column ${column}`);
        }
        const scale = scales[id] as number;
        const error = Math.hypot(...row.map((weight, column) => weight - (rounded[column] as number) * scale));
        const norm = Math.max(Math.hypot(...row), Math.hypot(...rounded.map((weight) => weight * scale)));
        assert.ok(Math.abs((errorNorms[id] as number) - error) <= 1e-6 * norm, `id ${id}`);
        assert.ok(Math.abs((norms[id] as number) - norm) <= 1e-6 * norm, `id ${id}`);
        // no weight is farther from its own than half a unit
        assert.ok(error <= (scale / 2) * Math.sqrt(size) * (1 + 1e-6), `id ${id}`);
      }
    });
  }
}
