/**
 * Regular expressions of adapter_config.json, parsed. They are Python's and come from files that nobody vouches for, so
 * JavaScript's RegExp is the wrong engine twice: its syntax differs, and it backtracks, which lets a short expression
 * run for years. What is parsed here is what pattern-matcher.ts can answer in linear time, with the meaning that
 * Python's `re` gives it on module paths (ASCII, one line): everything but backreferences, lookbehind, conditions,
 * flags and possessive or atomic groups. Lazy and greedy are one here: only whether it matches is asked.
 */
import { quoted } from '../../storage/storage-error.ts';
import { incompatibleAdapter, invalidAdapter } from './adapter-errors.ts';

/** Which of the 128 ASCII characters belong to it. */
export type CharacterSet = Uint8Array;
export type Assertion = 'start' | 'end' | 'word-boundary' | 'no-word-boundary';

export type PatternNode =
  | { readonly type: 'set'; readonly set: CharacterSet }
  | { readonly type: 'assert'; readonly assertion: Assertion }
  | { readonly type: 'look'; readonly negative: boolean; readonly node: PatternNode }
  | { readonly type: 'sequence'; readonly nodes: readonly PatternNode[] }
  | { readonly type: 'choice'; readonly nodes: readonly PatternNode[] }
  | { readonly type: 'repeat'; readonly node: PatternNode; readonly low: number; readonly high: number };

const ASCII = 128;
const MAX_LENGTH = 4000;
const MAX_DEPTH = 50;
const MAX_COUNT = 1000;
const NEW_LINE = 10;

const ESCAPED_CHARACTERS: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  f: '\f',
  v: '\v',
  a: '\x07',
};
const ASSERTIONS: Readonly<Record<string, Assertion>> = {
  A: 'start',
  Z: 'end',
  b: 'word-boundary',
  B: 'no-word-boundary',
};

function setOf(belongs: (code: number) => boolean): CharacterSet {
  return Uint8Array.from({ length: ASCII }, (_, code) => (belongs(code) ? 1 : 0));
}

function setOfRegExp(expression: RegExp): CharacterSet {
  return setOf((code) => expression.test(String.fromCharCode(code)));
}

function complement(set: CharacterSet): CharacterSet {
  return set.map((flag) => 1 - flag);
}

/** Whether a character is a letter, a digit or an underscore. */
export const WORD = setOfRegExp(/\w/);
export const ANY_CHARACTER = setOf((code) => code !== NEW_LINE);

const CLASSES: Readonly<Record<string, CharacterSet>> = {
  d: setOfRegExp(/\d/),
  D: setOfRegExp(/\D/),
  w: WORD,
  W: complement(WORD),
  s: setOfRegExp(/\s/),
  S: setOfRegExp(/\S/),
};

export function literal(text: string): PatternNode {
  const nodes = [...text].map((character): PatternNode => {
    const code = character.codePointAt(0);
    return { type: 'set', set: setOf((other) => other === code) };
  });
  return { type: 'sequence', nodes };
}

class PatternParser {
  private position = 0;
  private depth = 0;

  constructor(
    private readonly key: string,
    private readonly text: string,
  ) {}

  parse(): PatternNode {
    const node = this.choice();
    if (this.position < this.text.length) this.malformed('an unopened )');
    return node;
  }

  private malformed(what: string): never {
    return invalidAdapter(
      `adapter_config.json: expected ${this.key} to be a regular expression, ${what} came at character ${this.position} of ${quoted(this.text)}. Correct it, or list module names.`,
    );
  }

  private unsupported(what: string): never {
    return incompatibleAdapter(
      `adapter_config.json: expected ${this.key} without ${what}, it came at character ${this.position} of ${quoted(this.text)}. Write the expression without it, or list module names.`,
    );
  }

  private take(text: string): boolean {
    if (!this.text.startsWith(text, this.position)) return false;
    this.position += text.length;
    return true;
  }

  private next(): string {
    const character = this.text[this.position];
    if (character === undefined) return this.malformed('its end');
    this.position++;
    return character;
  }

  private choice(): PatternNode {
    const nodes = [this.sequence()];
    while (this.take('|')) nodes.push(this.sequence());
    return nodes.length === 1 ? (nodes[0] as PatternNode) : { type: 'choice', nodes };
  }

  private sequence(): PatternNode {
    const nodes: PatternNode[] = [];
    while (this.position < this.text.length && !'|)'.includes(this.text[this.position] as string)) {
      nodes.push(this.repeated(this.atom()));
    }
    return { type: 'sequence', nodes };
  }

