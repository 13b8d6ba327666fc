/** `gistql doctor` says what it found and what it measured; wrong settings are refused before anything is measured. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { probeCuda } from '../../src/runtime/device/probe-cuda.ts';
import { finestExactRange } from '../../src/runtime/quantization/exact-range.ts';
import { describeRange } from '../../src/runtime/quantization/quantize-rows.ts';
import { repositoryPath } from '../support/oracle.ts';

async function doctor(environment: Readonly<Record<string, string>>) {
  const child = spawn(process.execPath, ['--import', 'tsx', repositoryPath('src/cli.ts'), 'doctor'], {
    env: { PATH: process.env.PATH, LD_LIBRARY_PATH: process.env.LD_LIBRARY_PATH, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  return { out, err, code };
}

test('the machine, the weights it multiplies exactly, and measured rates', async () => {
  const { out, code } = await doctor({ GISTQL_THREADS: '1' });
  assert.equal(code, 0);
  assert.match(out, /^GistQL +\d+\.\d+\.\d+, Node \d+.*, onnxruntime-node \d+/m);
  assert.match(out, /^features +\S/m);
  assert.match(out, /^threads +1 /m);
  assert.ok(out.includes(describeRange(await finestExactRange(1))), out);
  const obstacle = await probeCuda();
  const device =
    obstacle === undefined ? 'CUDA (GISTQL_DEVICE=auto): ' : `CPU (GISTQL_DEVICE=auto): ${obstacle.missing}`;
  assert.ok(out.includes(`\ndevice         ${device}`), out);
  const [, memory] = /is read at ([\d.]+) · 10⁹ bytes a second/.exec(out) ?? [];
  assert.ok(Number(memory) > 0);
  const rows = [...out.matchAll(/^\| *(\d+) \| *(\d+) \| *(\d+) \| *([\d.]+) \|$/gm)].map((found) =>
    found.slice(1).map(Number),
  );
  assert.deepEqual(
    rows.map(([count]) => count),
    [1, 8, 32, 256],
  );
  for (const rates of rows) assert.ok(rates.every((rate) => rate > 0));
});

test('the device is told for what was asked for, and what is asked for in vain ends nothing', async () => {
  const { out: byName } = await doctor({ GISTQL_THREADS: '1', GISTQL_DEVICE: 'cpu' });
  assert.match(byName, /^device +CPU \(GISTQL_DEVICE=cpu\): GISTQL_DEVICE asks for it$/m);
  const obstacle = await probeCuda();
  const { out, code } = await doctor({ GISTQL_THREADS: '1', GISTQL_DEVICE: 'cuda' });
  assert.equal(code, 0);
  const told =
    obstacle === undefined
      ? 'CUDA (GISTQL_DEVICE=cuda)'
      : `Expected CUDA to work here, since GISTQL_DEVICE is cuda; ${obstacle.missing}`;
  assert.ok(out.includes(`\ndevice         ${told}`), out);
});

test('a setting that is wrong is named', async () => {
  const { out, err, code } = await doctor({ GISTQL_THREADS: 'many' });
  assert.notEqual(code, 0);
  assert.equal(out, '');
  assert.match(err, /GISTQL_THREADS/);
});
