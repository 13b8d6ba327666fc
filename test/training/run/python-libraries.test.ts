/** PyTorch's transformers and PEFT load what a training writes, and compute the same loss with it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { TrainingGraph } from '../../../src/training/graph/training-graph.ts';
import { openTrainedModel } from '../../../src/training/run/trained-model.ts';
import { train } from '../../../src/training/run/trainer.ts';
import { readTensors } from '../../support/read-tensors.ts';
import { parseT5Config } from '../../support/t5-config.ts';
import { tinyTraining } from '../../support/tiny-training.ts';

/** A Python that has the libraries, where the machine's own has not. */
const python = process.env.GISTQL_TEST_PYTHON ?? 'python3';
const found = spawnSync(python, ['-c', 'import peft, transformers, torch'], { stdio: 'ignore' });
const skip = found.status === 0 ? false : 'needs a Python with torch, transformers and peft (GISTQL_TEST_PYTHON)';

const EXAMPLE = { inputIds: [5, 9, 30, 11, 1], labels: [5, 9, 30, 1] };

const SCRIPT = `
import json, sys, torch
from transformers import T5ForConditionalGeneration
model_folder, adapter_folder, example = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
model = T5ForConditionalGeneration.from_pretrained(model_folder, dtype=torch.float32)
if adapter_folder:
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, adapter_folder)
model.eval()
with torch.no_grad():
    print(model(input_ids=torch.tensor([example["inputIds"]]), labels=torch.tensor([example["labels"]])).loss.item())
`;

function lossInPython(modelFolder: string, adapterFolder: string): number {
  const args = ['-c', SCRIPT, modelFolder, adapterFolder, JSON.stringify(EXAMPLE)];
  const { status, stdout, stderr } = spawnSync(python, args, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  return Number(stdout);
}

for (const full of [false, true]) {
  test(`${full ? 'FULL' : 'LORA'}: the loss in PyTorch is ours`, { skip }, async (t) => {
    const training = await tinyTraining(t, { full, lora: { useRslora: true } }, { gated: true });
    const { plan, places, model } = training;
    const ignored = async (): Promise<void> => {};
    await train(plan, places, { report: ignored, stored: ignored, stopping: new AbortController().signal });
    const { tensors, method } = await openTrainedModel(plan, places);
    const trained = await readTensors(`${places.output}/${full ? 'model' : 'adapter_model'}.safetensors`);
    const graph = await TrainingGraph.create({
      config: parseT5Config(model.config),
      tensors: new Map([...tensors, ...trained]),
      method,
      threadCount: 1,
      forwardOnly: true,
    });
    const { lossSum, tokenCount } = await graph.run([EXAMPLE]);
    await graph.dispose();
    const loss = full ? lossInPython(places.output, '') : lossInPython(model.folder, places.output);
    assert.ok(Math.abs(loss - lossSum / tokenCount) < 1e-5, `${loss} in PyTorch, ${lossSum / tokenCount} here`);
  });
}