  private atom(): PatternNode {
    const character = this.next();
    switch (character) {
      case '(':
        return this.group();
      case '[':
        return { type: 'set', set: this.brackets() };
      case '.':
        return { type: 'set', set: ANY_CHARACTER };
      case '^':
        return { type: 'assert', assertion: 'start' };
      case '$':
        return { type: 'assert', assertion: 'end' };
      case '\\':
        return this.escape();
      case '*':
      case '+':
      case '?':
        return this.malformed('nothing to repeat');
      default:
        return literal(character);
    }
  }

  private group(): PatternNode {
    if (++this.depth > MAX_DEPTH) this.unsupported(`more than ${MAX_DEPTH} groups within each other`);
    const look = this.take('?=') ? 'positive' : this.take('?!') ? 'negative' : undefined;
    if (look === undefined && !this.take('?:') && this.take('?')) this.groupName();
    const node = this.choice();
    if (!this.take(')')) this.malformed('an unclosed (');
    this.depth--;
    return look === undefined ? node : { type: 'look', negative: look === 'negative', node };
  }

  private groupName(): void {
    const [name] = /^P<[A-Za-z_]\w{0,63}>/.exec(this.text.slice(this.position, this.position + 70)) ?? [];
    if (name === undefined) {
      this.unsupported(`(?${this.text.slice(this.position, this.position + 2)}`);
    }
    this.position += name.length;
  }

  private escape(): PatternNode {
    const character = this.next();
    if (Object.hasOwn(ASSERTIONS, character)) {
      return { type: 'assert', assertion: ASSERTIONS[character] as Assertion };
    }
    const set = CLASSES[character];
    return set === undefined ? literal(this.escapedCharacter(character)) : { type: 'set', set };
  }

  private escapedCharacter(character: string): string {
    if (!/[A-Za-z0-9]/.test(character)) return character;
    const meant = Object.hasOwn(ESCAPED_CHARACTERS, character) ? ESCAPED_CHARACTERS[character] : undefined;
    return meant ?? this.unsupported(`\\${character}`);
  }

  private brackets(): CharacterSet {
    const negative = this.take('^');
    const set = new Uint8Array(ASCII);
    let first = true;
    while (first || !this.take(']')) {
      first = false;
      const low = this.bracketItem();
      if (typeof low !== 'number') {
        for (const [code, flag] of low.entries()) if (flag === 1) set[code] = 1;
        continue;
      }
      const isRange = this.text[this.position] === '-' && this.text[this.position + 1] !== ']';
      if (isRange) this.position++;
      const high = isRange ? this.bracketItem() : low;
      if (typeof high !== 'number' || high < low) return this.malformed('a range without order');
      set.fill(1, low, high + 1);
    }
    return negative ? complement(set) : set;
  }

  /** A character's code, or a class such as \d. */
  private bracketItem(): number | CharacterSet {
    const character = this.next();
    if (character !== '\\') return character.charCodeAt(0);
    const escaped = this.next();
    return CLASSES[escaped] ?? this.escapedCharacter(escaped).charCodeAt(0);
  }

  private repeated(node: PatternNode): PatternNode {
    const bounds = this.bounds();
    if (bounds === undefined) return node;
    if (node.type === 'assert' || node.type === 'look') this.unsupported('a repeated assertion');
    if (this.take('+')) this.unsupported('a possessive quantifier');
    this.take('?');
    if (this.bounds() !== undefined) this.malformed('a repeated quantifier');
    const [low, high] = bounds;
    return { type: 'repeat', node, low, high };
  }

  /** How often the last part comes; undefined where nothing says so. A brace that holds no numbers is a character. */
  private bounds(): readonly [number, number] | undefined {
    if (this.take('*')) return [0, Number.POSITIVE_INFINITY];
    if (this.take('+')) return [1, Number.POSITIVE_INFINITY];
    if (this.take('?')) return [0, 1];
    const [whole, low = '', comma, high = ''] =
      /^\{(\d{0,9})(,?)(\d{0,9})\}/.exec(this.text.slice(this.position, this.position + 30)) ?? [];
    if (whole === undefined || whole === '{}') return undefined;
    this.position += whole.length;
    const least = Number(low);
    const most = comma === '' ? least : high === '' ? Number.POSITIVE_INFINITY : Number(high);
    if (most < least) this.malformed('a repetition whose most is below its least');
    const largest = most === Number.POSITIVE_INFINITY ? least : most;
    if (largest > MAX_COUNT) this.unsupported(`repetition of more than ${MAX_COUNT} times`);
    return [least, most];
  }
}

/** Parses an expression; `key` is where it stands. Throws INVALID_ADAPTER or INCOMPATIBLE_ADAPTER naming what and where. */
export function parsePattern(key: string, text: string): PatternNode {
  if (text.length > MAX_LENGTH) {
    incompatibleAdapter(
      `adapter_config.json: expected ${key} to have at most ${MAX_LENGTH} characters, ${text.length} came. List module names instead.`,
    );
  }
  return new PatternParser(key, text).parse();
}
