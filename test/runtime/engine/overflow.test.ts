/** A model whose numbers overflow in the encoder says so in either precision, and answers nobody. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { RuntimeError } from '../../../src/runtime/errors.ts';
import { encodeSafetensors } from '../../../src/storage/safetensors.ts';
import { EngineHarness, loadRunner } from '../../support/engine-harness.ts';
import { writeTinyModel } from '../../support/tiny-model.ts';

const MATRIX = 'encoder.block.1.layer.1.DenseReluDense.wo.weight';
/** Finite, but not what comes of it. */
const HUGE = 3e38;

for (const precision of ['fp32', 'int8'] as const) {
  test(`one channel of the encoder's states overflows: ${precision}`, async (t) => {
    const model = await writeTinyModel(t, { gated: true, config: { d_model: 64, d_kv: 16, d_ff: 64 } });
    const matrix = model.tensors.get(MATRIX);
    assert.ok(matrix !== undefined);
    const [, width = 0] = matrix.shape;
    const row = 40;
    const data = matrix.data.slice().fill(HUGE, row * width, (row + 1) * width);
    const tensors = new Map([...model.tensors, [MATRIX, { ...matrix, data }]]);
    await writeFile(join(model.folder, 'model.safetensors'), encodeSafetensors(tensors));
    const { runner } = await loadRunner(model.parent, model.name, { precision });
    t.after(() => runner.dispose());
    const harness = new EngineHarness(runner);
    harness.submit({ id: 'asked', promptTokenIds: [5, 17, 40, 1], options: { maxNewTokens: 8 } });
    await harness.drain({ mayFail: true });
    const failure = harness.failures.get('asked');
    assert.ok(failure instanceof RuntimeError, JSON.stringify(harness.outputs.get('asked')));
    assert.equal(failure.code, 'INVALID_MODEL');
  });
}
