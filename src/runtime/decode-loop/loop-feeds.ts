/** What a decode loop is fed of its rows: the inputs of build-decode-loop.ts, score-edits.ts and token-choice.ts. */
import { uniform } from '../decoding/random.ts';
import { lengthBucket } from '../engine/kv-cache.ts';
import { countTensor, floatTensor, intTensor, longTensor, type TensorValue } from '../tensor.ts';
import { type LoopRow, madeBy, readsHistory } from './loop-rows.ts';

export type LoopFeeds = Record<string, TensorValue>;

export interface LoopSizes {
  readonly stepCount: number;
  readonly vocabularySize: number;
  readonly eosTokenIds: readonly number[];
}

/** top-p where it is off: sums of shares reach 1 only nearly. */
const ALL_SHARES = 2;
/** Highest logits that are reported at least: among equals a device may not know the lowest id. */
const LEAST_REPORTED = 8;
/** Highest logits that are reported beyond those that the first step needs, where needs grow with the history. */
const MORE_NEEDED = 8;

function longs(rows: readonly LoopRow[], of: (row: LoopRow, place: number) => number): TensorValue {
  return longTensor(rows.map(of), [rows.length, 1]);
}

function floats(rows: readonly LoopRow[], of: (row: LoopRow, place: number) => number): TensorValue {
  return floatTensor(Float32Array.from(rows, of), [rows.length, 1]);
}

/** Numbers 0, 1, … as [1, length]. */
function counting(length: number): TensorValue {
  return longTensor([...new Array(length).keys()], [1, length]);
}

/** Everything but caches, sources and adapters. `positions`: places that a row's cache has. */
export function loopFeeds(rows: readonly LoopRow[], positions: number, sizes: LoopSizes): LoopFeeds {
  const { stepCount } = sizes;
  return {
    step_count: longTensor([stepCount]),
    input_tokens: longs(rows, ({ request, index }) => request.inputTokens[index] as number),
    positions: longs(rows, ({ request, index }) => request.paths.path(index).length),
    cache_places: counting(positions),
    steps_left: longs(rows, (row) => row.params.maxNewTokens - madeBy(row)),
    own_rows: longs(rows, (_, place) => place),
    ...reportFeeds(rows, sizes),
    ...editFeeds(rows, sizes),
    ...independentFeeds(rows, sizes),
    ...beamFeeds(rows),
  };
}

function reportFeeds(rows: readonly LoopRow[], { stepCount, vocabularySize }: LoopSizes): LoopFeeds {
  const whole = rows.flatMap(({ needs }, place) => (needs.allLogits ? [place] : []));
  const growth = rows.some(readsHistory) ? stepCount + MORE_NEEDED : 0;
  const needed = Math.max(LEAST_REPORTED, ...rows.map(({ needs }) => needs.topCount)) + growth;
  return {
    normalized: countTensor(Number(rows.some(({ needs }) => !needs.orderOnly))),
    top_count: countTensor(Math.min(vocabularySize, needed)),
    whole_rows: intTensor(Int32Array.from(whole), [whole.length]),
  };
}

function editFeeds(rows: readonly LoopRow[], { stepCount, vocabularySize, eosTokenIds }: LoopSizes): LoopFeeds {
  const longest = rows.reduce((most, row) => (readsHistory(row) ? Math.max(most, row.history.length) : most), 0);
  const length = longest === 0 ? 1 : lengthBucket(longest + stepCount);
  const tokens: number[] = [];
  const repeats = new Float32Array(rows.length * length);
  const banned = [0, vocabularySize];
  for (const [place, row] of rows.entries()) {
    const { history, params } = row;
    const kept = readsHistory(row) ? history : history.slice(0, 1);
    for (let index = 0; index < length; index++) tokens.push(kept[index] ?? (kept[0] as number));
    if (params.noRepeatNgramSize > 0) {
      repeats.set(repeatsOf(history, params.noRepeatNgramSize), place * length);
    }
    for (const word of params.badWordsIds) {
      const [id] = word;
      const isWord = word.length === 1 && id !== undefined && id < vocabularySize;
      if (isWord && !eosTokenIds.includes(id)) banned.push(place, id);
    }
  }
  const isEdited = longest > 0 || banned.length > 2;
  return {
    minimum_left: longs(rows, (row) => row.params.minNewTokens - madeBy(row)),
    history: longTensor(tokens, [rows.length, length]),
    repeats: floatTensor(repeats, [rows.length, length]),
    history_end: longs(rows, ({ history }) => history.length - 1),
    history_places: counting(length),
    penalty: floats(rows, ({ params }) => params.repetitionPenalty),
    ngram_size: floats(rows, ({ params }) => params.noRepeatNgramSize),
    banned: longTensor(banned, [banned.length / 2, 2]),
    edited: countTensor(Number(isEdited)),
  };
}

