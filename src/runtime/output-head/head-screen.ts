/**
 * Names the highest logits of a row without multiplying it with the whole float32 head: an 8-bit copy, a quarter of
 * the bytes, says which few ids can be among them, and those ids' logits are then taken from the float32 rows.
 *
 * Nothing is guessed. With ŵ and x̂ the 8-bit weights and states, |w·x − ŵ·x̂| ≤ ‖w − ŵ‖·‖x‖ + ‖ŵ‖·‖x − x̂‖
 * (Cauchy–Schwarz), and a float32 sum of d products is within d·2⁻²⁴·‖w‖·‖x‖ of the true one whatever its order
 * (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1). Ids that these bounds do not tell apart
 * have no answer here: the whole head decides. So the ids are the whole head's own, always.
 */
import { GraphBuilder, INT32, type Value } from '../graph/graph-builder.ts';
import type { OnnxModel } from '../graph/model-proto.ts';
import { integerProduct, LARGEST_BYTE, type QuantizedMatrix, ROW_ZERO } from '../graph/quantized-linear.ts';
import { finestExactRange } from '../quantization/exact-range.ts';
import { quantizeRows, type RoundingNorms, roundingNorms } from '../quantization/quantize-rows.ts';
import { Session } from '../session.ts';
import { byteTensor } from '../tensor.ts';

/** Ids that the 8-bit head lists for each row; more cost more to select than they save. */
const LISTED = 64;
/** Half a unit in the last place of float32, relative. */
const UNIT_ROUNDOFF = 2 ** -24;
/** Rows over which the share of proven ones is averaged. */
const PROVEN_OVER = 64;
/** Rows that go by without screening once most were not proven: some models' states leave no room for 8 bits. */
const PAUSED_ROWS = 4096;

/** The highest logits of a row, falling. */
export interface HighestLogits {
  readonly ids: readonly number[];
  /** Rounded otherwise than the head's own product would. */
  readonly logits: readonly number[];
}

/** What is asked of a row. */
export interface WantedLogits {
  /** How many of the highest logits. */
  readonly count: number;
  /** Ids that do not count. */
  readonly banned: ReadonlySet<number>;
}

interface ExactLogit {
  readonly id: number;
  readonly logit: number;
}

interface QuantizedState {
  readonly state: Float32Array;
  readonly scale: number;
  readonly norm: number;
  readonly errorNorm: number;
}

interface ListedLogits {
  readonly ids: Int32Array;
  /** In units of the state's scale, falling. */
  readonly logits: Float32Array;
}

/**
 * Inputs: states [r, d], uint8 around 128. Outputs: logits and ids [r, listed], best first; the logits in units of the
 * row's own scale, which does not change their order.
 */
