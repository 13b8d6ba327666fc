/** What is asked for, what the machine can do, and what comes of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseDevice, keepFloat32 } from '../../../src/runtime/device/device-choice.ts';

const obstacle = { missing: 'libcublasLt.so.13 cannot be found', advice: 'install the libraries of CUDA 13' };
const works = () => Promise.resolve(undefined);
const fails = () => Promise.resolve(obstacle);

test('cpu is the CPU, and nothing is tried', async () => {
  const never = () => Promise.reject(new Error('tried'));
  assert.deepEqual(await chooseDevice('cpu', never), { device: 'cpu', reason: 'GISTQL_DEVICE asks for it' });
});

test('auto is CUDA where it works, else the CPU with what is missing and what to do', async () => {
  assert.deepEqual(await chooseDevice('auto', works), { device: 'cuda', reason: 'a trial of it ran' });
  const { missing, advice } = obstacle;
  assert.deepEqual(await chooseDevice('auto', fails), { device: 'cpu', reason: missing, advice });
});

test('cuda is CUDA, or an error that says what is missing and what to do', async () => {
  assert.deepEqual(await chooseDevice('cuda', works), { device: 'cuda', reason: 'GISTQL_DEVICE asks for it' });
  await assert.rejects(chooseDevice('cuda', fails), {
    message:
      'Expected CUDA to work here, since GISTQL_DEVICE is cuda; libcublasLt.so.13 cannot be found. For CUDA, install the libraries of CUDA 13; without it, set GISTQL_DEVICE=cpu.',
  });
});

test('float32 is float32 unless the user says otherwise', () => {
  const environment: NodeJS.ProcessEnv = {};
  keepFloat32(environment);
  assert.equal(environment.NVIDIA_TF32_OVERRIDE, '0');
  const asked: NodeJS.ProcessEnv = { NVIDIA_TF32_OVERRIDE: '1' };
  keepFloat32(asked);
  assert.equal(asked.NVIDIA_TF32_OVERRIDE, '1');
});
