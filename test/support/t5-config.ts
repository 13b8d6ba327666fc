/** The config of a T5, for tests that read what no other family has. */
import assert from 'node:assert/strict';
import type { T5Config } from '../../src/runtime/models/model-config.ts';
import { type OtherConfigs, parseConfig } from '../../src/runtime/models/parse-config.ts';

export function parseT5Config(json: Readonly<Record<string, unknown>>, others?: OtherConfigs): T5Config {
  const config = parseConfig(json, others);
  assert.equal(config.family, 't5');
  return config;
}