function buildScreen(matrix: QuantizedMatrix, size: number): OnnxModel {
  const graph = new GraphBuilder('head-screen');
  const vocabularySize = matrix.scales.length;
  const states = graph.input('states', 'uint8', ['rows', size]);
  const logits = integerProduct(graph, states, 'weights', matrix);
  const listed = Math.min(LISTED, vocabularySize);
  const best = graph.nodeWithOutputs(
    'TopK',
    [logits, graph.integers(listed)],
    { axis: -1, largest: 1, sorted: 1 },
    2,
  ) as [Value, Value];
  graph.output(best[0], 'logits', 'float32', ['rows', listed]);
  graph.output(graph.node('Cast', [best[1]], { to: INT32 }), 'ids', 'int32', ['rows', listed]);
  return graph.build();
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
    private readonly norms: RoundingNorms,
  ) {
    this.largestErrorNorm = norms.errorNorms.reduce((largest, norm) => Math.max(largest, norm), 0);
    this.largestNorm = norms.norms.reduce((largest, norm) => Math.max(largest, norm), 0);
  }

  /** `head` [vocabulary, size] is kept, not copied. */
  static async create(head: Float32Array, size: number, threadCount: number): Promise<HeadScreen> {
    const quantized = quantizeRows(head, size, await finestExactRange(threadCount));
    const session = await Session.create(buildScreen(quantized, size), { threadCount });
    return new HeadScreen(session, head, size, roundingNorms(head, size, quantized));
  }

  /** Whether screening so many rows is likely to save more than it costs. It changes when answers come, never what they are. */
  pays(rowCount: number): boolean {
    if (this.pausedRows === 0) return true;
    this.pausedRows = Math.max(0, this.pausedRows - rowCount);
    return false;
  }

  /** `states` [rows, size]; for each row the highest logits wanted, or undefined where they cannot be proven. */
  async highest(
    states: Float32Array,
    wanted: readonly WantedLogits[],
  ): Promise<readonly (HighestLogits | undefined)[]> {
    const { size } = this;
    const bytes = new Uint8Array(states.length);
    const rows = wanted.map((_, row) =>
      quantizeState(states.subarray(row * size, (row + 1) * size), bytes.subarray(row * size, (row + 1) * size)),
    );
    const outputs = await this.session.run({ states: byteTensor(bytes, [wanted.length, size]) }, ['logits', 'ids']);
    const logits = outputs.floats('logits');
    const ids = outputs.ints('ids');
    const listed = ids.length / wanted.length;
    return rows.map((state, row) => {
      const [start, end] = [row * listed, (row + 1) * listed];
      const list = { ids: ids.subarray(start, end), logits: logits.subarray(start, end) };
      const highest = this.prove(state, list, wanted[row] as WantedLogits);
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

  private prove(row: QuantizedState, listed: ListedLogits, { count, banned }: WantedLogits): HighestLogits | undefined {
    const { head } = this;
    const { errorNorms, norms } = this.norms;
    const { state, scale, norm } = row;
    const roundoff = this.size * UNIT_ROUNDOFF * norm;
    const spread = row.errorNorm + 2 * roundoff;
    // a logit, rounding included, is no farther than this from its screened value, whichever id's it is
    const farthest = this.largestErrorNorm * norm + this.largestNorm * spread;
    const best: ExactLogit[] = [];
    for (let rank = 0; rank < listed.ids.length; rank++) {
      const screened = (listed.logits[rank] as number) * scale;
      const id = listed.ids[rank] as number;
      const last = best[count - 1];
      if (last !== undefined) {
        const reach = last.logit - roundoff * (norms[last.id] as number) - screened;
        // neither this id nor any after it, listed or not, reaches the last one wanted
        if (farthest < reach) return this.ordered(row, best, count);
        if ((errorNorms[id] as number) * norm + (norms[id] as number) * spread < reach) continue;
      }
      if (banned.has(id)) continue;
      const logit = exactLogit(head, id, state);
      let place = best.length;
      while (place > 0 && (best[place - 1] as ExactLogit).logit < logit) place--;
      best.splice(place, 0, { id, logit });
    }
    return undefined;
  }

  /** The first `count` of the best, if rounding cannot turn their order or let another one in. */
  private ordered(row: QuantizedState, best: readonly ExactLogit[], count: number): HighestLogits | undefined {
    const highest = best.slice(0, count);
    for (const [rank, higher] of highest.entries()) {
      for (let next = rank + 1; next < best.length; next++) {
        if (!this.areApart(row, higher, best[next] as ExactLogit)) return undefined;
      }
    }
    return { ids: highest.map(({ id }) => id), logits: highest.map(({ logit }) => logit) };
  }

  /** Whether the head's own float32 product gives the higher one more than the lower one, however it rounds. */
  private areApart({ state, norm }: QuantizedState, higher: ExactLogit, lower: ExactLogit): boolean {
    const { head, size } = this;
    const norms = this.norms.norms;
    const gap = (higher.logit - lower.logit) / (size * UNIT_ROUNDOFF);
    // Σ |w·x| is at most ‖w‖·‖x‖, which is known, and settles all but a few
    if (gap > norm * ((norms[higher.id] as number) + (norms[lower.id] as number))) return true;
    return gap > magnitude(head, higher.id, state) + magnitude(head, lower.id, state);
  }
}

/** Writes a row as bytes around 128, and returns what was lost. A row of zeros, or not finite, has NaN norms: it proves nothing. */
function quantizeState(state: Float32Array, bytes: Uint8Array): QuantizedState {
  let largest = 0;
  for (let index = 0; index < state.length; index++) {
    const size = Math.abs(state[index] as number);
    if (size > largest) largest = size;
  }
  const scale = largest / LARGEST_BYTE;
  const units = 1 / scale;
  let [squares, errors] = [0, 0];
  for (let index = 0; index < state.length; index++) {
    const value = state[index] as number;
    const rounded = Math.floor(value * units + 0.5);
    const error = value - rounded * scale;
    bytes[index] = rounded + ROW_ZERO;
    squares += value * value;
    errors += error * error;
  }
  return { state, scale, norm: Math.sqrt(squares), errorNorm: Math.sqrt(errors) };
}

/** Σ head[id, i] · state[i] in float64. */
function exactLogit(head: Float32Array, id: number, state: Float32Array): number {
  const size = state.length;
  const start = id * size;
  const whole = size - (size % 4);
  // four sums: a single one would wait for each of its additions
  let [a, b, c, d] = [0, 0, 0, 0];
  for (let index = 0; index < whole; index += 4) {
    a += (head[start + index] as number) * (state[index] as number);
    b += (head[start + index + 1] as number) * (state[index + 1] as number);
    c += (head[start + index + 2] as number) * (state[index + 2] as number);
    d += (head[start + index + 3] as number) * (state[index + 3] as number);
  }
  for (let index = whole; index < size; index++) a += (head[start + index] as number) * (state[index] as number);
  return a + b + (c + d);
}

/** Σ |head[id, i] · state[i]|: what a float32 sum's error is relative to. */
function magnitude(head: Float32Array, id: number, state: Float32Array): number {
  let sum = 0;
  for (let index = 0; index < state.length; index++) {
    sum += Math.abs((head[id * state.length + index] as number) * (state[index] as number));
  }
  return sum;
}
