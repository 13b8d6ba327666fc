/** The loss on samples that are not trained on: a mean over their label tokens, without smoothing and dropout. */
import { TrainingGraph, type TrainingGraphOptions } from '../graph/training-graph.ts';
import { sortByLength } from '../samples/batch-plan.ts';
import type { TrainingSamples } from '../samples/training-samples.ts';

export interface ValidationTimes {
  /** null: only after the last step. */
  readonly evaluateEverySteps: number | null;
  readonly stepsTotal: number;
}

/** Forward passes keep little, so more rows than in training fit. */
const BATCH_SIZE = 16;

export class Validation {
  private constructor(
    private readonly graph: TrainingGraph,
    private readonly samples: TrainingSamples,
    private readonly times: ValidationTimes,
  ) {}

  /** `options`: those of the training, whose weights are read as they are at each look. */
  static async create(
    samples: TrainingSamples,
    options: TrainingGraphOptions,
    times: ValidationTimes,
  ): Promise<Validation> {
    const { method } = options;
    const graph = await TrainingGraph.create({
      ...options,
      method: method.method === 'full' ? method : { ...method, dropout: false },
      labelSmoothing: 0,
      recompute: false,
      forwardOnly: true,
    });
    return new Validation(graph, samples, times);
  }

  /** `step` counts from 1. */
  isDue(step: number): boolean {
    const { evaluateEverySteps, stepsTotal } = this.times;
    return step === stepsTotal || (evaluateEverySteps !== null && step % evaluateEverySteps === 0);
  }

  /** undefined: it was told to leave off before the end. */
  async loss(stopping: AbortSignal): Promise<number | undefined> {
    const order = Uint32Array.from({ length: this.samples.count }, (_, sample) => sample);
    sortByLength(order, this.samples);
    let [lossSum, tokenCount] = [0, 0];
    for (let first = 0; first < order.length; first += BATCH_SIZE) {
      if (stopping.aborted) return undefined;
      const run = await this.graph.run(this.samples.examples(order.slice(first, first + BATCH_SIZE)));
      lossSum += run.lossSum;
      tokenCount += run.tokenCount;
    }
    return lossSum / tokenCount;
  }

  async close(): Promise<void> {
    await this.graph.dispose();
  }
}
