/**
 * transformers.js with a decoder-only model, speaking the protocol of src/bench/protocol.ts: for decoder-only.bench.ts.
 * node bench/transformers-js-peer.mjs FOLDER PACKAGES: FOLDER holds onnx/model.onnx (optimum, text-generation-with-past),
 * PACKAGES is where @huggingface/transformers was installed. Greedy, float32, 2 threads.
 */
import { createRequire } from 'node:module';
import { basename, dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const [folder, packages] = process.argv.slice(2).map((path) => resolve(path));
const { AutoModelForCausalLM, Tensor, env } = createRequire(join(packages, 'index.js'))('@huggingface/transformers');
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
// the protocol owns stdout
console.log = console.info = console.warn = console.error;

env.allowRemoteModels = false;
env.localModelPath = `${dirname(folder)}/`;
const model = await AutoModelForCausalLM.from_pretrained(basename(folder), {
  dtype: 'fp32',
  device: 'cpu',
  session_options: { intraOpNumThreads: 2, interOpNumThreads: 1, logSeverityLevel: 3 },
});

/** Rows are padded on the left, as decoder-only models want it. */
async function generate(prompts, newTokens) {
  const width = Math.max(...prompts.map((row) => row.length));
  const ids = new BigInt64Array(prompts.length * width);
  const mask = new BigInt64Array(prompts.length * width);
  for (const [row, prompt] of prompts.entries()) {
    const start = (row + 1) * width - prompt.length;
    for (const [index, id] of prompt.entries()) {
      ids[start + index] = BigInt(id);
      mask[start + index] = 1n;
    }
  }
  const dims = [prompts.length, width];
  const output = await model.generate({
    inputs: new Tensor('int64', ids, dims),
    attention_mask: new Tensor('int64', mask, dims),
    min_new_tokens: newTokens,
    max_new_tokens: newTokens,
    do_sample: false,
  });
  return output.tolist().map((row) => row.slice(width).map(Number));
}

/** In order of arrival, the next batch once the last has ended; each batch runs to its longest row. */
async function staticBatches(requests, size) {
  const rows = [];
  for (let start = 0; start < requests.length; start += size) {
    const part = requests.slice(start, start + size);
    const longest = Math.max(...part.map(({ newTokens }) => newTokens));
    const made = await generate(
      part.map(({ sourceIds }) => sourceIds),
      longest,
    );
    rows.push(...made.map((row, index) => row.slice(0, part[index].newTokens)));
  }
  return rows;
}

await generate([[5, 6, 7]], 4);
say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  if (request.quit) break;
  const start = performance.now();
  const tokens = request.ragged
    ? await staticBatches(request.ragged, request.batch)
    : await generate(request.sourceIds, request.newTokens);
  say({ id: request.id, seconds: (performance.now() - start) / 1000, tokens });
}
process.exit(0);
