/** A tiny T5 and runners over it, for tests of what a worker does with adapters. */
import type { TestContext } from 'node:test';
import type { ModelRunner } from '../../src/runtime/engine/model-runner.ts';
import { type AdapterMemory, defaultAdapterMemory } from '../../src/runtime/lora/adapter-memory.ts';
import { unitBytesOf } from '../../src/runtime/lora/adapter-units.ts';
import { targetsOf } from '../../src/runtime/lora/lora-targets.ts';
import type { LoraWeights } from '../../src/runtime/lora/lora-weights.ts';
import { type LoadOptions, loadRunner } from '../../src/runtime/models/load-runner.ts';
import type { ModelConfig } from '../../src/runtime/models/model-config.ts';
import { readModelFiles } from '../../src/runtime/models/model-files.ts';
import { linearModules } from '../../src/runtime/models/model-modules.ts';
import { type TinyModelOptions, writeTinyModel } from './tiny-model.ts';

export interface OpenModel {
  readonly config: ModelConfig;
  /** Returns a runner that knows `adapters`. */
  load(
    adapters: ReadonlyMap<string, LoraWeights>,
    changes?: Partial<Pick<LoadOptions, 'threadCount' | 'screened' | 'memory'>>,
  ): Promise<ModelRunner>;
}

export async function openTinyModel(t: TestContext, options: TinyModelOptions): Promise<OpenModel> {
  const { parent, name } = await writeTinyModel(t, options);
  const { folder: modelFolder, config } = await readModelFiles(`dir:${name}`, { embedded: parent, models: parent });
  return {
    config,
    load: async (adapters, changes = {}) => {
      const targets = targetsOf(adapters.values());
      const { runner } = await loadRunner({ modelFolder, config, targets, threadCount: 2, ...changes }, () => {});
      t.after(() => runner.dispose());
      for (const [key, weights] of adapters) runner.addAdapter(key, weights);
      return runner;
    },
  };
}

/** Memory for so many units of all the decoder's matrices that `adapters` change, one of them a piece. */
export function memoryOf(
  config: ModelConfig,
  adapters: ReadonlyMap<string, LoraWeights>,
  unitCount: number,
): AdapterMemory {
  const { modules, gains } = targetsOf(adapters.values());
  const adapted = linearModules(config).filter(({ path }) => modules.has(path) && path.startsWith('decoder.'));
  const unitBytes = unitBytesOf(adapted.map((module) => ({ ...module, hasGain: gains.has(module.path) })));
  return { ...defaultAdapterMemory, stackBytes: unitCount * unitBytes, pieceBytes: unitBytes };
}
