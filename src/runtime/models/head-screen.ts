/**
 * Names the highest logits of a row without multiplying it with the whole float32 head: an 8-bit copy, a quarter of
 * the bytes, says which few ids can be among them, and those ids' logits are then taken from the float32 rows.
 *
 * Nothing is guessed. With ŵ and x̂ the 8-bit weights and states, |w·x − ŵ·x̂| ≤ ‖w − ŵ‖·‖x‖ + ‖ŵ‖·‖x − x̂‖
 * (Cauchy–Schwarz), and a float32 sum of d products is within d·2⁻²⁴·‖w‖·‖x‖ of the true one whatever its order
 * (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1). Ids that these bounds do not tell apart
 * have no answer here: the whole head decides. So the ids are the whole head's own, always.
 */
import { GraphBuilder } from '../graph/graph-builder.ts';
import type { OnnxModel } from '../graph/model-proto.ts';
import { Session } from '../session.ts';
import { byteTensor, floatTensor, longTensor } from '../tensor.ts';

/** Weights of 8 bits where the processor's sums hold them; of 7 where it adds two products in 16 bits (AVX2). */
const LARGEST_WEIGHTS = { eightBits: 127, sevenBits: 63 } as const;
const LARGEST_STATE = 127;
const STATE_ZERO = 128;
/** Ids that the 8-bit head lists for each row; more cost more to select than they save. */
const LISTED = 48;
/** Half a unit in the last place of float32, relative. */
const UNIT_ROUNDOFF = 2 ** -24;
/** Rows over which the share of proven ones is averaged. */
const PROVEN_OVER = 64;
/** Rows that go by without screening once most were not proven: some models' states leave no room for 8 bits. */
const PAUSED_ROWS = 4096;
/** Rows of the head that are quantized together, so that writing the transposed copy stays in the cache. */
const BLOCK = 64;

/** The `count` highest logits of a row, by falling logit. */
export interface HighestLogits {
  readonly ids: readonly number[];
  /** Rounded otherwise than the head's own product would. */
  readonly logits: readonly number[];
}

interface QuantizedHead {
  /** [d, vocabulary] */
  readonly weights: Int8Array;
  /** [vocabulary]: what a unit of a row's weights stands for. */
  readonly scales: Float32Array;
  /** [vocabulary]: ‖w − ŵ‖. */
  readonly errorNorms: Float32Array;
  /** [vocabulary]: the larger of ‖w‖ and ‖ŵ‖. */
  readonly norms: Float32Array;
}

interface ExactLogit {
  readonly id: number;
  readonly logit: number;
  /** The farthest that the head's own float32 product may be from it. */
  readonly roundoff: number;
}

interface QuantizedState {
  readonly scale: number;
  readonly norm: number;
  readonly errorNorm: number;
}

function quantizeHead(head: Float32Array, size: number, largestWeight: number): QuantizedHead {
  const vocabularySize = head.length / size;
  const weights = new Int8Array(head.length);
  const scales = new Float32Array(vocabularySize);
  const errorNorms = new Float32Array(vocabularySize);
  const norms = new Float32Array(vocabularySize);
  for (let block = 0; block < vocabularySize; block += BLOCK) {
    const end = Math.min(block + BLOCK, vocabularySize);
    for (let id = block; id < end; id++) scales[id] = rowScale(head, id * size, size, largestWeight);
    for (let column = 0; column < size; column++) {
      for (let id = block; id < end; id++) {
        weights[column * vocabularySize + id] = Math.round(
          (head[id * size + column] as number) / (scales[id] as number),
        );
      }
    }
    for (let id = block; id < end; id++) {
      const scale = scales[id] as number;
      let [error, norm, quantized] = [0, 0, 0];
      for (let column = 0; column < size; column++) {
        const weight = head[id * size + column] as number;
        const rounded = (weights[column * vocabularySize + id] as number) * scale;
        error += (weight - rounded) ** 2;
        norm += weight ** 2;
        quantized += rounded ** 2;
      }
      errorNorms[id] = Math.sqrt(error);
      norms[id] = Math.sqrt(Math.max(norm, quantized));
    }
  }
  return { weights, scales, errorNorms, norms };
}

function rowScale(head: Float32Array, start: number, size: number, largestWeight: number): number {
  let largest = 0;
  for (let index = start; index < start + size; index++) largest = Math.max(largest, Math.abs(head[index] as number));
  return largest === 0 ? 1 : largest / largestWeight;
}

