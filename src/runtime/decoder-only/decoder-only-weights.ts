/** A decoder-only model's weights as the serving graphs hold them: constants, found by the names of its tensors. */
import { invariant } from '../errors.ts';
import type { GraphBuilder, Value } from '../graph/graph-builder.ts';
import { splitLast } from '../graph/layers.ts';
import type { MatrixProducts } from '../graph/matrix-products.ts';
import type { LinearModule } from '../models/linear-module.ts';
import { floatTensor } from '../tensor.ts';
import type { DecoderOnlyWeights } from './decoder-only-layers.ts';

/** Weights that a graph holds. Matrices that share an input lie under the path of the first of them, stacked. */
export class ConstantWeights implements DecoderOnlyWeights {
  constructor(
    private readonly graph: GraphBuilder,
    private readonly tensors: ReadonlyMap<string, Float32Array>,
    private readonly multiply: MatrixProducts,
  ) {}

  products(x: Value, modules: readonly LinearModule[]): Value[] {
    const { graph } = this;
    const [{ path, inSize }] = modules as readonly [LinearModule];
    const data = this.data(`${path}.weight`);
    const y = this.multiply.product(x, path, data, inSize);
    if (modules.length === 1) return [y];
    return splitLast(
      graph,
      y,
      modules.map(({ outSize }) => outSize),
    );
  }

  vector(name: string): Value {
    const data = this.data(name);
    return this.graph.weight(name, floatTensor(data, [data.length]));
  }

  private data(name: string): Float32Array {
    const data = this.tensors.get(name);
    invariant(data !== undefined, `the weights of ${name} are there`);
    return data;
  }
}
