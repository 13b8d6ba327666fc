/** Weights and factors of adapters as inputs of a training graph, in the layout of the files and read in place. */
import type { DecoderOnlyWeights } from '../../runtime/decoder-only/decoder-only-layers.ts';
import type { GraphBuilder, Value } from '../../runtime/graph/graph-builder.ts';
import { linear } from '../../runtime/graph/layers.ts';
import { type AdaptedShape, LoraLayer, type LoraTargets } from '../../runtime/graph/lora.ts';
import { HEAD_PATH, type LinearModule } from '../../runtime/models/linear-module.ts';
import type { DecoderOnlyConfig } from '../../runtime/models/model-config.ts';
import { relativeBiasPath, type T5StackName, type T5Weights } from '../../runtime/t5/t5-layers.ts';
import { factorName, type LoraTraining, type TrainingMethod } from './training-method.ts';

/** Inputs that are declared when the first node asks for them. */
export class WeightInputs {
  private readonly values = new Map<string, Value>();

  constructor(
    private readonly graph: GraphBuilder,
    private readonly shapes: ReadonlyMap<string, readonly number[]>,
  ) {}

  /** The names of what has been asked for. */
  get names(): readonly string[] {
    return [...this.values.keys()];
  }

  /** Undefined for inputs that are no weights. */
  shape(name: string): readonly number[] | undefined {
    return this.shapes.get(name);
  }

  /** A tensor by its name in the file. */
  tensor(name: string): Value {
    const known = this.values.get(name);
    if (known !== undefined) return known;
    const value = this.graph.input(name, 'float32', this.shapes.get(name) ?? []);
    this.values.set(name, value);
    return value;
  }
}

/** What the layers of T5 ask for. */
export class T5Inputs implements T5Weights {
  constructor(
    private readonly graph: GraphBuilder,
    private readonly inputs: WeightInputs,
  ) {}

  products(x: Value, modules: readonly string[]): Value[] {
    return modules.map((module) => linear(this.graph, x, this.inputs.tensor(`${module}.weight`)));
  }

  norm(path: string): Value {
    return this.inputs.tensor(`${path}.weight`);
  }

  relativeBias(stack: T5StackName): Value {
    return this.inputs.tensor(`${relativeBiasPath(stack)}.weight`);
  }
}

/** What the layers of decoder-only models ask for. */
export class DecoderOnlyInputs implements DecoderOnlyWeights {
  constructor(
    private readonly graph: GraphBuilder,
    private readonly inputs: WeightInputs,
    private readonly config: DecoderOnlyConfig,
  ) {}

  products(x: Value, modules: readonly LinearModule[]): Value[] {
    return modules.map(({ path }) => {
      const weight = this.inputs.tensor(`${path}.weight`);
      // GPT-2's files hold [in, out]
      return this.config.family === 'gpt2' ? this.graph.node('MatMul', [x, weight]) : linear(this.graph, x, weight);
    });
  }

  vector(name: string): Value {
    return this.inputs.tensor(name);
  }
}

/** The input that says what is dropped of what a module's factors read: 0, or 1 / (1 - dropout). */
export function dropoutInput(module: string): string {
  return `${module}.lora_dropout`;
}

const NOTHING: LoraTargets = { modules: new Set(), gains: new Set() };

/** LoRA that is being trained: y + scaling · B (A x). */
export class TrainedLora extends LoraLayer {
  constructor(
    graph: GraphBuilder,
    private readonly inputs: WeightInputs,
    private readonly method: TrainingMethod,
  ) {
    super(graph, method.method === 'lora' ? { modules: method.modules, gains: new Set() } : NOTHING);
  }

  protected delta(module: string, x: Value, { inSize }: AdaptedShape): Value {
    const { graph, inputs } = this;
    const { scaling, dropout = false } = this.method as LoraTraining;
    const read = dropout ? graph.node('Mul', [x, this.mask(module, inSize)]) : x;
    const low = linear(graph, read, inputs.tensor(factorName.a(module))); // [.., rank]
    const b = inputs.tensor(factorName.b(module));
    return graph.node('FusedMatMul', [low, b], { transB: 1, alpha: { float: scaling } });
  }

  protected gain(): Value {
    throw new Error('Broken invariant: adapters in training have no gains');
  }

  private mask(module: string, inSize: number): Value {
    const rows = module === HEAD_PATH ? ['labels'] : ['batch', `${module}.rows`];
    return this.graph.input(dropoutInput(module), 'float32', [...rows, inSize]);
  }
}