/**
 * Inputs: states [r, d], uint8 around 128; count [1]. Outputs: logits and ids [r, count], best first; the logits in
 * units of the row's own scale, which does not change their order.
 */
function buildScreen({ weights, scales }: Pick<QuantizedHead, 'weights' | 'scales'>, size: number): OnnxModel {
  const graph = new GraphBuilder('head-screen');
  const vocabularySize = scales.length;
  const states = graph.input('states', 'uint8', ['rows', size]);
  const logits = graph.node('MatMulIntegerToFloat', [
    states,
    graph.weight('weights', byteTensor(weights, [size, vocabularySize])),
    graph.weight('state_scale', floatTensor(new Float32Array([1]), [])),
    graph.weight('weight_scales', floatTensor(scales, [vocabularySize])),
    graph.weight('state_zero', byteTensor(new Uint8Array([STATE_ZERO]), [])),
    graph.weight('weight_zero', byteTensor(new Int8Array(1), [])),
  ]);
  const count = graph.input('count', 'int64', [1]);
  const best = graph.nodeWithOutputs('TopK', [logits, count], { axis: -1, largest: 1, sorted: 1 }, 2);
  graph.output(best[0] as (typeof best)[number], 'logits', 'float32', ['rows', 'count']);
  graph.output(graph.node('Cast', [best[1] as (typeof best)[number]], { to: 6 }), 'ids', 'int32', ['rows', 'count']);
  return graph.build();
}

/** Asks the processor, by products whose sums are as large as they get. */
async function largestExactWeight(threadCount: number): Promise<number> {
  const size = 64;
  const weights = new Int8Array(size * size).fill(LARGEST_WEIGHTS.eightBits);
  const session = await Session.create(buildScreen({ weights, scales: new Float32Array(size).fill(1) }, size), {
    threadCount,
  });
  try {
    // a single row and several take different kernels
    for (const rows of [1, 16]) {
      const states = byteTensor(new Uint8Array(rows * size).fill(255), [rows, size]);
      const outputs = await session.run({ states, count: longTensor([1]) }, ['logits']);
      const exact = size * (255 - STATE_ZERO) * LARGEST_WEIGHTS.eightBits;
      if (outputs.floats('logits').some((sum) => sum !== exact)) return LARGEST_WEIGHTS.sevenBits;
    }
    return LARGEST_WEIGHTS.eightBits;
  } finally {
    await session.dispose();
  }
}

export class HeadScreen {
  /** Most logits that can be asked of a row. */
  readonly maxCount = LISTED / 4;
  private readonly largestErrorNorm: number;
  private readonly largestNorm: number;
  /** Running share of rows whose logits could be proven. */
  private provenShare = 1;
  private pausedRows = 0;

  private constructor(
    private readonly session: Session,
    private readonly head: Float32Array,
    private readonly size: number,
    private readonly norms: Pick<QuantizedHead, 'errorNorms' | 'norms'>,
  ) {
    this.largestErrorNorm = norms.errorNorms.reduce((largest, norm) => Math.max(largest, norm), 0);
    this.largestNorm = norms.norms.reduce((largest, norm) => Math.max(largest, norm), 0);
  }

  /** `head` [vocabulary, size] is kept, not copied. */
  static async create(head: Float32Array, size: number, threadCount: number): Promise<HeadScreen> {
    const quantized = quantizeHead(head, size, await largestExactWeight(threadCount));
    const session = await Session.create(buildScreen(quantized, size), { threadCount });
    const { errorNorms, norms } = quantized;
    return new HeadScreen(session, head, size, { errorNorms, norms });
  }

  /** Whether screening so many rows is likely to save more than it costs. It changes when answers come, never what they are. */
  pays(rowCount: number): boolean {
    if (this.pausedRows === 0) return true;
    this.pausedRows = Math.max(0, this.pausedRows - rowCount);
    return false;
  }

