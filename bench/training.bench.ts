/**
 * Samples a second of fine-tuning beside PyTorch (and PEFT), on the same weights, batches and threads, in float32: a step
 * is forward, backward, clipping and AdamW. Rounds are interleaved; both must have the same losses.
 *
 *     python3 -m venv peer && peer/bin/pip install torch==2.14.1 transformers==5.23.0 peft==0.21.2
 *     TRAINING_PYTHON=peer/bin/python npx tsx bench/training.bench.ts MODEL_FOLDER [LORA|FULL] [ROUNDS]
 *
 * Without TRAINING_PYTHON only our own numbers are printed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { readModelFiles } from '../src/runtime/models/model-files.ts';
import type { TrainingExample } from '../src/training/graph/padded-batch.ts';
import { TrainingGraph } from '../src/training/graph/training-graph.ts';
import { AdamW } from '../src/training/optimizer/adamw.ts';
import { WeightUpdater } from '../src/training/optimizer/weight-update.ts';
import { openTrainedModel, type TrainedModel } from '../src/training/run/trained-model.ts';
import type { TrainerPlaces, TrainingPlan } from '../src/training/run/trainer-protocol.ts';
import { writeOutput } from '../src/training/run/training-output.ts';
import { seededNumbers } from '../test/support/seeded-numbers.ts';
import { productLimit, stepFlops } from './training-flops.ts';

const THREADS = 2;
const STEPS_A_ROUND = 3;
const SHAPE = { batchSize: 8, sourceLength: 256, targetLength: 64 };
const RATE = 1e-4;
/** How far losses may be apart: sums in another order, over some steps. */
const TOLERANCE = 1e-3;

type Method = 'LORA' | 'FULL';

interface Round {
  readonly seconds: number;
  readonly losses: readonly number[];
  /** Most bytes of memory that the process has had. */
  readonly peakBytes: number;
}

const PEER = `
import importlib.metadata, json, os, resource, sys, time
model_folder, adapter_folder, threads, rate = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
os.environ["OMP_NUM_THREADS"] = str(threads)
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from transformers import T5ForConditionalGeneration
torch.set_num_threads(threads)
model = T5ForConditionalGeneration.from_pretrained(model_folder, dtype=torch.float32, dropout_rate=0.0)
if adapter_folder:
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, adapter_folder, is_trainable=True)
model.train()
trained = [weight for weight in model.parameters() if weight.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
print(json.dumps({name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")}), flush=True)
for line in sys.stdin:
    batches, losses = json.loads(line), []
    start = time.perf_counter()
    for batch in batches:
        loss = model(input_ids=torch.tensor([one["inputIds"] for one in batch]), labels=torch.tensor([one["labels"] for one in batch])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "losses": losses, "peakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}), flush=True)
`;

import { median, rangeOf } from './rounds.ts';

/** A process that trains the batches it is sent: a line for a line. */
class Side {
  private readonly lines: AsyncIterator<string>;

  constructor(private readonly child: ChildProcess) {
    if (child.stdout === null) throw new Error('Expected a process with a pipe.');
    this.lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  async read<T>(): Promise<T> {
    const { value, done } = await this.lines.next();
    if (done === true) throw new Error('A side ended before it answered; what it said stands above.');
    return JSON.parse(value) as T;
  }

  run(batches: readonly (readonly TrainingExample[])[]): Promise<Round> {
    this.child.stdin?.write(`${JSON.stringify(batches)}\n`);
    return this.read<Round>();
  }

  async close(): Promise<void> {
    const closed = once(this.child, 'close');
    this.child.stdin?.end();
    await closed;
  }
}

/** A plan of which only the model and the method count here. */
function planFor(folder: string, method: Method): { readonly plan: TrainingPlan; readonly places: TrainerPlaces } {
  const lora = { rank: 16, alpha: 32, dropout: 0, targetModules: ['all-linear'], useRslora: false };
  const plan = {
    modelSource: `dir:${basename(folder)}`,
    modelId: 'model',
    outputId: 'start',
    lora: method === 'LORA' ? lora : null,
    data: {
      dataset: '',
      split: '',
      limit: null,
      validation: null,
      templateId: 'plain',
      maxSourceTokens: 1,
      maxTargetTokens: 1,
    },
    optimization: {
      epochs: 1,
      maxSteps: null,
      batchSize: SHAPE.batchSize,
      gradientAccumulation: 1,
      learningRate: RATE,
      schedule: 'constant' as const,
      warmupSteps: 0,
      weightDecay: 0,
      maxGradNorm: 1,
      labelSmoothing: 0,
      seed: 1,
    },
    evaluateEverySteps: null,
    threadCount: THREADS,
  };
  const directories = { embedded: dirname(folder), models: dirname(folder) };
  const places = {
    directories,
    datasets: { datasets: '', embedded: '' },
    checkpoints: '',
    output: '',
    maxInputTokens: 512,
  };
  return { plan, places };
}

async function openModel(folder: string, method: Method): Promise<TrainedModel> {
  const { plan, places } = planFor(folder, method);
  return openTrainedModel(plan, places);
}

/** Our side, in a process of its own as in service. */
async function trainHere(folder: string, method: Method): Promise<void> {
  const model = await openModel(folder, method);
  const { config, tensors, method: trained } = model;
  const graph = await TrainingGraph.create({ config, tensors, method: trained, threadCount: THREADS, lossChunks: 2 });
  const { plan } = planFor(folder, method);
  const updater = new WeightUpdater(graph, new AdamW(model.trained, { ...plan.optimization, threadCount: THREADS }), {
    ...plan.optimization,
    stepsTotal: Number.POSITIVE_INFINITY,
  });
  console.log('{}');
  let step = 0;
  for await (const line of createInterface({ input: process.stdin })) {
    const batches = JSON.parse(line) as TrainingExample[][];
    const losses: number[] = [];
    const begun = performance.now();
    for (const batch of batches) losses.push((await updater.step([batch], step++)).loss);
    const seconds = (performance.now() - begun) / 1000;
    console.log(JSON.stringify({ seconds, losses, peakBytes: process.resourceUsage().maxRSS * 1024 }));
  }
  await graph.dispose();
}

function startOurs(folder: string, method: Method): Side {
  const self = fileURLToPath(import.meta.url);
  const args = ['--import', import.meta.resolve('tsx'), self, folder, method, 'ours'];
  return new Side(spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] }));
}

