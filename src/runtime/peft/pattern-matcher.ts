/**
 * Matches expressions in time proportional to their states and the text, whatever they are: all states that can be
 * reached are walked together (Thompson 1968), nothing is tried again. Texts are read from their end, because then a
 * lookahead is one walk for all positions too.
 */
import { incompatibleAdapter } from './adapter-errors.ts';
import { type Assertion, type PatternNode, WORD } from './pattern-syntax.ts';

type State =
  | { readonly kind: 'accept' }
  | { readonly kind: 'set'; readonly set: Uint8Array; readonly next: number }
  | { readonly kind: 'split'; readonly next: number; other: number }
  | { readonly kind: 'assert'; readonly assertion: Assertion; readonly next: number }
  | { readonly kind: 'look'; readonly program: number; readonly negative: boolean; readonly next: number };

interface Program {
  readonly states: readonly State[];
  readonly start: number;
}

/** Module paths are short; what a model could not be named is matched by nothing. */
const MAX_TEXT_LENGTH = 1000;
const LARGEST_ASCII = 127;

/** What all expressions of one adapter may cost together: each unit is a state, passed once a character. */
export class PatternBudget {
  private left = 4000;

  spend(): void {
    if (this.left-- > 0) return;
    incompatibleAdapter(
      'adapter_config.json: expected regular expressions of at most 4000 parts in all, more came. List module names instead.',
    );
  }
}

/** Writes the states of an expression from its end, so that each part knows what comes next: the text's character before. */
class ProgramWriter {
  private states: State[] = [];

  constructor(
    private readonly programs: Program[],
    private readonly budget: PatternBudget,
  ) {}

  /** Returns the number of the program. Those of its lookaheads have lower ones. */
  write(node: PatternNode): number {
    const outer = this.states;
    this.states = [{ kind: 'accept' }];
    const start = this.compile(node, 0);
    this.programs.push({ states: this.states, start });
    this.states = outer;
    return this.programs.length - 1;
  }

  private add(state: State): number {
    this.budget.spend();
    return this.states.push(state) - 1;
  }

  /** Returns the state that begins `node` and goes on to state `next`. */
  private compile(node: PatternNode, next: number): number {
    // also a part without states costs, or empty parts repeated within each other would be free
    this.budget.spend();
    switch (node.type) {
      case 'set':
        return this.add({ kind: 'set', set: node.set, next });
      case 'assert':
        return this.add({ kind: 'assert', assertion: node.assertion, next });
      case 'look':
        return this.add({ kind: 'look', program: this.write(node.node), negative: node.negative, next });
      case 'sequence':
        // read from the end of the text, the first part comes last
        return node.nodes.reduce((after, part) => this.compile(part, after), next);
      case 'choice': {
        const starts = node.nodes.map((option) => this.compile(option, next));
        return starts.reduce((other, start) => this.add({ kind: 'split', next: start, other }));
      }
      case 'repeat':
        return this.repeat(node, next);
      default:
        return node satisfies never;
    }
  }

  private repeat({ node, low, high }: Extract<PatternNode, { type: 'repeat' }>, next: number): number {
    let start = next;
    if (high === Number.POSITIVE_INFINITY) {
      const loop: State = { kind: 'split', next, other: next };
      start = this.add(loop);
      loop.other = this.compile(node, start);
    } else {
      for (let count = low; count < high; count++) {
        start = this.add({ kind: 'split', next, other: this.compile(node, start) });
      }
    }
    for (let count = 0; count < low; count++) start = this.compile(node, start);
    return start;
  }
}

function isWord(text: string, index: number): boolean {
  return index >= 0 && index < text.length && WORD[text.charCodeAt(index)] === 1;
}

function holds(assertion: Assertion, text: string, position: number): boolean {
  switch (assertion) {
    case 'start':
      return position === 0;
    case 'end':
      return position === text.length;
    case 'word-boundary':
      return isWord(text, position - 1) !== isWord(text, position);
    case 'no-word-boundary':
      return isWord(text, position - 1) === isWord(text, position);
    default:
      return assertion satisfies never;
  }
}

/** One walk of a program over a text, from its end to its start. */
class Walk {
  private readonly marks: Int32Array;
  private reached: number[] = [];

  constructor(
    private readonly program: Program,
    private readonly text: string,
    /** For each program before this one: at which positions it matches. */
    private readonly looks: readonly Uint8Array[],
  ) {
    this.marks = new Int32Array(program.states.length).fill(-1);
  }

  /** Returns at which positions a match begins that ends at the end of the text, or, `anywhere`, at any position. */
  run(anywhere: boolean): Uint8Array {
    const { text, program } = this;
    const begins = new Uint8Array(text.length + 1);
    for (let position = text.length; position >= 0; position--) {
      const entered = this.reached;
      this.reached = [];
      if (anywhere || position === text.length) this.enter(program.start, position);
      for (const index of entered) this.enter(index, position);
      begins[position] = this.marks[0] === position ? 1 : 0;
      this.step(position);
    }
    return begins;
  }

  /** Adds a state and all that follow from it without reading a character. */
  private enter(first: number, position: number): void {
    const waiting = [first];
    for (let index = waiting.pop(); index !== undefined; index = waiting.pop()) {
      if (this.marks[index] === position) continue;
      this.marks[index] = position;
      const state = this.program.states[index] as State;
      switch (state.kind) {
        case 'accept':
          break;
        case 'set':
          this.reached.push(index);
          break;
        case 'split':
          waiting.push(state.next, state.other);
          break;
        case 'assert':
          if (holds(state.assertion, this.text, position)) waiting.push(state.next);
          break;
        case 'look':
          if ((this.looks[state.program]?.[position] === 1) !== state.negative) waiting.push(state.next);
          break;
        default:
          state satisfies never;
      }
    }
  }

  /** Reads the character before `position`: what is reached then are the states behind those that take it. */
  private step(position: number): void {
    const code = position === 0 ? LARGEST_ASCII + 1 : this.text.charCodeAt(position - 1);
    const next: number[] = [];
    for (const index of this.reached) {
      const state = this.program.states[index] as State;
      if (state.kind === 'set' && state.set[code] === 1) next.push(state.next);
    }
    this.reached = next;
  }
}

/** An expression, ready to be held against texts. */
export class PatternMatcher {
  private readonly programs: Program[] = [];

  /** Throws INCOMPATIBLE_ADAPTER when the budget is spent. */
  constructor(node: PatternNode, budget: PatternBudget) {
    new ProgramWriter(this.programs, budget).write(node);
  }

  /** Whether the expression matches the whole text. */
  matches(text: string): boolean {
    if (text.length > MAX_TEXT_LENGTH) return false;
    const looks: Uint8Array[] = [];
    for (const [index, program] of this.programs.entries()) {
      const isLast = index === this.programs.length - 1;
      looks.push(new Walk(program, text, looks).run(!isLast));
    }
    return looks.at(-1)?.[0] === 1;
  }
}
