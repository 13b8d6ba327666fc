/** PyTorch's transformers and PEFT load what a training writes, and compute the same loss with it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { type TestContext, test } from 'node:test';
import { TrainingGraph } from '../../../src/training/graph/training-graph.ts';
import { openTrainedModel } from '../../../src/training/run/trained-model.ts';
import { train } from '../../../src/training/run/trainer.ts';
import { readTensors } from '../../support/read-tensors.ts';
import { tinyGpt2, tinyLlama } from '../../support/tiny-decoder-only.ts';
import { type TinyTraining, tinyDecoderOnlyTraining, tinyTraining } from '../../support/tiny-training.ts';

/** A Python that has the libraries, where the machine's own has not. */
const python = process.env.GISTQL_TEST_PYTHON ?? 'python3';
const found = spawnSync(python, ['-c', 'import peft, transformers, torch'], { stdio: 'ignore' });
const skip = found.status === 0 ? false : 'needs a Python with torch, transformers and peft (GISTQL_TEST_PYTHON)';

const EXAMPLE = { inputIds: [5, 9, 30, 11, 1], labels: [5, 9, 30, 1] };

const SCRIPT = `
import json, sys, torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM
model_folder, adapter_folder, example = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
reads_apart = AutoConfig.from_pretrained(model_folder).is_encoder_decoder
family = AutoModelForSeq2SeqLM if reads_apart else AutoModelForCausalLM
model = family.from_pretrained(model_folder, dtype=torch.float32)
if adapter_folder:
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, adapter_folder)
model.eval()
source, labels = example["inputIds"], example["labels"]
if not reads_apart:
    source, labels = source + labels, [-100] * len(source) + labels
with torch.no_grad():
    print(model(input_ids=torch.tensor([source]), labels=torch.tensor([labels])).loss.item())
`;

function lossInPython(modelFolder: string, adapterFolder: string): number {
  const args = ['-c', SCRIPT, modelFolder, adapterFolder, JSON.stringify(EXAMPLE)];
  const { status, stdout, stderr } = spawnSync(python, args, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  return Number(stdout);
}

type Changes = Parameters<typeof tinyTraining>[1];

const FAMILIES: Readonly<Record<string, (t: TestContext, changes: Changes) => Promise<TinyTraining>>> = {
  T5: (t, changes) => tinyTraining(t, changes, { gated: true }),
  'GPT-2': (t, changes) => tinyDecoderOnlyTraining(t, tinyGpt2, changes),
  Llama: (t, changes) => tinyDecoderOnlyTraining(t, tinyLlama, changes),
};

async function lossHere({ plan, places }: TinyTraining): Promise<number> {
  const { config, tensors, method } = await openTrainedModel(plan, places);
  const file = plan.lora === null ? 'model' : 'adapter_model';
  const trained = await readTensors(`${places.output}/${file}.safetensors`);
  const graph = await TrainingGraph.create({
    config,
    tensors: new Map([...tensors, ...trained]),
    method,
    threadCount: 1,
    forwardOnly: true,
  });
  const { lossSum, tokenCount } = await graph.run([EXAMPLE]);
  await graph.dispose();
  return lossSum / tokenCount;
}

for (const [family, make] of Object.entries(FAMILIES)) {
  for (const full of [false, true]) {
    test(`${family}, ${full ? 'FULL' : 'LORA'}: the loss in PyTorch is ours`, { skip }, async (t) => {
      const training = await make(t, { full, lora: { useRslora: true } });
      const { plan, places, model } = training;
      const ignored = async (): Promise<void> => {};
      await train(plan, places, { report: ignored, stored: ignored, stopping: new AbortController().signal });
      const loss = full ? lossInPython(places.output, '') : lossInPython(model.folder, places.output);
      const own = await lossHere(training);
      assert.ok(Math.abs(loss - own) < 1e-5, `${loss} in PyTorch, ${own} here`);
    });
  }
}
