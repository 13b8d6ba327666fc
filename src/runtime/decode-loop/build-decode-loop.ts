/**
 * Several steps of decoding as one ONNX graph: a Loop whose turns read a token of each row, score the next one, guess
 * what the rows' strategies choose, and go on with that. The cache stays inside; what comes out is what strategies need
 * to choose by themselves, and each turn's keys and values. A device whose memory is apart is given the cache once for
 * many steps, not for each.
 *
 *   caches of rows ─► Loop( embed ─► layers ─► head ─► scores ─► edits ─► guess ─► caches, tokens ) ─► reports of all turns
 *
 * The loop is there twice, under an If: reordering caches for beams takes time, and most batches have none.
 */
import type { HeadShape, KeysAndValues } from '../graph/attention.ts';
import {
  BOOL,
  type CarriedValue,
  type GraphBuilder,
  INT32,
  type Value,
  type ValueType,
} from '../graph/graph-builder.ts';
import { highest, logSumExpOf } from '../output-head/head-scores.ts';
import { gatherRowCaches, writeToken } from './row-caches.ts';
import { type RowHistory, ScoreEdits } from './score-edits.ts';
import { BeamChoice, type Guess, IndependentChoice } from './token-choice.ts';

/** What a turn's rows read. */
interface LoopRows {
  /** int64 [rows] */
  readonly tokens: Value;
  /** int64 [rows, 1]: tokens decoded before it, which is its place in the cache. */
  readonly position: Value;
  /** bool [rows, C]: places of the cache that the row sees. */
  readonly isSeen: Value;
  /** By layer, [rows, KV, C, dk]. */
  readonly caches: readonly KeysAndValues[];
}

export interface LoopModel {
  readonly heads: HeadShape;
  readonly layerCount: number;
  readonly vocabularySize: number;
  readonly eosTokenIds: readonly number[];
  /** Adds what turns have in common. `places`: of a row's cache, int64 [1, C] = 0, 1, … */
  readonly prepare: (places: Value) => LoopStep;
}

/** One token of each row: logits [rows, vocabulary]; by layer, its keys and values [rows, KV·dk]. */
export type LoopStep = (rows: LoopRows) => { readonly logits: Value; readonly fresh: readonly KeysAndValues[] };

/** What is carried from turn to turn, in this order; then the caches, keys and values of each layer. */
const CARRIED = [
  { name: 'tokens', type: 'int64', dims: ['rows', 1] },
  { name: 'alive', type: 'float32', dims: ['rows', 1] },
  { name: 'scores', type: 'float32', dims: ['rows', 1] },
  { name: 'history', type: 'int64', dims: ['rows', 'history_length'] },
  { name: 'repeats', type: 'float32', dims: ['rows', 'history_length'] },
] as const;

/** What each turn gives: the graph's outputs, with the steps as their first axis. */
function loopReports({ vocabularySize, heads, layerCount }: Omit<LoopModel, 'prepare'>) {
  const { headCount, headSize, keyValueHeadCount = headCount } = heads;
  return [
    { name: 'tokens', type: 'int32', dims: ['rows', 1] },
    { name: 'parents', type: 'int32', dims: ['rows', 1] },
    { name: 'log_sum_exp', type: 'float32', dims: ['rows', 1] },
    { name: 'top_logits', type: 'float32', dims: ['rows', 'top'] },
    { name: 'top_ids', type: 'int32', dims: ['rows', 'top'] },
    { name: 'asked_logits', type: 'float32', dims: ['rows', 'history_length'] },
    { name: 'all_logits', type: 'float32', dims: ['whole_rows', vocabularySize] },
    { name: 'new_cache', type: 'float32', dims: ['rows', 2 * layerCount * keyValueHeadCount * headSize] },
  ] as const satisfies readonly (ValueType & { readonly name: string })[];
}

