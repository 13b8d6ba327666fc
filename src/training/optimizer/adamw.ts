/**
 * AdamW with decoupled weight decay (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101), in the order of
 * torch.optim.AdamW: w ← w − η λ w;  m ← β₁ m + (1−β₁) g;  v ← β₂ v + (1−β₂) g²;
 * w ← w − η / (1−β₁ᵗ) · m / (√v / √(1−β₂ᵗ) + ε). Numbers are kept as float32, in between they have 64 bits.
 */
import { invariant } from '../../runtime/errors.ts';

export interface AdamWSettings {
  /** λ */
  readonly weightDecay: number;
  /** Which tensors decay, by name. Default: as transformers' Trainer chooses them. */
  readonly decays?: (name: string) => boolean;
  /** β₁ and β₂. Default 0.9 and 0.999. */
  readonly betas?: readonly [number, number];
  /** ε. Default 1e-8. */
  readonly epsilon?: number;
}

export interface Moments {
  /** m, torch's `exp_avg`. */
  readonly mean: Float32Array;
  /** v, torch's `exp_avg_sq`. */
  readonly square: Float32Array;
}

const BETAS = [0.9, 0.999] as const;
const EPSILON = 1e-8;

/** The names that transformers' Trainer leaves out of decay: biases and norms, GPT-2's ln_1, ln_2 and ln_f by their type. */
const NOT_DECAYED = /bias|layernorm|rmsnorm|(^|\.)norm($|\.)|_norm($|\.)|(^|\.)ln_(\d|f)\./i;

export function decaysByTrainer(name: string): boolean {
  return !NOT_DECAYED.test(name);
}

export class AdamW {
  /** By the names of the weights; a run that is taken up again fills them from its checkpoint. */
  readonly moments: ReadonlyMap<string, Moments>;

  /** `weights` are written in place. */
  constructor(
    private readonly weights: ReadonlyMap<string, Float32Array>,
    private readonly settings: AdamWSettings,
  ) {
    this.moments = new Map(
      [...weights].map(([name, { length }]) => [
        name,
        { mean: new Float32Array(length), square: new Float32Array(length) },
      ]),
    );
  }

  /** `step` counts from 1. Every gradient is multiplied by `scale` first. */
  update(
    gradients: ReadonlyMap<string, Float32Array>,
    { step, scale, learningRate }: { readonly step: number; readonly scale: number; readonly learningRate: number },
  ): void {
    const { weightDecay, decays = decaysByTrainer, betas = BETAS, epsilon = EPSILON } = this.settings;
    const [beta1, beta2] = betas;
    const size = learningRate / (1 - beta1 ** step);
    const root = Math.sqrt(1 - beta2 ** step);
    for (const [name, weight] of this.weights) {
      const gradient = gradients.get(name);
      const moments = this.moments.get(name);
      invariant(gradient !== undefined && moments !== undefined, `${name} has a gradient and moments`);
      const keep = decays(name) ? 1 - learningRate * weightDecay : 1;
      updateTensor(weight, gradient, moments, { scale, keep, size, root, beta1, beta2, epsilon });
    }
  }
}

interface UpdateFactors {
  readonly scale: number;
  /** What decay leaves of a weight. */
  readonly keep: number;
  /** η / (1−β₁ᵗ) */
  readonly size: number;
  /** √(1−β₂ᵗ) */
  readonly root: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
}

/** The formula with one division: both sides of its fraction are multiplied by √(1−β₂ᵗ). */
function updateTensor(
  weight: Float32Array,
  gradient: Float32Array,
  { mean, square }: Moments,
  { scale, keep, size, root, beta1, beta2, epsilon }: UpdateFactors,
): void {
  const rate = size * root;
  const least = epsilon * root;
  const ofMean = (1 - beta1) * scale;
  const ofSquare = (1 - beta2) * scale * scale;
  for (let index = 0; index < weight.length; index++) {
    const g = gradient[index] as number;
    const m = beta1 * (mean[index] as number) + ofMean * g;
    const v = beta2 * (square[index] as number) + ofSquare * g * g;
    mean[index] = m;
    square[index] = v;
    weight[index] = (weight[index] as number) * keep - (rate * m) / (Math.sqrt(v) + least);
  }
}
