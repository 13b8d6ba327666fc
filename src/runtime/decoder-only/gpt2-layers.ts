/** GPT-2's layers (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"). */
import type { Value } from '../graph/graph-builder.ts';
import {
  addAndLayerNorm,
  gatedActivation,
  layerNorm,
  type ReadStream,
  type Stream,
  splitLast,
} from '../graph/layers.ts';
import type { Gpt2Config } from '../models/model-config.ts';
import { type AttentionInputs, type DecoderOnlyLayers, type LayerParts, Projections } from './decoder-only-layers.ts';

export class Gpt2Layers implements DecoderOnlyLayers {
  private readonly projections: Projections;

  constructor(private readonly parts: LayerParts<Gpt2Config>) {
    this.projections = new Projections(parts);
  }

  attentionInputs(block: number, stream: Stream): AttentionInputs & { readonly sum: Value } {
    const { graph, config } = this.parts;
    const { normalized, sum } = this.normalize(stream, `transformer.h.${block}.ln_1`);
    const joined = this.projections.projectOne(normalized, `transformer.h.${block}.attn.c_attn`, true);
    const size = config.hiddenSize;
    const [queries, keys, values] = splitLast(graph, joined, [size, size, size]) as [Value, Value, Value];
    return { queries, keys, values, sum };
  }

  attentionOutput(block: number, attended: Value): Value {
    return this.projections.projectOne(attended, `transformer.h.${block}.attn.c_proj`, true);
  }

  feedForward(block: number, stream: Stream): Stream {
    const { graph, config } = this.parts;
    return graph.scope('feed_forward', () => {
      const { normalized, sum } = this.normalize(stream, `transformer.h.${block}.ln_2`);
      const up = this.projections.projectOne(normalized, `transformer.h.${block}.mlp.c_fc`, true);
      const hidden = gatedActivation(graph, up, undefined, config.activation);
      return { sum, pending: this.projections.projectOne(hidden, `transformer.h.${block}.mlp.c_proj`, true) };
    });
  }

  finish(stream: Stream): Value {
    return this.normalize(stream, 'transformer.ln_f').normalized;
  }

  private normalize(stream: Stream, path: string): ReadStream {
    const { graph, config, weights } = this.parts;
    const norm = { scale: weights.vector(`${path}.weight`), shift: weights.vector(`${path}.bias`) };
    if (stream.pending !== undefined)
      return addAndLayerNorm(graph, stream.sum, stream.pending, norm, config.normEpsilon);
    return { normalized: layerNorm(graph, stream.sum, norm, config.normEpsilon), sum: stream.sum };
  }
}
