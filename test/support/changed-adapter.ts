/** A good PEFT folder and what a test changes about it. */
import assert from 'node:assert/strict';
import { readdir, readlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { ErrorCode } from '../../src/runtime/errors.ts';
import { parseConfig } from '../../src/runtime/models/parse-config.ts';
import { type LoadedAdapter, readAdapter } from '../../src/runtime/peft/read-adapter.ts';
import { encodeSafetensors, type TensorToWrite } from '../../src/storage/safetensors.ts';
import { refuses } from './refuses.ts';
import { type TinyAdapterOptions, writeTinyAdapter } from './tiny-adapter.ts';
import { type TinyModel, writeTinyModel } from './tiny-model.ts';

export const WEIGHTS = 'adapter_model.safetensors';
export const PREFIX = 'base_model.model.';
export const Q = `${PREFIX}encoder.block.0.layer.0.SelfAttention.q`;

export const DORA: TinyAdapterOptions = { dora: true };
export const HEAD: TinyAdapterOptions = { head: true };
export const BAD = 'INVALID_ADAPTER';
export const UNFIT = 'INCOMPATIBLE_ADAPTER';

export interface Good {
  readonly folder: string;
  readonly model: TinyModel;
  readonly tensors: Map<string, TensorToWrite>;
}

export type Change = (good: Good) => unknown;

export async function writeGood(t: TestContext, options: TinyAdapterOptions = {}): Promise<Good> {
  const model = await writeTinyModel(t, options.model);
  const { folder, tensors } = await writeTinyAdapter(model.parent, 'adapter', options);
  return { folder, model, tensors: new Map(tensors) };
}

export async function readGood({ folder, model }: Good, maxRank = 64): Promise<LoadedAdapter> {
  return readAdapter(folder, { modelFolder: model.folder, config: parseConfig(model.config) }, { maxRank });
}

/** Changes the tensors, then writes them. */
export function tensors(change: (tensors: Map<string, TensorToWrite>, good: Good) => void): Change {
  return async (good) => {
    change(good.tensors, good);
    await writeFile(join(good.folder, WEIGHTS), encodeSafetensors(good.tensors));
  };
}

export function zeros(...shape: readonly number[]): TensorToWrite {
  return { shape, data: new Float32Array(shape.reduce((product, size) => product * size, 1)).fill(0.5) };
}

export function renamed(from: string, to: string): Change {
  return tensors((all) => {
    all.set(to, all.get(from) as TensorToWrite);
    all.delete(from);
  });
}

export const put = (name: string, tensor: TensorToWrite): Change => tensors((all) => all.set(name, tensor));
export const without = (name: string): Change => tensors((all) => all.delete(name));

export function value(name: string, index: number, written: number): Change {
  return tensors((all) => {
    const tensor = all.get(name) as TensorToWrite;
    const data = tensor.data.slice();
    data[index] = written;
    all.set(name, { ...tensor, data });
  });
}

/** Where the files lead that this process holds open; nothing where the system does not say. */
async function openFiles(): Promise<readonly string[]> {
  const descriptors = await readdir('/proc/self/fd').catch(() => []);
  const paths = await Promise.all(descriptors.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')));
  return paths.filter((path) => path.includes('.safetensors') || path.endsWith('.json')).sort();
}

/** What is changed about a good folder, and with which words it is refused then. */
export type BadCase = readonly [string, Change, ErrorCode, RegExp, TinyAdapterOptions?];

/** A test for each: it is refused, and nothing of it stays open. */
export function testRefusals(cases: readonly BadCase[]): void {
  for (const [what, change, code, message, options] of cases) {
    test(`refused: ${what}`, async (t) => {
      const good = await writeGood(t, options);
      await readGood(good);
      await change(good);
      const before = await openFiles();
      await assert.rejects(readGood(good), refuses(code, message));
      assert.deepEqual(await openFiles(), before, 'a refused file stays open');
    });
  }
}