  /** `states` [rows, size]; for each row the `counts[row]` highest logits, or undefined where they cannot be proven. */
  async highest(states: Float32Array, counts: readonly number[]): Promise<readonly (HighestLogits | undefined)[]> {
    const { size, head } = this;
    const bytes = new Uint8Array(states.length);
    const rows = counts.map((_, row) =>
      quantizeState(states.subarray(row * size, (row + 1) * size), bytes, row * size),
    );
    const listed = Math.min(LISTED, head.length / size);
    const outputs = await this.session.run(
      { states: byteTensor(bytes, [counts.length, size]), count: longTensor([listed]) },
      ['logits', 'ids'],
    );
    const logits = outputs.floats('logits');
    const ids = outputs.ints('ids');
    return rows.map((state, row) => {
      const list = { ids: ids.subarray(row * listed, (row + 1) * listed), logits: logits.subarray(row * listed) };
      const highest = this.prove(states.subarray(row * size, (row + 1) * size), state, list, counts[row] as number);
      this.count(highest !== undefined);
      return highest;
    });
  }

  async dispose(): Promise<void> {
    await this.session.dispose();
  }

  private count(proven: boolean): void {
    this.provenShare += (Number(proven) - this.provenShare) / PROVEN_OVER;
    if (this.provenShare >= 0.5) return;
    this.provenShare = 1;
    this.pausedRows = PAUSED_ROWS;
  }

  private prove(
    state: Float32Array,
    { scale, norm, errorNorm }: QuantizedState,
    listed: { readonly ids: Int32Array; readonly logits: Float32Array },
    count: number,
  ): HighestLogits | undefined {
    const { size, head } = this;
    const { errorNorms, norms } = this.norms;
    const relativeRoundoff = size * UNIT_ROUNDOFF;
    // a logit, rounding included, is no farther than this from its screened value
    const distance = (weightErrorNorm: number, weightNorm: number): number =>
      weightErrorNorm * norm + weightNorm * (errorNorm + 2 * relativeRoundoff * norm);
    const farthest = distance(this.largestErrorNorm, this.largestNorm);
    const best: ExactLogit[] = [];
    for (let rank = 0; rank < listed.ids.length; rank++) {
      const screened = (listed.logits[rank] as number) * scale;
      const id = listed.ids[rank] as number;
      const last = best[count - 1];
      if (last !== undefined) {
        const reach = last.logit - last.roundoff - screened;
        // neither this id nor any after it, listed or not, reaches the last one wanted
        if (farthest < reach) return ordered(best, count);
        if (distance(errorNorms[id] as number, norms[id] as number) < reach) continue;
      }
      const logit = exactLogit(head, id, state, relativeRoundoff);
      let place = best.length;
      while (place > 0 && (best[place - 1] as ExactLogit).logit < logit.logit) place--;
      if (place <= count) best.splice(place, 0, logit);
      if (best.length > count + 1) best.pop();
    }
    return undefined;
  }
}

/** The first `count` of the best, if rounding cannot turn their order or let the next one in. */
function ordered(best: readonly ExactLogit[], count: number): HighestLogits | undefined {
  for (let rank = 0; rank < count; rank++) {
    const [logit, next] = [best[rank] as ExactLogit, best[rank + 1]];
    if (next !== undefined && !(logit.logit - next.logit > logit.roundoff + next.roundoff)) return undefined;
  }
  const highest = best.slice(0, count);
  return { ids: highest.map(({ id }) => id), logits: highest.map(({ logit }) => logit) };
}

/** Writes a row as bytes around 128 at `offset`, and returns what was lost. A row of zeros, or not finite, has NaN norms: it proves nothing. */
function quantizeState(state: Float32Array, bytes: Uint8Array, offset: number): QuantizedState {
  let largest = 0;
  for (const value of state) largest = Math.max(largest, Math.abs(value));
  const scale = largest / LARGEST_STATE;
  let [squares, errors] = [0, 0];
  for (let index = 0; index < state.length; index++) {
    const value = state[index] as number;
    const rounded = Math.round(value / scale);
    bytes[offset + index] = rounded + STATE_ZERO;
    squares += value ** 2;
    errors += (value - rounded * scale) ** 2;
  }
  return { scale, norm: Math.sqrt(squares), errorNorm: Math.sqrt(errors) };
}

/** Σ head[id, i] · state[i] in float64, with what a float32 sum may be off. */
function exactLogit(head: Float32Array, id: number, state: Float32Array, relativeRoundoff: number): ExactLogit {
  const size = state.length;
  const start = id * size;
  let [logit, magnitude] = [0, 0];
  for (let index = 0; index < size; index++) {
    const product = (head[start + index] as number) * (state[index] as number);
    logit += product;
    magnitude += Math.abs(product);
  }
  return { id, logit, roundoff: relativeRoundoff * magnitude };
}
