/**
 * What the runners of all families share that make one step a run: the decoder's session over rows of a batch, the table
 * of word embeddings and the output head. Which tokens and positions rows see is the runners' own.
 */

import type { RowNeeds, RowScores } from '../decoding/decoding-strategy.ts';
import type { CacheShape } from '../engine/kv-cache.ts';
import type { DecodedSteps, Numbers } from '../engine/model-runner.ts';
import type { StepPlan } from '../engine/step-plan.ts';
import { invariant } from '../errors.ts';
import { ROW_ZEROS, rowZeros } from '../graph/quantized-linear.ts';
import type { AdapterCombination } from '../lora/adapter-combination.ts';
import type { AdapterMemory } from '../lora/adapter-memory.ts';
import type { RunFactors } from '../lora/run-factors.ts';
import type { RowHeads } from '../output-head/row-heads.ts';
import type { SessionOutputs } from '../session.ts';
import { intTensor, type TensorValue } from '../tensor.ts';
import { type AdaptableSession, AdaptingRunner, adaptersByRow } from './adapting-runner.ts';
import type { EmbeddingTable } from './embedding-table.ts';
import type { ModelConfig } from './model-config.ts';

export interface BatchRunnerParts {
  readonly decoder: AdaptableSession;
  /** Undefined: rows are read, none is scored. */
  readonly heads: RowHeads | undefined;
  readonly table: EmbeddingTable;
  readonly memory: AdapterMemory;
  /** Of each session. */
  readonly threadCount: number;
}

interface BatchShape extends CacheShape {
  /** As in AdaptingRunnerParts. */
  readonly runFactors?: RunFactors;
}

/** Rows of a run of the decoder: singles, then those of each group. */
export interface DecoderRows {
  /** Rows of each group. */
  readonly groups: readonly number[];
  /** By row. */
  readonly adapters: readonly AdapterCombination[];
}

/** Queries that each group is padded to: a single one would take another kernel. */
export function queriesOf(groups: readonly number[]): number {
  return Math.max(2, ...groups);
}

/** One step: nothing was guessed. */
class DecodedStep implements DecodedSteps {
  private readonly stride: number;

  constructor(
    private readonly rows: readonly RowScores[],
    private readonly cache: Float32Array,
  ) {
    this.stride = cache.length / rows.length;
  }

  scores(step: number, row: number, _needs: RowNeeds): RowScores | undefined {
    return step === 0 ? this.rows[row] : undefined;
  }

  successor(): undefined {
    return undefined;
  }

  newCache(_step: number, row: number): Numbers {
    return { data: this.cache, offset: row * this.stride };
  }
}

export abstract class BatchRunner extends AdaptingRunner {
  protected readonly table: EmbeddingTable;

  constructor(
    model: ModelConfig,
    private readonly parts: BatchRunnerParts,
    shape: BatchShape,
  ) {
    const others = parts.heads === undefined ? [] : [parts.heads];
    super(model, { ...parts, cache: shape, runFactors: shape.runFactors, others });
    this.table = parts.table;
  }

  mostSteps(): number {
    return 1;
  }

  /** Runs the decoder over rows; `feeds` are the inputs that are the family's own. */
  protected async runRows(
    feeds: Readonly<Record<string, TensorValue>>,
    rows: DecoderRows,
    outputNames: readonly string[],
  ): Promise<SessionOutputs> {
    const { groups, adapters } = rows;
    const all: Record<string, TensorValue> = { ...feeds };
    all[ROW_ZEROS] = rowZeros(adapters.length);
    feedGroups(all, groups);
    Object.assign(all, this.adapterFeeds(adapters));
    return this.parts.decoder.session.run(all, outputNames);
  }

  /** Runs one step of the plan's rows and scores them. */
  protected async runStep(plan: StepPlan, feeds: Readonly<Record<string, TensorValue>>): Promise<DecodedSteps> {
    const { heads } = this.parts;
    invariant(heads !== undefined, 'rows that are decoded are scored');
    const rows = {
      groups: plan.groups.map(({ paths }) => paths.rowCount),
      adapters: adaptersByRow(plan),
    };
    const outputs = await this.runRows(feeds, rows, ['new_cache', 'states']);
    const scores = await heads.score(outputs.floats('states'), plan.needs, rows.adapters);
    return new DecodedStep(scores, outputs.floats('new_cache'));
  }
}

/** The tokens that the rows of a step read, in the order of the rows. */
export function inputTokens({ singles, groups }: StepPlan): readonly number[] {
  return [...singles, ...groups].flatMap((request) => [...request.inputTokens]);
}

/** The inputs of attention.ts that say which rows are whose: rows counted from the first group's first. */
function feedGroups(feeds: Record<string, TensorValue>, groups: readonly number[]): void {
  const queries = queriesOf(groups);
  const rows = new Int32Array(groups.length * queries);
  const places: number[] = [];
  for (const [group, rowCount] of groups.entries()) {
    const first = places.length;
    for (let query = 0; query < queries; query++) {
      if (query < rowCount) places.push(group * queries + query);
      rows[group * queries + query] = query < rowCount ? first + query : first;
    }
  }
  feeds['groups.rows'] = intTensor(rows, [groups.length, queries]);
  feeds['groups.places'] = intTensor(Int32Array.from(places), [places.length]);
}
