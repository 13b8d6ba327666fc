/**
 * ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum, equal in every bit to the Python package rouge-score 0.1.2
 * (https://github.com/google-research/google-research/tree/master/rouge). It does not split texts into sentences:
 * ROUGE-Lsum takes lines for sentences, as the package does by default.
 */
import { RuntimeError } from '../../runtime/errors.ts';
import { finish, type Work, WorkMeter, type WorkTurns } from '../work.ts';
import { LcsTables, tableSteps } from './longest-common-subsequence.ts';
import { PorterStemmer } from './porter-stemmer.ts';
import { RougeTokenizer, type TokenizedText } from './rouge-tokenizer.ts';

export interface RougeScore {
  readonly precision: number;
  readonly recall: number;
  readonly fmeasure: number;
}

export interface RougeScores {
  readonly rouge1: RougeScore;
  readonly rouge2: RougeScore;
  readonly rougeL: RougeScore;
  readonly rougeLsum: RougeScore;
  /** Texts that cannot be scored but with 0, in words; empty for most. */
  readonly warnings: readonly string[];
}

export interface RougeRequest {
  readonly prediction: string;
  /** One or several; of several, each metric takes the one with the highest F-measure, the first of equals. */
  readonly references: readonly string[];
  /** Whether words count as equal when their stems are. Default: true. */
  readonly useStemmer?: boolean;
}

type Metric = Exclude<keyof RougeScores, 'warnings'>;

/**
 * Bound on the work of one request: steps of 32 cells in the tables of common subsequences, which grow with the product
 * of the lengths while all else grows with their sum. It lets 50,000 words on one line be compared with 50,000 others,
 * or 1,000 lines with 1,000 others, and ends in about half a second.
 */
const MAX_TABLE_STEPS = 100_000_000;

/** Bound on the references of one request. */
const MAX_REFERENCES = 1000;

/** What counting costs for each token, in steps of the meter. */
const COUNT_STEPS = 2;

const ZERO: RougeScore = { precision: 0, recall: 0, fmeasure: 0 };

interface Text extends TokenizedText {
  readonly bigrams: Int32Array;
}

function scoreOf(hitCount: number, predictionCount: number, referenceCount: number): RougeScore {
  if (hitCount === 0) return ZERO;
  const precision = hitCount / predictionCount;
  const recall = hitCount / referenceCount;
  // the order of the operations is the package's, for the last bit
  return { precision, recall, fmeasure: (2 * precision * recall) / (precision + recall) };
}

function countIds(ids: Int32Array, size: number): Int32Array {
  const counts = new Int32Array(size);
  for (const id of ids) counts[id] = (counts[id] as number) + 1;
  return counts;
}

/** How many of these ids the other text has as well, each as often as it is in both; `seen` [size], zeros, comes back as it was. */
function overlap(ids: Int32Array, counts: Int32Array, seen: Int32Array): number {
  let hitCount = 0;
  for (const id of ids) {
    const times = (seen[id] as number) + 1;
    seen[id] = times;
    if (times <= (counts[id] as number)) hitCount++;
  }
  for (const id of ids) seen[id] = 0;
  return hitCount;
}

function isOneSentence({ sentences }: TokenizedText): boolean {
  return sentences.length === 1;
}

function stepsOf(prediction: TokenizedText, reference: TokenizedText): number {
  const columnCount = prediction.ids.length;
  const whole = tableSteps(reference.ids.length, columnCount);
  if (isOneSentence(prediction) && isOneSentence(reference)) return whole;
  let bySentence = 0;
  for (const { length } of reference.sentences) bySentence += tableSteps(length, 0);
  bySentence *= prediction.sentences.length;
  for (const { length } of reference.sentences) bySentence += tableSteps(length, columnCount);
  return whole + 2 * bySentence;
}