async function startPeer(python: string, folder: string, method: Method, temporary: string): Promise<Side> {
  let adapter = '';
  if (method === 'LORA') {
    // both begin with the same factors
    adapter = join(temporary, 'start');
    await writeOutput(adapter, await openModel(folder, method), planFor(folder, method).plan, 'start');
  }
  const args = ['-c', PEER, folder, adapter, String(THREADS), String(RATE)];
  return new Side(spawn(python, args, { stdio: ['pipe', 'pipe', 'inherit'] }));
}

function batchesOf(next: () => number, vocabularySize: number): readonly (readonly TrainingExample[])[] {
  const ids = (length: number): number[] => [
    ...Array.from({ length: length - 1 }, () => 10 + Math.floor(next() * (vocabularySize - 10))),
    1,
  ];
  const example = (): TrainingExample => ({ inputIds: ids(SHAPE.sourceLength), labels: ids(SHAPE.targetLength) });
  return Array.from({ length: STEPS_A_ROUND }, () => Array.from({ length: SHAPE.batchSize }, example));
}

function checkLosses(ours: Round, theirs: Round): void {
  for (const [index, loss] of ours.losses.entries()) {
    const other = theirs.losses[index] ?? Number.NaN;
    if (Math.abs(loss / other - 1) <= TOLERANCE) continue;
    throw new Error(`Expected equal losses, ours is ${loss}, PyTorch's is ${other}: the comparison is void.`);
  }
}

const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(0);

async function compare(folder: string, method: Method, roundCount: number): Promise<void> {
  const temporary = await mkdtemp(join(tmpdir(), 'gistql-training-'));
  const sides = new Map([['GistQL', startOurs(folder, method)]]);
  const python = process.env.TRAINING_PYTHON;
  if (python !== undefined) sides.set('PyTorch', await startPeer(python, folder, method, temporary));
  const { config } = await readModelFiles(`dir:${basename(folder)}`, planFor(folder, method).places.directories);
  if (config.family !== 't5') throw new Error(`Expected the folder of a T5, one of ${config.architecture} came.`);
  const next = seededNumbers(1);
  const rounds = new Map([...sides.keys()].map((name) => [name, [] as Round[]]));
  console.log({
    processor: cpus()[0]?.model,
    processors: availableParallelism(),
    node: process.versions.node,
    threads: THREADS,
  });
  for (const [name, side] of sides) console.log(name, await side.read());
  const limit = await productLimit(THREADS);
  for (let round = 0; round <= roundCount; round++) {
    const batches = batchesOf(next, config.vocabularySize);
    const order = [...sides.keys()];
    if (round % 2 === 1) order.reverse();
    for (const name of order) rounds.get(name)?.push((await sides.get(name)?.run(batches)) as Round);
    const [ours, theirs] = [...rounds.values()].map((all) => all.at(-1));
    if (ours !== undefined && theirs !== undefined) checkLosses(ours, theirs);
  }
  for (const side of sides.values()) await side.close();
  await rm(temporary, { recursive: true });
  report(rounds, { limit, flops: stepFlops(config, method === 'FULL', SHAPE) });
}

/** The first round warms up and is left out. */
function report(
  rounds: ReadonlyMap<string, readonly Round[]>,
  { limit, flops }: { limit: number; flops: number },
): void {
  const samples = STEPS_A_ROUND * SHAPE.batchSize;
  for (const [name, all] of rounds) {
    const seconds = median(all.slice(1).map((round) => round.seconds));
    const share = (flops * STEPS_A_ROUND) / seconds / limit;
    console.log(
      `${name}: ${(samples / seconds).toFixed(2)} samples/s, ${(100 * share).toFixed(0)} % of ${(limit / 1e9).toFixed(0)} GFLOPS, peak ${mebibytes(all.at(-1)?.peakBytes ?? 0)} MiB`,
    );
  }
  const [ours = [], theirs = []] = [...rounds.values()].map((all) => all.slice(1));
  const ratios = theirs.map(({ seconds }, round) => seconds / (ours[round]?.seconds ?? Number.NaN));
  if (ratios.length === 0) return;
  console.log(`GistQL / PyTorch: ${median(ratios).toFixed(2)} (rounds: ${rangeOf(ratios)})`);
}

const [folder, method = 'LORA', last = '5'] = process.argv.slice(2);
if (folder === undefined || (method !== 'LORA' && method !== 'FULL')) {
  throw new Error('Expected MODEL_FOLDER [LORA|FULL] [ROUNDS].');
}
if (last === 'ours') await trainHere(resolve(folder), method);
else await compare(resolve(folder), method, Number(last));
