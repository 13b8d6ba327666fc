/** CUDA as it is on the machine that runs the test. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { probeCuda } from '../../../src/runtime/device/probe-cuda.ts';
import { repositoryPath } from '../../support/oracle.ts';

const provider = 'node_modules/onnxruntime-node/bin/napi-v6/linux/x64/libonnxruntime_providers_shared.so';

test('without the provider its first library is named; with it CUDA works, or something else is missing', async () => {
  const obstacle = await probeCuda();
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    assert.match(obstacle?.missing ?? '', /^onnxruntime-node has no CUDA provider for \S+, only for linux-x64$/);
  } else if (!existsSync(repositoryPath(provider))) {
    const missing = "libonnxruntime_providers_shared.so is not beside onnxruntime-node's libonnxruntime.so.1";
    assert.equal(obstacle?.missing, missing);
  } else {
    // nothing that is not known by name
    assert.doesNotMatch(obstacle?.missing ?? '', /a trial of CUDA/);
  }
});
