/**
 * AdamW with decoupled weight decay (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101), in the order of
 * torch.optim.AdamW: w ← w − η λ w;  m ← β₁ m + (1−β₁) g;  v ← β₂ v + (1−β₂) g²;
 * w ← w − η / (1−β₁ᵗ) · m / (√v / √(1−β₂ᵗ) + ε). A graph does it in float32, on all threads and in place.
 */
import { invariant } from '../../runtime/errors.ts';
import { GraphBuilder, type Value } from '../../runtime/graph/graph-builder.ts';
import type { OnnxModel } from '../../runtime/graph/model-proto.ts';
import { Session } from '../../runtime/session.ts';
import { floatTensor, type TensorValue } from '../../runtime/tensor.ts';

export interface AdamWSettings {
  /** λ */
  readonly weightDecay: number;
  /** Which tensors decay, by name. Default: as transformers' Trainer chooses them. */
  readonly decays?: (name: string) => boolean;
  /** β₁ and β₂. Default 0.9 and 0.999. */
  readonly betas?: readonly [number, number];
  /** ε. Default 1e-8. */
  readonly epsilon?: number;
  /** Default 1. */
  readonly threadCount?: number;
}

export interface Moments {
  /** m, torch's `exp_avg`. */
  readonly mean: Float32Array;
  /** v, torch's `exp_avg_sq`. */
  readonly square: Float32Array;
}

const BETAS = [0.9, 0.999] as const;
const EPSILON = 1e-8;
/** Numbers of a run: what it reads and writes stays in the processor's cache, and a run costs little beside it. */
const PIECE = 2 ** 18;

/** The names that transformers' Trainer leaves out of decay: biases and norms, GPT-2's ln_1, ln_2 and ln_f by their type. */
const NOT_DECAYED = /bias|layernorm|rmsnorm|(^|\.)norm($|\.)|_norm($|\.)|(^|\.)ln_(\d|f)\./i;

export function decaysByTrainer(name: string): boolean {
  return !NOT_DECAYED.test(name);
}

export class AdamW {
  /** By the names of the weights; a run that is taken up again fills them from its checkpoint. */
  readonly moments: ReadonlyMap<string, Moments>;
  /** Made by the first update. */
  private session: Promise<Session> | undefined;

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
  async update(
    gradients: ReadonlyMap<string, Float32Array>,
    { step, scale, learningRate }: { readonly step: number; readonly scale: number; readonly learningRate: number },
  ): Promise<void> {
    const { weightDecay, decays = decaysByTrainer, betas = BETAS, epsilon = EPSILON, threadCount = 1 } = this.settings;
    const [beta1, beta2] = betas;
    this.session ??= Session.create(buildUpdate(), { threadCount });
    const session = await this.session;
    // one division: both sides of its fraction are multiplied by √(1−β₂ᵗ)
    const root = Math.sqrt(1 - beta2 ** step);
    const factors = {
      rate: (learningRate / (1 - beta1 ** step)) * root,
      least: epsilon * root,
      beta1,
      beta2,
      of_mean: (1 - beta1) * scale,
      of_square: (1 - beta2) * scale * scale,
    };
    for (const [name, weight] of this.weights) {
      const gradient = gradients.get(name);
      const moments = this.moments.get(name);
      invariant(gradient !== undefined && moments !== undefined, `${name} has a gradient and moments`);
      const keep = decays(name) ? 1 - learningRate * weightDecay : 1;
      await updateTensor(session, weight, gradient, moments, { ...factors, keep });
    }
  }

  async dispose(): Promise<void> {
    await (await this.session)?.dispose();
  }
}

/** Factors of an update by the names of their inputs. `keep`: what decay leaves of a weight. */
type Factors = Readonly<Record<'keep' | 'rate' | 'least' | 'beta1' | 'beta2' | 'of_mean' | 'of_square', number>>;

/** Inputs: weight, gradient, mean, square [n] and the factors [1]. Outputs: new_weight, new_mean, new_square [n]. */
function buildUpdate(): OnnxModel {
  const graph = new GraphBuilder('adamw');
  graph.writeInPlace();
  const many = (name: string): Value => graph.input(name, 'float32', ['numbers']);
  const [weight, gradient, mean, square] = ['weight', 'gradient', 'mean', 'square'].map(many) as [
    Value,
    Value,
    Value,
    Value,
  ];
  const factor = (name: keyof Factors): Value => graph.input(name, 'float32', [1]);
  const node = (operator: string, ...inputs: readonly Value[]): Value => graph.node(operator, inputs);
  const newMean = node('Add', node('Mul', mean, factor('beta1')), node('Mul', gradient, factor('of_mean')));
  const squared = node('Mul', node('Mul', gradient, gradient), factor('of_square'));
  const newSquare = node('Add', node('Mul', square, factor('beta2')), squared);
  const length = node('Add', node('Sqrt', newSquare), factor('least'));
  const change = node('Div', node('Mul', newMean, factor('rate')), length);
  graph.output(node('Sub', node('Mul', weight, factor('keep')), change), 'new_weight', 'float32', ['numbers']);
  graph.output(newMean, 'new_mean', 'float32', ['numbers']);
  graph.output(newSquare, 'new_square', 'float32', ['numbers']);
  return graph.build();
}

async function updateTensor(
  session: Session,
  weight: Float32Array,
  gradient: Float32Array,
  { mean, square }: Moments,
  factors: Factors,
): Promise<void> {
  const fixed = Object.fromEntries(
    Object.entries(factors).map(([name, value]) => [name, floatTensor(Float32Array.of(value), [1])]),
  );
  for (let start = 0; start < weight.length; start += PIECE) {
    const end = Math.min(start + PIECE, weight.length);
    const piece = (values: Float32Array): TensorValue => floatTensor(values.subarray(start, end), [end - start]);
    const own = { weight: piece(weight), mean: piece(mean), square: piece(square) };
    // each is read by the nodes before the one that writes it
    await session.runInto(
      { ...fixed, ...own, gradient: piece(gradient) },
      { new_weight: own.weight, new_mean: own.mean, new_square: own.square },
    );
  }
}
