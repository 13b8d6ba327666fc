/**
 * Llama's layers (Touvron et al. 2023, https://arxiv.org/abs/2302.13971), with what its relatives add: grouped heads
 * (Ainslie et al. 2023, https://arxiv.org/abs/2305.13245) and biases.
 */
import type { Value } from '../graph/graph-builder.ts';
import { addAndNormalize, gatedActivation, type ReadStream, rmsNorm, type Stream } from '../graph/layers.ts';
import type { LlamaConfig } from '../models/model-config.ts';
import { type AttentionInputs, type DecoderOnlyLayers, type LayerParts, Projections } from './decoder-only-layers.ts';
import type { Rotate } from './rotary.ts';

export interface LlamaParts extends LayerParts<LlamaConfig> {
  readonly rotate: Rotate;
}

export class LlamaLayers implements DecoderOnlyLayers {
  private readonly projections: Projections;

  constructor(private readonly parts: LlamaParts) {
    this.projections = new Projections(parts);
  }

  attentionInputs(block: number, stream: Stream): AttentionInputs & { readonly sum: Value } {
    const { config, rotate } = this.parts;
    const path = `model.layers.${block}`;
    const { normalized, sum } = this.normalize(stream, `${path}.input_layernorm`);
    const modules = ['q_proj', 'k_proj', 'v_proj'].map((name) => `${path}.self_attn.${name}`);
    const projected = this.projections.project(normalized, modules, config.biases.inputs);
    const [queries, keys, values] = projected as [Value, Value, Value];
    return {
      queries: rotate(queries, config.headCount),
      keys: rotate(keys, config.keyValueHeadCount),
      values,
      sum,
    };
  }

  attentionOutput(block: number, attended: Value): Value {
    const { biases } = this.parts.config;
    return this.projections.projectOne(attended, `model.layers.${block}.self_attn.o_proj`, biases.output);
  }

  feedForward(block: number, stream: Stream): Stream {
    const { graph, config } = this.parts;
    const path = `model.layers.${block}`;
    return graph.scope('feed_forward', () => {
      const { normalized, sum } = this.normalize(stream, `${path}.post_attention_layernorm`);
      const modules = [`${path}.mlp.gate_proj`, `${path}.mlp.up_proj`];
      const hasBias = config.biases.feedForward;
      const [gate, up] = this.projections.project(normalized, modules, hasBias) as [Value, Value];
      const hidden = gatedActivation(graph, gate, up, config.activation);
      return { sum, pending: this.projections.projectOne(hidden, `${path}.mlp.down_proj`, hasBias) };
    });
  }

  finish(stream: Stream): Value {
    return this.normalize(stream, 'model.norm').normalized;
  }

  private normalize(stream: Stream, path: string): ReadStream {
    const { graph, config, weights } = this.parts;
    const scale = weights.vector(`${path}.weight`);
    if (stream.pending !== undefined)
      return addAndNormalize(graph, stream.sum, stream.pending, scale, config.normEpsilon);
    return { normalized: rmsNorm(graph, stream.sum, scale, config.normEpsilon), sum: stream.sum };
  }
}