function checkSteps(prediction: TokenizedText, references: readonly TokenizedText[]): void {
  let steps = 0;
  for (const reference of references) steps += stepsOf(prediction, reference);
  if (steps <= MAX_TABLE_STEPS) return;
  throw new TooLong(steps);
}

/** Texts whose comparison would take too long. */
class TooLong extends RuntimeError {
  constructor(steps: number) {
    const message = `Expected texts that are compared in at most ${MAX_TABLE_STEPS} steps (about the product of their words, through 32), ${steps} came. Compare shorter texts, or fewer references.`;
    super('BAD_USER_INPUT', message, { argument: 'references' });
  }
}

/** Whether texts of so many characters can always be compared with one of so many words and lines. */
function areShort(references: readonly string[], wordCount: number, lineCount: number): boolean {
  const characterCount = references.reduce((sum, { length }) => sum + length, 0);
  // at worst each word is a letter on a line of its own
  const words = Math.ceil((characterCount + references.length) / 2);
  const bySentence = words * (tableSteps(1, 0) * lineCount + tableSteps(1, wordCount));
  return words * tableSteps(1, wordCount) + 2 * bySentence <= MAX_TABLE_STEPS;
}

function checkReferences(references: readonly string[]): void {
  if (references.length > 0 && references.length <= MAX_REFERENCES) return;
  const message = `Expected 1 to ${MAX_REFERENCES} references, ${references.length || 'none'} came. Give at least one, or score in several calls.`;
  throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'references' });
}

/** The best of several by F-measure, the first of equals. */
function bestOf(all: readonly Record<Metric, RougeScore>[], metric: Metric): RougeScore {
  return all.map((scores) => scores[metric]).reduce((best, score) => (score.fmeasure > best.fmeasure ? score : best));
}

function warningsOf(prediction: TokenizedText, references: readonly TokenizedText[]): readonly string[] {
  const names = [prediction, ...references].flatMap(({ ids }, index) => {
    if (ids.length > 0) return [];
    return index === 0 ? 'The prediction' : `Reference ${index} of ${references.length}`;
  });
  return names.map((name) => `${name} has no Latin letters or digits, and ROUGE compares nothing else: it scores 0.`);
}

/** Compares one prediction with references, one at a time. */
class Comparison {
  private readonly tables: LcsTables;
  private readonly tokenCounts: Int32Array;
  private readonly bigramCounts: Int32Array;
  private readonly seen: Int32Array;

  constructor(
    private readonly prediction: Text,
    { tokenCount, bigramCount }: RougeTokenizer,
    private readonly meter: WorkMeter,
  ) {
    this.tokenCounts = countIds(prediction.ids, tokenCount);
    this.bigramCounts = countIds(prediction.bigrams, bigramCount);
    this.tables = new LcsTables(tokenCount, prediction.ids.length, meter);
    this.seen = new Int32Array(Math.max(tokenCount, bigramCount));
  }

  *with(reference: Text): Work<Record<Metric, RougeScore>> {
    const { ids, bigrams } = this.prediction;
    const tokenHits = overlap(reference.ids, this.tokenCounts, this.seen);
    if (this.meter.spend(COUNT_STEPS * reference.ids.length)) yield;
    const bigramHits = overlap(reference.bigrams, this.bigramCounts, this.seen);
    if (this.meter.spend(COUNT_STEPS * reference.ids.length)) yield;
    const lcsLength = yield* this.tables.length(reference.ids, ids);
    const unionHits = yield* this.unionHits(reference, lcsLength);
    return {
      rouge1: scoreOf(tokenHits, ids.length, reference.ids.length),
      rouge2: scoreOf(bigramHits, bigrams.length, reference.bigrams.length),
      rougeL: scoreOf(lcsLength, ids.length, reference.ids.length),
      rougeLsum: scoreOf(unionHits, ids.length, reference.ids.length),
    };
  }

