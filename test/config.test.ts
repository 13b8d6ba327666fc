import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readConfig } from '../src/config.ts';

test('the device is auto, cpu or cuda, and auto without a word', () => {
  assert.equal(readConfig({}).device, 'auto');
  assert.equal(readConfig({ GISTQL_DEVICE: '' }).device, 'auto');
  for (const device of ['auto', 'cpu', 'cuda']) assert.equal(readConfig({ GISTQL_DEVICE: device }).device, device);
});

test('what is none of the values of a setting is refused with all of them', () => {
  const refused = (name: string, value: string, values: string) =>
    assert.throws(() => readConfig({ [name]: value }), {
      message: `Expected ${name} to be one of ${values}, "${value}" came.`,
    });
  refused('GISTQL_DEVICE', 'gpu', 'auto, cpu, cuda');
  refused('GISTQL_DEVICE', 'CUDA', 'auto, cpu, cuda');
  refused('GISTQL_LOG_LEVEL', 'loud', 'trace, debug, info, warn, error, fatal, silent');
});
