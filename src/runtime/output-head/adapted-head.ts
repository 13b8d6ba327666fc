/**
 * The output head of rows whose adapters change it. LoRA factors add to the logits of the model's own head, so that
 * factors of zero change no bit; a whole head in its place is an input of a graph of its own, and where it counts
 * otherwise than once, so do the model's own logits: own + Σ weight · (theirs − own). Any number of adapters share these
 * sessions, which are made when the first is asked for.
 */

import type { RowNeeds, RowScores } from '../decoding/decoding-strategy.ts';
import { GraphBuilder } from '../graph/graph-builder.ts';
import { linear } from '../graph/layers.ts';
import { RunLora } from '../graph/lora.ts';
import type { OnnxModel } from '../graph/model-proto.ts';
import type { AdapterCombination } from '../lora/adapter-combination.ts';
import type { AdapterMemory } from '../lora/adapter-memory.ts';
import type { AdapterUnits } from '../lora/adapter-units.ts';
import { CombinationCache } from '../lora/combination-cache.ts';
import { RunFactors } from '../lora/run-factors.ts';
import { HEAD_PATH } from '../models/linear-module.ts';
import { Session } from '../session.ts';
import { floatTensor } from '../tensor.ts';
import { BlendedHead } from './blended-head.ts';
import { declareScores, gatherRows, runScores } from './head-scores.ts';
import type { OutputHead } from './output-head.ts';

/** Rows of a run: one number only, because how onnxruntime cuts a product must not depend on how many rows there are. */
const RUN_ROWS = 16;

interface HeadSessions {
  /** states, logits → scores */
  readonly adapted: Session;
  /** states, head → logits */
  readonly replaced: Session;
}

export interface AdaptedHeadOptions {
  readonly threadCount: number;
  readonly memory: AdapterMemory;
}

export class AdaptedHead {
  private opened: Promise<HeadSessions> | undefined;
  private readonly heads: CombinationCache<BlendedHead>;
  private readonly factors: RunFactors;

  constructor(
    private readonly own: OutputHead,
    private readonly vocabularySize: number,
    private readonly size: number,
    private readonly options: AdaptedHeadOptions,
  ) {
    const { factorBytes, headBytes } = options.memory;
    const module = { path: HEAD_PATH, inSize: size, outSize: this.vocabularySize, hasGain: true };
    this.factors = new RunFactors([module], factorBytes);
    this.heads = new CombinationCache(headBytes, (combination) => new BlendedHead(combination));
  }

  /** Bytes of factors and heads that are kept. */
  get byteLength(): number {
    return this.factors.byteLength + this.heads.byteLength;
  }

  /** Writes one piece of what rows of `combination` need beside `running`; returns its bytes, 0 when nothing is missing. */
  prepare(combination: AdapterCombination, running: readonly AdapterCombination[]): number {
    const { factors, heads } = this;
    const bytes = factors.prepare(combination) || (combination.replacesHead ? heads.of(combination).prepare() : 0);
    const needed = new Set([combination, ...running]);
    factors.evict(needed);
    heads.evict(needed);
    return bytes;
  }

  /** Scores those `rows` of `states` [.., size] whose adapters are `combination`; `needs` by row of `rows`. */
  async score(
    states: Float32Array,
    rows: readonly number[],
    needs: readonly RowNeeds[],
    combination: AdapterCombination,
  ): Promise<readonly RowScores[]> {
    const scores: RowScores[] = [];
    for (let start = 0; start < rows.length; start += RUN_ROWS) {
      const end = start + RUN_ROWS;
      const gathered = gatherRows(states, this.size, rows.slice(start, end), RUN_ROWS);
      scores.push(...(await this.scoreRun(gathered, needs.slice(start, end), combination)));
    }
    return scores;
  }

  /** Lets go of an adapter that no row uses any more. */
  forget(adapter: AdapterUnits): void {
    this.heads.forget(adapter);
    this.factors.forget(adapter);
  }

  async dispose(): Promise<void> {
    const sessions = await this.opened?.catch(() => undefined);
    await sessions?.adapted.dispose();
    await sessions?.replaced.dispose();
  }

  private async scoreRun(
    states: Float32Array,
    needs: readonly RowNeeds[],
    combination: AdapterCombination,
  ): Promise<readonly RowScores[]> {
    this.opened ??= this.open().catch((error: unknown) => {
      this.opened = undefined;
      throw error;
    });
    const { adapted, replaced } = await this.opened;
    const { size, vocabularySize, factors } = this;
    const input = floatTensor(states, [1, RUN_ROWS, size]);
    const logits = combination.replacesHead
      ? await this.replacedLogits(replaced, states, combination)
      : await this.own.logits(states);
    const feeds = {
      ...factors.of(combination),
      states: input,
      logits: floatTensor(logits, [1, RUN_ROWS, vocabularySize]),
    };
    return runScores({ session: adapted, feeds, needs, vocabularySize });
  }

  private async open(): Promise<HeadSessions> {
    const { size, vocabularySize } = this;
    const { threadCount } = this.options;
    const graph = new GraphBuilder('adapted-head');
    const lora = new RunLora(graph, { modules: new Set([HEAD_PATH]), gains: new Set([HEAD_PATH]) });
    const states = graph.input('states', 'float32', [1, RUN_ROWS, size]);
    const own = graph.input('logits', 'float32', [1, RUN_ROWS, vocabularySize]);
    const logits = lora.adapt(HEAD_PATH, states, own, { inSize: size, outSize: vocabularySize });
    const rows = graph.node('Reshape', [logits, graph.integers(-1, vocabularySize)]);
    declareScores(graph, rows, vocabularySize);
    return {
      adapted: await Session.create(graph.build(), { threadCount }),
      replaced: await Session.create(this.buildReplaced(), { threadCount }),
    };
  }

  private buildReplaced(): OnnxModel {
    const { size, vocabularySize } = this;
    const graph = new GraphBuilder('replaced-head');
    const states = graph.input('states', 'float32', [1, RUN_ROWS, size]);
    const logits = linear(graph, states, graph.input('head', 'float32', [vocabularySize, size]));
    graph.output(logits, 'logits', 'float32', [1, RUN_ROWS, vocabularySize]);
    return graph.build();
  }

  /** [RUN_ROWS, vocabulary] of `states` [RUN_ROWS, size]. */
  private async replacedLogits(
    session: Session,
    states: Float32Array,
    combination: AdapterCombination,
  ): Promise<Float32Array> {
    const { size, vocabularySize } = this;
    const blended = this.heads.of(combination);
    const head = floatTensor(blended.whole(), [vocabularySize, size]);
    const feeds = { states: floatTensor(states, [1, RUN_ROWS, size]), head };
    const logits = (await session.run(feeds, ['logits'])).floats('logits');
    const { ownShare } = blended;
    // alone and whole, a head keeps its own bits
    if (ownShare === 0) return logits;
    const own = await this.own.logits(states);
    return logits.map((logit, index) => logit + ownShare * (own[index] as number));
  }
}
