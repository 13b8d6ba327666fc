/**
 * Porter's stemmer as NLTK runs it by default (NLTK_EXTENSIONS, nltk 3.10.4): the algorithm of 1980
 * (https://tartarus.org/martin/PorterStemmer/def.txt) with a table of irregular words and a few changed rules, which
 * are marked below. It takes lower-case words of a-z and 0-9; a digit counts as a consonant.
 */

/** Suffix and what replaces it. */
type Rule = readonly [suffix: string, replacement: string];

const IRREGULAR: ReadonlyMap<string, string> = new Map([
  ['sky', 'sky'],
  ['skies', 'sky'],
  ['dying', 'die'],
  ['lying', 'lie'],
  ['tying', 'tie'],
  ['news', 'news'],
  ['inning', 'inning'],
  ['innings', 'inning'],
  ['outing', 'outing'],
  ['outings', 'outing'],
  ['canning', 'canning'],
  ['cannings', 'canning'],
  ['howe', 'howe'],
  ['proceed', 'proceed'],
  ['exceed', 'exceed'],
  ['succeed', 'succeed'],
]);

const PLURALS: readonly Rule[] = [
  ['sses', 'ss'],
  ['ies', 'i'],
  ['ss', 'ss'],
  ['s', ''],
];

const RESTORED_E: readonly Rule[] = [
  ['at', 'ate'],
  ['bl', 'ble'],
  ['iz', 'ize'],
];

/** `bli` instead of the paper's `abli`, and `fulli`, are NLTK's. */
const DOUBLE_SUFFIXES: readonly Rule[] = [
  ['ational', 'ate'],
  ['tional', 'tion'],
  ['enci', 'ence'],
  ['anci', 'ance'],
  ['izer', 'ize'],
  ['bli', 'ble'],
  ['alli', 'al'],
  ['entli', 'ent'],
  ['eli', 'e'],
  ['ousli', 'ous'],
  ['ization', 'ize'],
  ['ation', 'ate'],
  ['ator', 'ate'],
  ['alism', 'al'],
  ['iveness', 'ive'],
  ['fulness', 'ful'],
  ['ousness', 'ous'],
  ['aliti', 'al'],
  ['iviti', 'ive'],
  ['biliti', 'ble'],
  ['fulli', 'ful'],
];

const SINGLE_SUFFIXES: readonly Rule[] = [
  ['icate', 'ic'],
  ['ative', ''],
  ['alize', 'al'],
  ['iciti', 'ic'],
  ['ical', 'ic'],
  ['ful', ''],
  ['ness', ''],
];

/** Those that fall when more than one syllable is left; `ion` has a condition of its own and a place in the order. */
const LAST_SUFFIXES: readonly Rule[] = 'al ance ence er ic able ible ant ement ment ent ion ou ism ate iti ous ive ize'
  .split(' ')
  .map((suffix) => [suffix, '']);

const Y = 'y'.charCodeAt(0);
/** [character code] = 1 for a, e, i, o, u. */
const VOWELS = Uint8Array.from({ length: 128 }, (_, code) => ('aeiou'.includes(String.fromCharCode(code)) ? 1 : 0));

/** Whether a letter is a vowel where it stands: y is one after a consonant. */
function isVowel(letter: number, afterConsonant: boolean): boolean {
  return letter === Y ? afterConsonant : VOWELS[letter] === 1;
}

/**
 * A word whose end is being replaced. What the rules ask of a stem depends on its own letters only, so it is counted
 * once from the left, and again only from where an end was replaced.
 */
class Word {
  private readonly consonants: Uint8Array;
  /** [i] = Porter's measure of the first i letters: how often a consonant follows a vowel. */
  private readonly measures: Int32Array;

  constructor(public text: string) {
    // no word grows longer than it came
    this.consonants = new Uint8Array(text.length);
    this.measures = new Int32Array(text.length + 1);
    this.classify(0);
  }

  get length(): number {
    return this.text.length;
  }

  endsWith(suffix: string): boolean {
    return this.text.endsWith(suffix);
  }

  measure(length: number): number {
    return this.measures[length] as number;
  }

  isConsonant(index: number): boolean {
    return this.consonants[index] === 1;
  }

  hasVowel(length: number): boolean {
    return this.consonants.subarray(0, length).includes(0);
  }

  /** Whether the word ends in consonant, vowel, consonant, the last not w, x or y; NLTK adds words of vowel, consonant. */
  endsShort(length: number): boolean {
    const last = length - 1;
    if (length < 2 || !this.isConsonant(last) || this.isConsonant(last - 1)) return false;
    return length === 2 || (this.isConsonant(last - 2) && !'wxy'.includes(this.text.charAt(last)));
  }

  /** Keeps so many letters and puts others behind them. */
  replaceFrom(length: number, replacement: string): void {
    this.text = this.text.slice(0, length) + replacement;
    this.classify(length);
  }

  private classify(from: number): void {
    const { text, consonants, measures } = this;
    let measure = measures[from] ?? 0;
    let afterVowel = from > 0 && consonants[from - 1] === 0;
    for (let index = from; index < text.length; index++) {
      const letter = text.charCodeAt(index);
      const vowel = isVowel(letter, index > 0 && !afterVowel);
      if (!vowel && afterVowel) measure++;
      consonants[index] = vowel ? 0 : 1;
      measures[index + 1] = measure;
      afterVowel = vowel;
    }
  }
}

