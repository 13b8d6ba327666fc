/**
 * The layers of decoder-only models as graph nodes, the same for serving and for training. Weights are asked for by the
 * paths that Hugging Face gives their modules. What is the same in all families is here; gpt2-layers.ts and
 * llama-layers.ts hold what is not.
 */

import { invariant } from '../errors.ts';
import type { GraphBuilder, Value } from '../graph/graph-builder.ts';
import type { Stream } from '../graph/layers.ts';
import type { LoraLayer } from '../graph/lora.ts';
import type { LinearModule } from '../models/linear-module.ts';
import type { DecoderOnlyConfig } from '../models/model-config.ts';
import { decoderOnlyLinearModules } from './decoder-only-modules.ts';

/** Where a graph's weights come from: constants that it holds, or inputs. */
export interface DecoderOnlyWeights {
  /** x times the matrix of each of `modules`, which all read x. */
  products(x: Value, modules: readonly LinearModule[]): Value[];
  /** A tensor of one axis by its name: a bias, or the weight of a norm. */
  vector(name: string): Value;
}

/** What attention reads of its rows: queries [.., H·dk]; keys and values [.., KV·dk]. */
export interface AttentionInputs {
  readonly queries: Value;
  readonly keys: Value;
  readonly values: Value;
}

export interface DecoderOnlyLayers {
  /** Reads the stream for the attention of a block. */
  attentionInputs(block: number, stream: Stream): AttentionInputs & { readonly sum: Value };
  /** What attention adds to the stream; `attended` [.., H·dk]. */
  attentionOutput(block: number, attended: Value): Value;
  feedForward(block: number, stream: Stream): Stream;
  /** The last norm. */
  finish(stream: Stream): Value;
}

/** What rows go through: embedded tokens [rows, d], and so many blocks. */
interface DecodedStream {
  readonly embeddings: Value;
  readonly blockCount: number;
}

/** One token a row: its states [rows, d], and its own keys and values of each block. `attend` → [rows, H·dk]. */
export function decodeBlocks(
  graph: GraphBuilder,
  layers: DecoderOnlyLayers,
  { embeddings, blockCount }: DecodedStream,
  attend: (block: number, rows: AttentionInputs) => Value,
): { readonly states: Value; readonly rows: readonly AttentionInputs[] } {
  const rows: AttentionInputs[] = [];
  let stream: Stream = { sum: embeddings, pending: undefined };
  for (let block = 0; block < blockCount; block++) {
    stream = graph.scope(`decoder/${block}`, () => {
      const { sum, ...own } = layers.attentionInputs(block, stream);
      rows.push(own);
      const pending = layers.attentionOutput(block, attend(block, own));
      return layers.feedForward(block, { sum, pending });
    });
  }
  return { states: layers.finish(stream), rows };
}

/** What a family's layers are made with. */
export interface LayerParts<Config extends DecoderOnlyConfig> {
  readonly graph: GraphBuilder;
  readonly config: Config;
  readonly weights: DecoderOnlyWeights;
  readonly lora: LoraLayer;
}

/** The products with a model's matrices, adapters and biases included. */
export class Projections {
  private readonly modules: ReadonlyMap<string, LinearModule>;

  constructor(private readonly parts: LayerParts<DecoderOnlyConfig>) {
    this.modules = new Map(decoderOnlyLinearModules(parts.config).map((module) => [module.path, module]));
  }

  /** x [.., inSize] × each matrix, with what the adapters of the rows add, and its bias where it has one. */
  project(x: Value, paths: readonly string[], hasBias: boolean): Value[] {
    const { graph, weights, lora } = this.parts;
    const modules = paths.map((path) => {
      const module = this.modules.get(path);
      invariant(module !== undefined, `the model has a module ${path}`);
      return module;
    });
    return weights.products(x, modules).map((product, part) => {
      const module = modules[part] as LinearModule;
      const y = lora.adapt(module.path, x, product, module);
      return hasBias ? graph.node('Add', [y, weights.vector(`${module.path}.bias`)]) : y;
    });
  }

  /** One matrix. */
  projectOne(x: Value, path: string, hasBias: boolean): Value {
    const [y] = this.project(x, [path], hasBias);
    return y as Value;
  }
}
