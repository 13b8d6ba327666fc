/**
 * The output head of rows whose adapters change it: LoRA factors on it, or a whole head in its place. The head is an
 * input here, so that any number of them share one session, which is made when the first is asked for.
 */

import type { RowNeeds, RowScores } from '../decoding/decoding-strategy.ts';
import { GraphBuilder } from '../graph/graph-builder.ts';
import { linear } from '../graph/layers.ts';
import { type AdaptedModule, RunLora } from '../graph/lora.ts';
import type { AdapterCombination } from '../lora/adapter-combination.ts';
import { RunFactors } from '../lora/run-factors.ts';
import { Session } from '../session.ts';
import { floatTensor } from '../tensor.ts';
import { declareScores, gatherRows, runScores } from './head-scores.ts';
import { HEAD_PATH } from './t5-modules.ts';

/** Rows are padded to a multiple: how onnxruntime cuts the product must not depend on how many there are. */
const ROW_MULTIPLE = 16;
/** Heads that are kept in the form that sessions take; each is as large as the model's own. */
const KEPT_HEADS = 4;

interface OpenSession {
  readonly session: Session;
  readonly factors: RunFactors;
}

export class AdaptedHead {
  private opened: Promise<OpenSession> | undefined;
  /** In order of last use. */
  private readonly heads = new Map<AdapterCombination, Float32Array>();
  private readonly vocabularySize: number;

  constructor(
    /** The model's own head, [vocabulary, size]. */
    private readonly head: Float32Array,
    private readonly size: number,
    private readonly threadCount: number,
  ) {
    this.vocabularySize = head.length / size;
  }

  /** Scores those `rows` of `states` [.., size] whose adapters are `combination`; `needs` by row of `rows`. */
  async score(
    states: Float32Array,
    rows: readonly number[],
    needs: readonly RowNeeds[],
    combination: AdapterCombination,
  ): Promise<readonly RowScores[]> {
    this.opened ??= this.open();
    const { session, factors } = await this.opened;
    const { size, vocabularySize } = this;
    const length = Math.ceil(rows.length / ROW_MULTIPLE) * ROW_MULTIPLE;
    const feeds = {
      ...factors.of(combination),
      states: floatTensor(gatherRows(states, size, rows, length), [1, length, size]),
      head: floatTensor(this.headOf(combination), [vocabularySize, size]),
    };
    return runScores({ session, feeds, needs, vocabularySize });
  }

  /** Lets go of an adapter that no row uses any more. */
  async forget(key: string): Promise<void> {
    for (const combination of this.heads.keys()) if (combination.has(key)) this.heads.delete(combination);
    (await this.opened)?.factors.forget(key);
  }

  async dispose(): Promise<void> {
    await (await this.opened)?.session.dispose();
  }

  private async open(): Promise<OpenSession> {
    const { size, vocabularySize, threadCount } = this;
    const graph = new GraphBuilder('adapted-head');
    const everything = { modules: new Set([HEAD_PATH]), gains: new Set([HEAD_PATH]) };
    const lora = new RunLora(graph, everything);
    const states = graph.input('states', 'float32', [1, 'rows', size]);
    const head = graph.input('head', 'float32', [vocabularySize, size]);
    const shape = { inSize: size, outSize: vocabularySize };
    const logits = lora.adapt(HEAD_PATH, states, linear(graph, states, head), shape); // [1, r, vocabulary]
    declareScores(graph, graph.node('Reshape', [logits, graph.integers(-1, vocabularySize)]), vocabularySize);
    const modules: readonly AdaptedModule[] = lora.adapted;
    return { session: await Session.create(graph.build(), { threadCount }), factors: new RunFactors(modules) };
  }

  private headOf(combination: AdapterCombination): Float32Array {
    if (!combination.replacesHead) return this.head;
    const head = this.heads.get(combination) ?? combination.headOver(this.head);
    this.heads.delete(combination);
    this.heads.set(combination, head);
    const [oldest] = this.heads.keys();
    if (this.heads.size > KEPT_HEADS && oldest !== undefined) this.heads.delete(oldest);
    return head;
  }
}