/**
 * Declares the graph's inputs, apart from those of the family, and its outputs (`loopReports`), each [steps, …].
 * Inputs: step_count int64 [1]; input_tokens int64 [rows, 1]; positions int64 [rows, 1]; cache_places int64 [1, C];
 * beam_scores float32 [rows, 1]; steps_left int64 [rows, 1]; own_rows int64 [rows, 1] = 0, 1, …; is_beam float32 [rows, 1];
 * whole_rows int32 [n]; has_beams, normalized and top_count, by their length (`GraphBuilder.flag`, `count`); and those of
 * row-caches.ts, score-edits.ts and token-choice.ts.
 */
export function declareDecodeLoop(graph: GraphBuilder, model: LoopModel): void {
  const inputs = declareInputs(graph);
  const parts = {
    inputs,
    step: model.prepare(inputs.places),
    caches: gatherRowCaches(graph, model),
    edits: new ScoreEdits(graph, model.vocabularySize, model.eosTokenIds),
    independent: new IndependentChoice(graph),
    beams: new BeamChoice(graph),
  };
  const reports = loopReports(model);
  const outputs = graph.eitherOf(
    inputs.hasBeams,
    reports.map(({ type, dims }) => ({ type, dims: ['steps', ...dims] })),
    () => new DecodeLoop(graph, model, parts, true).build(),
    () => new DecodeLoop(graph, model, parts, false).build(),
  );
  for (const [index, { name, type, dims }] of reports.entries()) {
    graph.output(outputs[index] as Value, name, type, ['steps', ...dims]);
  }
}

function declareInputs(graph: GraphBuilder) {
  const column = (name: string, type: 'int64' | 'float32'): Value => graph.input(name, type, ['rows', 1]);
  return {
    stepCount: graph.input('step_count', 'int64', [1]),
    tokens: column('input_tokens', 'int64'),
    positions: column('positions', 'int64'),
    places: graph.input('cache_places', 'int64', [1, 'positions']),
    scores: column('beam_scores', 'float32'),
    stepsLeft: column('steps_left', 'int64'),
    ownRows: column('own_rows', 'int64'),
    isBeam: column('is_beam', 'float32'),
    hasBeams: graph.flag('has_beams'),
    isNormalized: graph.flag('normalized'),
    topCount: graph.count('top_count'),
    wholeRows: graph.input('whole_rows', 'int32', ['whole_rows']),
  } as const;
}

interface LoopParts {
  readonly inputs: ReturnType<typeof declareInputs>;
  readonly step: LoopStep;
  readonly caches: readonly KeysAndValues[];
  readonly edits: ScoreEdits;
  readonly independent: IndependentChoice;
  readonly beams: BeamChoice;
}

class DecodeLoop {
  constructor(
    private readonly graph: GraphBuilder,
    private readonly model: LoopModel,
    private readonly parts: LoopParts,
    private readonly hasBeams: boolean,
  ) {}

  /** The reports, [steps, …] each. */
  build(): Value[] {
    const { graph, model, parts } = this;
    const { inputs, caches, edits } = parts;
    const alive = graph.node('Add', [
      graph.node('Mul', [inputs.isBeam, graph.scalar('zero', 0)]),
      graph.scalar('one', 1),
    ]);
    const starts = [inputs.tokens, alive, inputs.scores, edits.start.tokens, edits.start.repeats];
    const carried: CarriedValue[] = CARRIED.map(({ type, dims }, index) => ({
      type,
      dims,
      start: starts[index] as Value,
    }));
    const { headCount, headSize, keyValueHeadCount = headCount } = model.heads;
    const cacheType = { type: 'float32', dims: ['rows', keyValueHeadCount, 'positions', headSize] } as const;
    for (const { keys, values } of caches) {
      carried.push({ ...cacheType, start: keys }, { ...cacheType, start: values });
    }
    const reports = loopReports(model);
    const outputs = graph.loop(inputs.stepCount, carried, reports, (iteration, values) => this.turn(iteration, values));
    return outputs.slice(carried.length);
  }

