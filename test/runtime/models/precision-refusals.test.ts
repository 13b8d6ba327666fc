/** Precisions that a device has no kernels for are refused before a file is read. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ModelRegistry } from '../../../src/runtime/models/model-registry.ts';
import type { Device } from '../../../src/runtime/models/served-model.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { refuses } from '../../support/refuses.ts';
import { noAdapters } from '../../support/scripted-adapters.ts';

function registryOn(device: Device): ModelRegistry {
  return new ModelRegistry({
    directories: { embedded: '/nowhere', models: '/nowhere' },
    device,
    threadCount: 1,
    maxInputTokens: 64,
    scheduler: { maxRows: 8, prefillTokens: 512, timeSliceSteps: 512 },
    engine: { limits: { maxPending: 10, requestTimeoutMs: 60_000 } },
    adapters: noAdapters,
    clock: new ManualClock(),
  });
}

const cases = [
  { device: 'cpu', precision: 'fp16', message: /FP32 or INT8 on CPU, FP16 came\. .*GISTQL_DEVICE=cuda/ },
  { device: 'cuda', precision: 'int8', message: /FP32 or FP16 on CUDA, INT8 came\. .*GISTQL_DEVICE=cpu/ },
] as const;

for (const { device, precision, message } of cases) {
  test(`${precision} on ${device} is refused, and the message says what to choose`, async () => {
    const registry = registryOn(device);
    const loading = registry.load({ id: 'tiny', source: 'dir:tiny', precision });
    await assert.rejects(loading, (error) => {
      assert.deepEqual((error as { details?: unknown }).details, { argument: 'precision' });
      return refuses('UNSUPPORTED_ARGUMENT', message)(error);
    });
    // the id is free, and what is left to refuse is the source
    await assert.rejects(registry.load({ id: 'tiny', source: 'dir:tiny' }), { code: 'NOT_FOUND' });
  });
}