  /** Reference tokens in the union of each sentence's subsequences with all sentences, none more often than predicted. */
  private *unionHits(reference: Text, lcsLength: number): Work<number> {
    if (isOneSentence(reference) && isOneSentence(this.prediction)) return lcsLength;
    const marked = new Uint8Array(reference.ids.length);
    let start = 0;
    for (const sentence of reference.sentences) {
      const marks = marked.subarray(start, start + sentence.length);
      yield* this.tables.markUnion(sentence, this.prediction.sentences, marks);
      start += sentence.length;
    }
    const union = reference.ids.filter((_, index) => marked[index] === 1);
    return overlap(union, this.tokenCounts, this.seen);
  }
}

function* compare(
  { prediction, references }: RougeRequest,
  tokenizer: RougeTokenizer,
  meter: WorkMeter,
): Work<RougeScores> {
  const predicted = yield* tokenizer.tokenize(prediction);
  const expected: TokenizedText[] = [];
  for (const reference of references) expected.push(yield* tokenizer.tokenize(reference));
  checkSteps(predicted, expected);
  const texts: Text[] = [];
  for (const text of [predicted, ...expected]) texts.push({ ...text, bigrams: yield* tokenizer.bigramsOf(text) });
  const comparison = new Comparison(texts[0] as Text, tokenizer, meter);
  if (meter.spend(COUNT_STEPS * predicted.ids.length)) yield;
  const all: Record<Metric, RougeScore>[] = [];
  for (const text of texts.slice(1)) all.push(yield* comparison.with(text));
  return {
    rouge1: bestOf(all, 'rouge1'),
    rouge2: bestOf(all, 'rouge2'),
    rougeL: bestOf(all, 'rougeL'),
    rougeLsum: bestOf(all, 'rougeLsum'),
    warnings: warningsOf(predicted, expected),
  };
}

/** Scores texts; it remembers stems, nothing else. */
export class RougeScorer {
  private readonly stemmer = new PorterStemmer();

  /** `turns`: shared with what else computes in this thread. */
  constructor(private readonly turns: WorkTurns) {}

  /** Scores at once: right for texts of a few thousand words. Throws BAD_USER_INPUT without references or for too long texts. */
  score(request: RougeRequest): RougeScores {
    return finish(this.work(request));
  }

  /** Scores without keeping the event loop from its other work for more than about two milliseconds, however long the texts are. */
  async scoreInTurns(request: RougeRequest): Promise<RougeScores> {
    return this.turns.finish(this.work(request));
  }

  /** As `scoreInTurns`, but texts that are too long score 0, with a warning. */
  async scoreOrWarn(request: RougeRequest): Promise<RougeScores> {
    try {
      return await this.scoreInTurns(request);
    } catch (error) {
      if (!(error instanceof TooLong)) throw error;
      const warning = `The texts are too long to be compared: they score 0. ${error.message}`;
      return { rouge1: ZERO, rouge2: ZERO, rougeL: ZERO, rougeLsum: ZERO, warnings: [warning] };
    }
  }

  /**
   * Rejects with BAD_USER_INPUT when references are too long to be compared with a text of so many words on so many lines:
   * for who knows the references before the text.
   */
  async checkReferences(references: readonly string[], wordCount: number, lineCount: number): Promise<void> {
    if (areShort(references, wordCount, lineCount)) return;
    const tokenized: TokenizedText[] = [];
    for (const reference of references) {
      const tokenizer = new RougeTokenizer(new WorkMeter(), undefined);
      tokenized.push(await this.turns.finish(tokenizer.tokenize(reference)));
    }
    const sentences = new Array<Int32Array>(lineCount).fill(new Int32Array());
    checkSteps({ ids: new Int32Array(wordCount), sentences }, tokenized);
  }

  private work(request: RougeRequest): Work<RougeScores> {
    checkReferences(request.references);
    const meter = new WorkMeter();
    const stemmer = (request.useStemmer ?? true) ? this.stemmer : undefined;
    return compare(request, new RougeTokenizer(meter, stemmer), meter);
  }
}