  private turn(iteration: Value, [tokens, alive, scores, history, repeats, ...cached]: readonly Value[]) {
    const { graph, model, hasBeams } = this;
    const { inputs, step, edits, independent, beams } = this.parts;
    const position = graph.node('Add', [inputs.positions, iteration]);
    const caches = this.parts.caches.map((_, layer) => ({
      keys: cached[2 * layer] as Value,
      values: cached[2 * layer + 1] as Value,
    }));
    const { logits, fresh } = step({
      tokens: graph.node('Reshape', [tokens as Value, graph.integers(-1)]),
      position,
      isSeen: graph.node('Less', [inputs.places, position]),
      caches,
    });
    const top = highest(graph, logits, inputs.topCount);
    const logSumExp = logSumExpOf(graph, logits, top, inputs.isNormalized);
    const before = { tokens: history as Value, repeats: repeats as Value };
    // beams are searched by log-probabilities
    const scored = hasBeams ? graph.node('Sub', [logits, graph.node('Mul', [logSumExp, inputs.isBeam])]) : logits;
    const edited = edits.edit(scored, before, iteration);
    const best = highest(graph, edited, independent.listCount);
    const own = { tokens: independent.choose(best, iteration), parents: inputs.ownRows, scores: scores as Value };
    const guess: Guess = hasBeams ? beams.choose(best, edits.ends(best.ids), own) : own;
    const grown = edits.grown(this.ofParents(before, guess), guess.tokens, iteration);
    const isOwn = graph.node('Unsqueeze', [graph.node('Equal', [inputs.places, position]), graph.integers(1, 3)]); // [rows, 1, C, 1]
    const written = caches.flatMap(({ keys, values }, layer) => {
      const token = fresh[layer] as KeysAndValues;
      return [
        writeToken(graph, keys, token.keys, isOwn, model.heads),
        writeToken(graph, values, token.values, isOwn, model.heads),
      ];
    });
    const { next, goesOn } = this.endings(alive as Value, guess.tokens, iteration);
    return {
      goesOn,
      carried: [
        guess.tokens,
        next,
        hasBeams ? guess.scores : graph.node('Identity', [guess.scores]),
        grown.tokens,
        grown.repeats,
        ...written.map((cache) => this.reordered(cache, guess)),
      ],
      scanned: [
        graph.node('Cast', [guess.tokens], { to: INT32 }),
        graph.node('Cast', [guess.parents], { to: INT32 }),
        logSumExp,
        top.values,
        graph.node('Cast', [top.ids], { to: INT32 }),
        graph.node('GatherElements', [logits, before.tokens], { axis: 1 }),
        graph.node('Gather', [logits, inputs.wholeRows], { axis: 0 }),
        graph.node(
          'Concat',
          fresh.flatMap(({ keys, values }) => [keys, values]),
          { axis: -1 },
        ),
      ],
    };
  }

  /** Rows of the next turn in the place of those that they continue. */
  private reordered(x: Value, { parents }: Guess): Value {
    if (!this.hasBeams) return x;
    const { graph } = this;
    return graph.node('Gather', [x, graph.node('Reshape', [parents, graph.integers(-1)])], { axis: 0 });
  }

  private ofParents({ tokens, repeats }: RowHistory, guess: Guess): RowHistory {
    return { tokens: this.reordered(tokens, guess), repeats: this.reordered(repeats, guess) };
  }

  /** Which rows go on after a turn (beams do until their steps are made), and whether any does. */
  private endings(alive: Value, tokens: Value, iteration: Value): { readonly next: Value; readonly goesOn: Value } {
    const { graph } = this;
    const { inputs, edits } = this.parts;
    const one = graph.scalar('one', 1);
    const ended = graph.node('Mul', [edits.ends(tokens), graph.node('Sub', [one, inputs.isBeam])]);
    const made = graph.node('Add', [iteration, graph.integers(1)]);
    const hasSteps = graph.node('Less', [made, inputs.stepsLeft]);
    const running = graph.node('Mul', [alive, graph.node('Sub', [one, ended])]);
    const next = graph.node('Where', [hasSteps, running, graph.scalar('zero', 0)]);
    const most = graph.node('ReduceMax', [next], { keepdims: 0 });
    return { next, goesOn: graph.node('Cast', [most], { to: BOOL }) };
  }
}