/** How many tokens before each place are those that the history ends with; counted up to `most`. */
function repeatsOf(history: readonly number[], most: number): Float32Array {
  const end = history.length - 1;
  return Float32Array.from(history, (_, place) => {
    let same = 0;
    while (same < most && same < place && history[place - 1 - same] === history[end - same]) same++;
    return same;
  });
}

function independentFeeds(rows: readonly LoopRow[], sizes: LoopSizes): LoopFeeds {
  const { stepCount, vocabularySize, eosTokenIds } = sizes;
  const listed = ({ isBeam, params }: LoopRow): number => {
    // enough that every beam has others where its best one ends it
    if (isBeam) return (1 + eosTokenIds.length) * params.numBeams;
    if (!params.doSample) return 1;
    return params.topK > 0 ? params.topK : vocabularySize;
  };
  const listCount = Math.min(vocabularySize, Math.max(2, ...rows.map(listed)));
  const draws = new Float32Array(stepCount * rows.length);
  for (const [place, row] of rows.entries()) {
    const { params, running } = row;
    if (!params.doSample) continue;
    for (let step = 0; step < stepCount; step++) {
      draws[step * rows.length + place] = uniform(params.seed, running.sequenceIndex, madeBy(row) + step);
    }
  }
  return {
    ranks: counting(listCount),
    temperature: floats(rows, ({ params }) => params.temperature),
    top_k: longs(rows, (row) => Math.min(listCount, listed(row))),
    top_p: floats(rows, ({ params }) => (params.topP < 1 ? params.topP : ALL_SHARES)),
    min_p: floats(rows, ({ params }) => params.minP),
    draws: floatTensor(draws, [stepCount, rows.length]),
  };
}

function beamFeeds(rows: readonly LoopRow[]): LoopFeeds {
  const requests = [...new Set(rows.flatMap(({ isBeam, request }) => (isBeam ? [request] : [])))];
  const count = Math.max(1, ...requests.map(({ paths }) => paths.rowCount));
  const groupCount = Math.max(1, requests.length);
  const places: number[] = new Array(groupCount * count).fill(0);
  const bias = new Float32Array(groupCount * count).fill(Number.NEGATIVE_INFINITY);
  const guesses = [...rows.keys()];
  for (const [group, request] of requests.entries()) {
    const first = rows.findIndex((row) => row.request === request);
    for (let beam = 0; beam < count; beam++) {
      const isThere = beam < request.paths.rowCount;
      const place = group * count + beam;
      places[place] = isThere ? first + beam : first;
      if (!isThere) continue;
      bias[place] = 0;
      guesses[first + beam] = rows.length + place;
    }
  }
  return {
    has_beams: countTensor(Number(requests.length > 0)),
    is_beam: floats(rows, ({ isBeam }) => Number(isBeam)),
    beam_scores: floats(rows, ({ isBeam, running }) => (isBeam ? running.score : 0)),
    beam_rows: longTensor(places, [groupCount, count]),
    beam_bias: floatTensor(bias, [groupCount, count, 1]),
    row_guesses: longTensor(guesses, [rows.length]),
  };
}
