/**
 * By how much logits of another precision differ from float32's, step by step over the same tokens: those that float32
 * chooses.
 *
 *     npx tsx bench/precision-error.bench.ts MODEL_FOLDER DIALOGUES.jsonl COUNT int8|fp16
 *
 * fp16 is computed on the processor, which rounds weights and rows as CUDA does and multiplies them in float32.
 *
 * Dialogues are the first COUNT of a dataset's file (`dialogue` of each line), in the default template; a chat model
 * reads them without its chat template, which changes nothing of how it computes.
 */
import { readFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import type { ModelRunner } from '../src/runtime/engine/model-runner.ts';
import { EngineHarness, loadRunner } from '../test/support/engine-harness.ts';
import { type ForcedRow, forward } from '../test/support/forced-tokens.ts';
import { openTokenizer } from '../test/support/open-tokenizer.ts';

const NEW_TOKENS = 40;
const MOST_PROMPT_TOKENS = 400;

const [folder, dialogues, count, precision] = process.argv.slice(2);
if (folder === undefined || dialogues === undefined || (precision !== 'int8' && precision !== 'fp16')) {
  throw new Error('Expected MODEL_FOLDER DIALOGUES.jsonl COUNT int8|fp16.');
}
const path = resolve(folder);
const tokenizer = await openTokenizer(join(path, 'tokenizer.json'));
const prompts: (readonly number[])[] = [];
for (const line of readFileSync(dialogues, 'utf8').split('\n').slice(0, Number(count))) {
  if (line === '') continue;
  const { dialogue } = JSON.parse(line) as { readonly dialogue: string };
  const ids = await tokenizer.encode(`Summarize the following conversation.\n\n${dialogue}\n\nSummary:`);
  if (ids.length <= MOST_PROMPT_TOKENS) prompts.push(ids);
}

async function chosenBy(runner: ModelRunner): Promise<readonly ForcedRow[]> {
  const asked = prompts.map((promptTokenIds, index) => ({
    id: `${index}`,
    promptTokenIds,
    options: { maxNewTokens: NEW_TOKENS },
  }));
  const { outputs } = await EngineHarness.runAll(runner, asked);
  return prompts.map((inputIds, index) => {
    const tokens = outputs.get(`${index}`)?.sequences[0]?.tokens ?? [];
    const { tokenId } = runner.startOf(inputIds);
    return { inputIds, decoderInputIds: [tokenId, ...tokens.slice(0, -1).map(({ id }) => id)] };
  });
}

function highest(logits: Float32Array): number {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if ((logits[id] as number) > (logits[best] as number)) best = id;
  return best;
}

function deviation(values: Float32Array): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}

const float32 = await loadRunner(dirname(path), basename(path));
const rows = await chosenBy(float32.runner);
const expected = await forward(float32.runner, rows);
await float32.runner.dispose();
const other = await loadRunner(dirname(path), basename(path), { precision });
const found = await forward(other.runner, rows);
await other.runner.dispose();

let [steps, same, largest, squares, spread] = [0, 0, 0, 0, 0];
for (const [row, logitsBySteps] of expected.entries()) {
  for (const [step, logits] of logitsBySteps.entries()) {
    const others = found[row]?.[step] ?? new Float32Array(0);
    let sum = 0;
    for (const [id, logit] of logits.entries()) {
      const difference = logit - (others[id] ?? Number.NaN);
      largest = Math.max(largest, Math.abs(difference));
      sum += difference ** 2;
    }
    steps++;
    same += Number(highest(logits) === highest(others));
    squares += sum / logits.length;
    spread += deviation(logits);
  }
}
console.log(`${prompts.length} dialogues, ${steps} steps of ${basename(path)} in ${precision}`);
console.log(`largest difference of a logit: ${largest.toFixed(3)}`);
console.log(`root mean square: ${Math.sqrt(squares / steps).toFixed(4)}`);
console.log(`standard deviation of a step's logits: ${(spread / steps).toFixed(3)}`);
console.log(`steps whose highest logit is the same: ${((100 * same) / steps).toFixed(2)} %`);
