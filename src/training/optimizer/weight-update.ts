/** One step of training: the gradient of one batch or of several, clipped, and what AdamW makes of it. */
import type { TrainingExample } from '../graph/padded-batch.ts';
import type { DropoutMasks, TrainingGraph } from '../graph/training-graph.ts';
import type { AdamW } from './adamw.ts';
import { type LearningRateSettings, learningRateAt } from './learning-rate.ts';

export interface UpdateSettings extends LearningRateSettings {
  /** 0: gradients are not clipped. */
  readonly maxGradNorm: number;
}

export interface WeightUpdate {
  /** Mean over the label tokens of all batches, with the weights before the step. */
  readonly loss: number;
  /** Of the gradient of that mean, over everything that is trained, before clipping. */
  readonly gradientNorm: number;
  readonly learningRate: number;
}

/** Added to the norm when gradients are clipped, as in torch's clip_grad_norm_. */
const CLIP_EPSILON = 1e-6;

export class WeightUpdater {
  private sums: ReadonlyMap<string, Float32Array> | undefined;

  constructor(
    private readonly graph: TrainingGraph,
    private readonly adamw: AdamW,
    private readonly settings: UpdateSettings,
  ) {}

  /**
   * `step` counts from 0; `masks` are asked for each batch by its place in the step. A loss or norm that is not finite
   * is returned as it is, and changes no weight.
   */
  async step(
    batches: readonly (readonly TrainingExample[])[],
    step: number,
    masks?: (batch: number) => DropoutMasks,
  ): Promise<WeightUpdate> {
    let lossSum = 0;
    let tokenCount = 0;
    let gradients: ReadonlyMap<string, Float32Array> = new Map();
    for (const [index, batch] of batches.entries()) {
      const run = await this.graph.run(batch, masks?.(index));
      lossSum += run.lossSum;
      tokenCount += run.tokenCount;
      gradients = batches.length === 1 ? run.gradients : this.accumulate(run.gradients, index === 0);
    }
    const loss = lossSum / tokenCount;
    const gradientNorm = normOf(gradients) / tokenCount;
    const learningRate = learningRateAt(this.settings, step);
    if (Number.isFinite(loss) && Number.isFinite(gradientNorm)) {
      const scale = this.clip(gradientNorm) / tokenCount;
      await this.adamw.update(gradients, { step: step + 1, scale, learningRate });
    }
    return { loss, gradientNorm, learningRate };
  }

  async dispose(): Promise<void> {
    await this.adamw.dispose();
  }

  private clip(norm: number): number {
    const { maxGradNorm } = this.settings;
    return maxGradNorm === 0 ? 1 : Math.min(1, maxGradNorm / (norm + CLIP_EPSILON));
  }

  private accumulate(gradients: ReadonlyMap<string, Float32Array>, first: boolean): ReadonlyMap<string, Float32Array> {
    this.sums ??= new Map([...gradients].map(([name, { length }]) => [name, new Float32Array(length)]));
    for (const [name, sum] of this.sums) {
      const gradient = gradients.get(name) as Float32Array;
      if (first) sum.set(gradient);
      else
        for (let index = 0; index < sum.length; index++)
          sum[index] = (sum[index] as number) + (gradient[index] as number);
    }
    return this.sums;
  }
}

/** Euclidean norm over all tensors. */
function normOf(gradients: ReadonlyMap<string, Float32Array>): number {
  let squares = 0;
  for (const gradient of gradients.values()) squares += squaresOf(gradient);
  return Math.sqrt(squares);
}

/** In four sums side by side: one alone would wait for every addition. */
function squaresOf(values: Float32Array): number {
  let [first, second, third, fourth] = [0, 0, 0, 0];
  const even = values.length - (values.length % 4);
  for (let index = 0; index < even; index += 4) {
    first += (values[index] as number) ** 2;
    second += (values[index + 1] as number) ** 2;
    third += (values[index + 2] as number) ** 2;
    fourth += (values[index + 3] as number) ** 2;
  }
  for (let index = even; index < values.length; index++) first += (values[index] as number) ** 2;
  return first + second + (third + fourth);
}
