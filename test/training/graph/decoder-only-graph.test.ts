/** Training graphs of tiny GPT-2s and Llamas: the loss is that of serving's scores, gradients are its slopes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HEAD_PATH } from '../../../src/runtime/models/linear-module.ts';
import { parseConfig } from '../../../src/runtime/models/parse-config.ts';
import type { TrainingExample } from '../../../src/training/graph/padded-batch.ts';
import type { LoraTraining } from '../../../src/training/graph/training-method.ts';
import { oracleTest, readJsonFile } from '../../support/oracle.ts';
import { tinyDecoderOnlyTensors, tinyGpt2, tinyLlama } from '../../support/tiny-decoder-only.ts';
import {
  addFactors,
  calmer,
  checkBatch,
  checkOtherWays,
  checkSlopes,
  everyModule,
  fixedMasks,
  runOnce,
  type SmallModel,
} from '../../support/training-graphs.ts';
import { oracleModel } from '../../support/training-oracle.ts';

/** Small, so that every slope can be taken. */
const MODELS = {
  'GPT-2': { ...tinyGpt2, vocab_size: 60, n_embd: 8, n_head: 2, n_inner: 10, n_positions: 32 },
  'Llama, grouped heads, biases, an untied head': {
    ...tinyLlama,
    vocab_size: 60,
    hidden_size: 8,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 4,
    intermediate_size: 10,
    attention_bias: true,
    mlp_bias: true,
  },
  'Llama, one head of keys, a tied head': {
    ...tinyLlama,
    vocab_size: 60,
    hidden_size: 8,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 4,
    intermediate_size: 10,
    tie_word_embeddings: true,
  },
};

function small(json: Readonly<Record<string, unknown>>): SmallModel {
  return { config: parseConfig(json), tensors: calmer(tinyDecoderOnlyTensors(json)), threadCount: 1 };
}

for (const [name, json] of Object.entries(MODELS)) {
  test(`${name}: full training, gradients are slopes`, () =>
    checkSlopes({ ...small(json), method: { method: 'full' } }));

  test(`${name}: LoRA on every matrix, with dropout: gradients are slopes`, async () => {
    const model = small(json);
    const modules = everyModule(model.config);
    const method: LoraTraining = { method: 'lora', modules, rank: 2, scaling: 1.5, dropout: true };
    addFactors(model, method);
    await checkSlopes({ ...model, method, labelSmoothing: 0.1 }, fixedMasks());
  });

  test(`${name}: a batch is the sum of its examples: padding has no part in it`, () =>
    checkBatch({ ...small(json), method: { method: 'full' } }));

  test(`${name}: recomputing, and taking the loss in chunks, change nothing but rounding`, () =>
    checkOtherWays({ ...small(json), method: { method: 'full' }, labelSmoothing: 0.1 }));
}

test('LoRA has gradients of its factors only, and no head is needed beside a tied one', async () => {
  const model = small(MODELS['GPT-2']);
  const modules = new Set([...everyModule(model.config)].filter((path) => path !== HEAD_PATH));
  const method: LoraTraining = { method: 'lora', modules, rank: 2, scaling: 1 };
  addFactors(model, method);
  const { gradients } = await runOnce({ ...model, method });
  assert.equal(gradients.size, 2 * modules.size);
  assert.ok([...gradients.keys()].every((name) => /\.lora_[AB]\.weight$/.test(name)));
});

interface ForwardRow {
  readonly inputIds: readonly number[];
  readonly logits: readonly (readonly number[])[];
}

/** Σ -log softmax of the label's score, in float64. */
function lossOf({ inputIds, logits }: ForwardRow, promptLength: number): number {
  let sum = 0;
  for (let place = promptLength; place < inputIds.length; place++) {
    const scores = logits[place - 1] as readonly number[];
    const highest = Math.max(...scores);
    const logSum = highest + Math.log(scores.reduce((total, score) => total + Math.exp(score - highest), 0));
    sum += logSum - (scores[inputIds[place] as number] as number);
  }
  return sum;
}

for (const name of ['gpt2', 'llama-gqa', 'llama-tied-rope3']) {
  oracleTest(`${name}: the loss is that of transformers' scores`, 'oracle/models', async (root) => {
    const folder = `${root}/${name}`;
    const rows = readJsonFile<readonly ForwardRow[]>(`${folder}/expected/forward.json`);
    const long = rows.filter(({ inputIds }) => inputIds.length > 1);
    assert.ok(long.length > 0);
    const prompts = long.map(({ inputIds }) => Math.ceil(inputIds.length / 2));
    const examples = long.map(
      ({ inputIds }, row): TrainingExample => ({
        inputIds: inputIds.slice(0, prompts[row]),
        labels: inputIds.slice(prompts[row]),
      }),
    );
    const { lossSum } = await runOnce({ ...(await oracleModel(folder)), threadCount: 1 }, examples);
    const wanted = long.reduce((sum, row, index) => sum + lossOf(row, prompts[index] as number), 0);
    assert.ok(Math.abs(lossSum / wanted - 1) <= 1e-5, `${lossSum}, expected ${wanted}`);
  });
}