/** Applies the rule of the first suffix that the word has, if its stem has more than so much measure: true when one was found. */
function applyFirst(word: Word, rules: readonly Rule[], above: number): boolean {
  const rule = rules.find(([suffix]) => word.endsWith(suffix));
  if (rule === undefined) return false;
  const [suffix, replacement] = rule;
  const length = word.length - suffix.length;
  if (word.measure(length) > above) word.replaceFrom(length, replacement);
  return true;
}

/** Measures begin at 0: every stem passes. */
const ALWAYS = -1;

/** Step 1a. NLTK keeps the e of four letters: dies, ties. */
function dropPlural(word: Word): void {
  if (word.length === 4 && word.endsWith('ies')) word.replaceFrom(1, 'ie');
  else applyFirst(word, PLURALS, ALWAYS);
}

/** Step 1b. The rule of `ied` is NLTK's. */
function dropPast(word: Word): void {
  const { length } = word;
  if (word.endsWith('ied')) {
    word.replaceFrom(length - 3, length === 4 ? 'ie' : 'i');
    return;
  }
  if (word.endsWith('eed')) {
    if (word.measure(length - 3) > 0) word.replaceFrom(length - 3, 'ee');
    return;
  }
  const suffix = ['ed', 'ing'].find((end) => word.endsWith(end));
  if (suffix === undefined || !word.hasVowel(length - suffix.length)) return;
  word.replaceFrom(length - suffix.length, '');
  mendStem(word);
}

/** What follows `ed` and `ing`: conflat becomes conflate, hopp hop, fil file. */
function mendStem(word: Word): void {
  if (applyFirst(word, RESTORED_E, ALWAYS)) return;
  const { length, text } = word;
  const last = text.charAt(length - 1);
  if (length > 1 && text.charAt(length - 2) === last && word.isConsonant(length - 1)) {
    if (!'lsz'.includes(last)) word.replaceFrom(length - 1, '');
  } else if (word.measure(length) === 1 && word.endsShort(length)) {
    word.replaceFrom(length, 'e');
  }
}

/** Step 1c, NLTK's: after a consonant that is not the first letter, whether there is a vowel or not. */
function turnY(word: Word): void {
  const stemLength = word.length - 1;
  if (word.endsWith('y') && stemLength > 1 && word.isConsonant(stemLength - 1)) word.replaceFrom(stemLength, 'i');
}

/** Step 2. */
function mergeDoubleSuffix(word: Word): void {
  // NLTK takes alli first, and then looks at what is left
  if (word.endsWith('alli')) {
    const length = word.length - 4;
    if (word.measure(length) > 0) word.replaceFrom(length, 'al');
  }
  if (applyFirst(word, DOUBLE_SUFFIXES, 0)) return;
  // NLTK: the l counts as the stem's, so that geologi becomes geolog
  if (word.endsWith('logi') && word.measure(word.length - 3) > 0) word.replaceFrom(word.length - 1, '');
}

/** Step 4. */
function dropLastSuffix(word: Word): void {
  const beforeIon = word.text.charAt(word.length - 4);
  if (word.endsWith('ion') && beforeIon !== 's' && beforeIon !== 't') return;
  applyFirst(word, LAST_SUFFIXES, 1);
}

/** Step 5. */
function tidyEnd(word: Word): void {
  const stemLength = word.length - 1;
  if (word.endsWith('e')) {
    const measure = word.measure(stemLength);
    if (measure > 1 || (measure === 1 && !word.endsShort(stemLength))) word.replaceFrom(stemLength, '');
  }
  if (word.endsWith('ll') && word.measure(word.length - 1) > 1) word.replaceFrom(word.length - 1, '');
}

function stemOf(text: string): string {
  const irregular = IRREGULAR.get(text);
  if (irregular !== undefined) return irregular;
  if (text.length <= 2) return text;
  const word = new Word(text);
  dropPlural(word);
  dropPast(word);
  turnY(word);
  mergeDoubleSuffix(word);
  applyFirst(word, SINGLE_SUFFIXES, 0);
  dropLastSuffix(word);
  tidyEnd(word);
  return word.text;
}

/** No rule looks at, or takes, a letter that is further from the end. */
const REACH = 40;

/** A few letters of the same kinds as the first `length`: the same measure, counted to two, and the same kind of end. */
function shortHead(text: string, length: number): string {
  let measure = 0;
  let vowel = false;
  for (let index = 0; index < length; index++) {
    const afterVowel = vowel;
    vowel = isVowel(text.charCodeAt(index), index > 0 && !afterVowel);
    if (afterVowel && !vowel) measure++;
  }
  return 'ab'.repeat(Math.min(measure, 2)) + (vowel ? 'a' : measure === 0 ? 'b' : '');
}

/** The stem of a word that may have a million letters, in one look at them. */
function stemOfLong(text: string): string {
  const cut = text.length - REACH;
  const head = shortHead(text, cut);
  return text.slice(0, cut) + stemOf(head + text.slice(cut)).slice(head.length);
}

/** Words whose stem is remembered: a few MB. */
const CACHED_WORDS = 30_000;

/** Stems words one at a time, and remembers those it met last. */
export class PorterStemmer {
  private readonly cache = new Map<string, string>();

  /** Number of words whose stem is remembered. */
  get cachedWordCount(): number {
    return this.cache.size;
  }

  stem(text: string): string {
    if (text.length > REACH) return stemOfLong(text);
    const cached = this.cache.get(text);
    if (cached !== undefined) return cached;
    // starting over costs less than knowing which word was used last
    if (this.cache.size >= CACHED_WORDS) this.cache.clear();
    // a part of a text keeps the whole text in memory, a copy does not
    const copy = Buffer.from(text, 'latin1').toString('latin1');
    const stem = stemOf(copy);
    this.cache.set(copy, stem);
    return stem;
  }
}
