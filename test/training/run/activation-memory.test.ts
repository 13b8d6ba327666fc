/** What a step keeps for its way back, counted in the graphs, is within what is reckoned with beforehand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inferDims } from '../../../src/runtime/graph/value-dims.ts';
import type { ModelConfig } from '../../../src/runtime/models/model-config.ts';
import { defaultLoraTargets } from '../../../src/runtime/models/model-modules.ts';
import { parseConfig } from '../../../src/runtime/models/parse-config.ts';
import { type TrainingGraphShape, writeTrainingGraph } from '../../../src/training/graph/build-training-graph.ts';
import type { TrainingMethod } from '../../../src/training/graph/training-method.ts';
import { selectLoraModules } from '../../../src/training/lora-modules.ts';
import { activationBytes, type BatchSize, isRecomputed } from '../../../src/training/run/activation-memory.ts';
import { tinyGpt2, tinyLlama } from '../../support/tiny-decoder-only.ts';
import { tinyConfig } from '../../support/tiny-model.ts';

const MODELS = {
  'T5, relu': tinyConfig(),
  'T5, gated': tinyConfig({ gated: true }),
  'GPT-2': tinyGpt2,
  Llama: tinyLlama,
};
const SIZES: readonly BatchSize[] = [
  { count: 2, inputLength: 100, targetLength: 30 },
  { count: 8, inputLength: 400, targetLength: 60 },
];
/** What comes and goes on the way is reckoned with, too. */
const MOST_TIMES_KEPT = 3.5;

function loraOf(config: ModelConfig): TrainingMethod {
  const modules = new Set(selectLoraModules(config, defaultLoraTargets[config.family]).map(({ path }) => path));
  return { method: 'lora', modules, rank: 4, scaling: 1 };
}

/** Bytes of the values that the way back reads of the way forward, but for those of the loss. */
function keptBytes(shape: Omit<TrainingGraphShape, 'tied'>, { count, inputLength, targetLength }: BatchSize): number {
  const { nodes, inputs, initializers } = writeTrainingGraph({ ...shape, tied: true }).graph.recorded;
  const dims = inferDims({ nodes, inputs, initializers });
  const first = nodes.findIndex(({ name }) => name.startsWith('gradient/'));
  const makers = new Map(
    nodes.slice(0, first).flatMap((node) => node.outputs.map((output) => [output, node] as const)),
  );
  /** A value of another shape is the same memory. */
  const origin = (name: string): string => {
    const maker = makers.get(name);
    return maker?.opType === 'Reshape' ? origin(maker.inputs[0] as string) : name;
  };
  const readers = nodes.slice(first).filter(({ opType }) => opType !== 'Shape' && opType !== 'Size');
  const read = new Set(readers.flatMap((node) => node.inputs.map(origin)));
  const sizes: Record<string, number> = {
    batch: count,
    source: inputLength,
    target: targetLength,
    tokens: inputLength,
  };
  let bytes = 0;
  for (const name of read) {
    if (!makers.has(name) || name.startsWith('loss/')) continue;
    const own = (dims.get(name) ?? []).map((size) => (typeof size === 'number' ? size : sizes[size]));
    assert.ok(own.length > 0 && own.every((size) => size !== undefined), `the size of ${name} is known`);
    bytes += 4 * own.reduce((product: number, size) => product * (size as number), 1);
  }
  return bytes;
}

for (const [name, json] of Object.entries(MODELS)) {
  const config = parseConfig(json);

  test(`${name}: no less is reckoned with than is kept, and not much more`, () => {
    for (const method of [{ method: 'full' } as const, loraOf(config)]) {
      for (const size of SIZES) {
        const [kept, reckoned] = [keptBytes({ config, method }, size), activationBytes(config, size)];
        assert.ok(kept <= reckoned, `${method.method}: ${kept} bytes are kept, ${reckoned} reckoned with`);
        assert.ok(
          reckoned <= MOST_TIMES_KEPT * kept,
          `${method.method}: ${kept} bytes are kept, ${reckoned} reckoned with`,
        );
      }
    }
  });

  test(`${name}: of blocks that are computed again little is kept, however many there are`, () => {
    const [size] = SIZES as [BatchSize];
    const deep = parseConfig({ ...json, num_layers: 8, n_layer: 8, num_hidden_layers: 8, num_decoder_layers: 8 });
    const method = { method: 'full' } as const;
    const kept = keptBytes({ config: deep, method }, size);
    const left = keptBytes({ config: deep, method, recompute: true }, size);
    assert.ok(left < kept / 4, `${left} of ${kept} bytes are left`);
  });
}

test('blocks are computed again as soon as their values take a quarter of the memory', () => {
  const config = parseConfig(tinyGpt2);
  const [size] = SIZES as [BatchSize];
  const memory = 4 * activationBytes(config, size);
  assert.equal(isRecomputed(config, size, memory), false);
  assert.equal(isRecomputed(config, size, memory - 4), true);
  assert.equal(isRecomputed(config, { ...size, count: size.count + 1 }, memory), true);
});
