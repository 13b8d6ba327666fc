/**
 * Text to tokens as the Python package rouge-score 0.1.2 does it: lower-case, every run of characters other than a-z and
 * 0-9 is a gap, words of more than three characters are stemmed. Tokens are numbers from a vocabulary; a tokenizer and its
 * vocabulary live as long as one comparison.
 */

import type { Work, WorkMeter } from '../work.ts';
import type { PorterStemmer } from './porter-stemmer.ts';

/** Keys to whole numbers from 0, in the order in which they come. */
class Vocabulary<Key> {
  private readonly ids = new Map<Key, number>();

  get size(): number {
    return this.ids.size;
  }

  idOf(key: Key): number {
    const known = this.ids.get(key);
    if (known !== undefined) return known;
    const id = this.ids.size;
    this.ids.set(key, id);
    return id;
  }
}

export interface TokenizedText {
  readonly ids: Int32Array;
  /** The same ids by lines, without lines that have no token: ROUGE-Lsum takes a line for a sentence. */
  readonly sentences: readonly Int32Array[];
}

/** What a token, a bigram and a text cost, in steps of the meter; a new word costs about a microsecond. */
const TOKEN_STEPS = 100;
const BIGRAM_STEPS = 50;
const TEXT_STEPS = 200;
/** Characters that cost a step each, counted together. */
const COUNTED_CHARACTERS = 16_384;

/** Shorter words are not stemmed. */
const STEMMED_LENGTH = 4;

const NEWLINE = '\n'.charCodeAt(0);

/** a-z and 0-9. */
function isTokenCharacter(code: number): boolean {
  return (code >= 97 && code <= 122) || (code >= 48 && code <= 57);
}

export class RougeTokenizer {
  private readonly tokens = new Vocabulary<string>();
  private readonly bigrams = new Vocabulary<number>();

  /** Without a stemmer words stay as they are. */
  constructor(
    private readonly meter: WorkMeter,
    private readonly stemmer: PorterStemmer | undefined,
  ) {}

  /** Token ids are below this number. */
  get tokenCount(): number {
    return this.tokens.size;
  }

  /** Bigram ids are below this number. */
  get bigramCount(): number {
    return this.bigrams.size;
  }

  *tokenize(text: string): Work<TokenizedText> {
    const lower = text.toLowerCase();
    const ids: number[] = [];
    const sentenceStarts = [0];
    let start = 0;
    if (this.meter.spend(TEXT_STEPS)) yield;
    // the end of the text ends a token as well
    for (let index = 0; index <= lower.length; index++) {
      if (index % COUNTED_CHARACTERS === COUNTED_CHARACTERS - 1 && this.meter.spend(COUNTED_CHARACTERS)) yield;
      const code = index < lower.length ? lower.charCodeAt(index) : NEWLINE;
      if (isTokenCharacter(code)) continue;
      if (index > start) {
        ids.push(this.idOf(lower.slice(start, index)));
        if (this.meter.spend(TOKEN_STEPS)) yield;
      }
      start = index + 1;
      if (code === NEWLINE && sentenceStarts.at(-1) !== ids.length) sentenceStarts.push(ids.length);
    }
    const all = new Int32Array(ids);
    const sentences = sentenceStarts.slice(1).map((end, index) => all.subarray(sentenceStarts[index], end));
    return { ids: all, sentences };
  }

  /** The pairs of neighbours as ids of their own. All texts must have been tokenized. */
  *bigramsOf({ ids }: TokenizedText): Work<Int32Array> {
    const bigrams = new Int32Array(Math.max(0, ids.length - 1));
    for (let index = 0; index < bigrams.length; index++) {
      const pair = (ids[index] as number) * this.tokens.size + (ids[index + 1] as number);
      bigrams[index] = this.bigrams.idOf(pair);
      if (this.meter.spend(BIGRAM_STEPS)) yield;
    }
    return bigrams;
  }

  private idOf(word: string): number {
    const stemmed = this.stemmer !== undefined && word.length >= STEMMED_LENGTH;
    return this.tokens.idOf(stemmed ? this.stemmer.stem(word) : word);
  }
}
