/**
 * The session of one training run: from a batch to its loss and the gradient of everything that is trained. Weights are
 * the caller's arrays, read in place at every run: an optimizer writes into them between runs.
 */
import { invariant } from '../../runtime/errors.ts';
import { HEAD_PATH } from '../../runtime/models/linear-module.ts';
import type { ModelConfig } from '../../runtime/models/model-config.ts';
import { embeddingsName, linearModules } from '../../runtime/models/model-modules.ts';
import { type Feeds, Session, type SessionOptions } from '../../runtime/session.ts';
import { elementCount, floatTensor, type TensorValue } from '../../runtime/tensor.ts';
import { batchFeeds, padBatch } from './batch-feeds.ts';
import {
  type BuiltTrainingGraph,
  buildTrainingGraph,
  gradientOutput,
  type TrainingGraphShape,
} from './build-training-graph.ts';
import type { PaddedBatch, TrainingExample } from './padded-batch.ts';
import { dropoutInput } from './trained-layers.ts';
import type { LoraTraining } from './training-method.ts';

export interface TrainingGraphOptions extends Omit<TrainingGraphShape, 'tied'>, SessionOptions {
  /** Weights by the names of their tensors, and the factors of the adapter by PEFT's. */
  readonly tensors: ReadonlyMap<string, Float32Array>;
}

export interface TrainingStep {
  /** Σ over the label tokens. */
  readonly lossSum: number;
  readonly tokenCount: number;
  /** Of the sum, by the names of the tensors; the arrays are written anew by the next run. */
  readonly gradients: ReadonlyMap<string, Float32Array>;
}

/** What is dropped of what a module's factors read, `length` numbers: 0, or 1 / (1 - dropout). */
export type DropoutMasks = (module: string, length: number) => Float32Array;

export class TrainingGraph {
  /** The name of the embedding table. */
  private readonly embeddings: string;
  private readonly gradients: ReadonlyMap<string, Float32Array>;
  /** The rows of the embedding table whose gradients the last run added to, where nothing else writes the table's. */
  private written = new Int32Array();

  private constructor(
    private readonly session: Session,
    private readonly built: BuiltTrainingGraph,
    private readonly options: TrainingGraphOptions,
  ) {
    this.embeddings = embeddingsName(options.config);
    const names = this.givesTable ? new Set([...built.trained, this.embeddings]) : built.trained;
    this.gradients = new Map([...names].map((name) => [name, new Float32Array(this.tensor(name).length)]));
  }

  /** `tensors` without `lm_head.weight`: the head is the embedding table. */
  static async create(options: TrainingGraphOptions): Promise<TrainingGraph> {
    const built = buildTrainingGraph({ ...options, tied: !options.tensors.has(`${HEAD_PATH}.weight`) });
    for (const [name, dims] of built.tensors) {
      const length = options.tensors.get(name)?.length;
      invariant(length === elementCount(dims), `${name} has ${dims.join(' × ')} numbers, ${length} came`);
    }
    // a pattern takes the memory of a run once more
    return new TrainingGraph(await Session.create(built.model, { ...options, memoryPattern: false }), built, options);
  }

  /** `examples`: one at least, none longer than the model takes. `masks`: where the method has dropout. */
  async run(examples: readonly TrainingExample[], masks?: DropoutMasks): Promise<TrainingStep> {
    const { config, lossChunks = 1, method } = this.options;
    const batch = padBatch(config, examples);
    const feeds = {
      ...this.weights(),
      ...batchFeeds(batch, {
        embeddings: this.tensor(this.embeddings),
        hiddenSize: config.hiddenSize,
        lossChunks,
      }),
      ...(method.method === 'lora' && method.dropout === true ? maskFeeds(config, method, batch, masks) : {}),
    };
    const losses = new Float32Array(batch.labelIds.length);
    const outputs: Record<string, TensorValue> = { losses: floatTensor(losses, [losses.length]) };
    for (const name of this.built.trained) {
      outputs[gradientOutput(name)] = floatTensor(this.gradient(name), this.built.tensors.get(name) ?? []);
    }
    if (this.givesTable) await this.runFull(feeds, outputs, batch);
    else await this.session.runInto(feeds, outputs);
    const lossSum = losses.reduce((sum, loss) => sum + loss, 0);
    return { lossSum, tokenCount: losses.length, gradients: this.gradients };
  }

  async dispose(): Promise<void> {
    await this.session.dispose();
  }

  /** Whether the embedding table is trained. */
  private get givesTable(): boolean {
    return this.options.method.method === 'full' && this.options.forwardOnly !== true;
  }

  /** The gradients of embedded tokens come out token by token, and are added to the rows of the table here. */
  private async runFull(feeds: Feeds, outputs: Record<string, TensorValue>, batch: PaddedBatch): Promise<void> {
    const size = this.options.config.hiddenSize;
    const byToken = batch.embedded.map(({ input, ids, length }) => {
      const rows = new Float32Array(ids.length * size);
      outputs[gradientOutput(input)] = floatTensor(rows, [batch.count, length, size]);
      return { ids, rows };
    });
    const table = this.gradient(this.embeddings);
    // a tied head writes the whole table
    for (const id of this.written) table.fill(0, id * size, (id + 1) * size);
    await this.session.runInto(feeds, outputs);
    for (const { ids, rows } of byToken) addRows(table, rows, ids);
    if (this.built.trained.includes(this.embeddings)) return;
    this.written = Int32Array.from(byToken.flatMap(({ ids }) => [...ids]));
  }

  private gradient(name: string): Float32Array {
    const gradient = this.gradients.get(name);
    invariant(gradient !== undefined, `${name} has a gradient`);
    return gradient;
  }

  private tensor(name: string): Float32Array {
    const tensor = this.options.tensors.get(name);
    invariant(tensor !== undefined, `${name} is there`);
    return tensor;
  }

  private weights(): Record<string, TensorValue> {
    const feeds: Record<string, TensorValue> = {};
    for (const [name, dims] of this.built.tensors) feeds[name] = floatTensor(this.tensor(name), dims);
    return feeds;
  }
}

/** Adds each row of `rows` to the row of `table` that its id names, in order. */
function addRows(table: Float32Array, rows: Float32Array, ids: Int32Array): void {
  const size = rows.length / ids.length;
  let read = 0;
  for (const id of ids) {
    const end = (id + 1) * size;
    for (let place = id * size; place < end; place++)
      table[place] = (table[place] as number) + (rows[read++] as number);
  }
}

function maskFeeds(
  config: ModelConfig,
  { modules }: LoraTraining,
  batch: PaddedBatch,
  masks: DropoutMasks | undefined,
): Feeds {
  invariant(masks !== undefined, 'a run with dropout has masks');
  const feeds: Record<string, TensorValue> = {};
  for (const { path, inSize } of linearModules(config)) {
    if (!modules.has(path)) continue;
    const rows = path === HEAD_PATH ? [batch.labelIds.length] : batch.rowDims(path);
    const dims = [...rows, inSize];
    feeds[dropoutInput(path)] = floatTensor(masks(path, elementCount(dims)), dims);
  }
  return feeds;
}
