import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { type RougeScore, RougeScorer, type RougeScores } from '../../../src/evaluation/rouge/rouge.ts';
import { WorkTurns } from '../../../src/evaluation/work.ts';
import { RuntimeError } from '../../../src/runtime/errors.ts';
import { oracleTest, readJsonFile, repositoryPath } from '../../support/oracle.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const METRICS = ['rouge1', 'rouge2', 'rougeL', 'rougeLsum'] as const;

type Numbers = readonly number[];
type OracleScores = Readonly<Record<(typeof METRICS)[number], Numbers>>;

/** Precision, recall and F-measure of each metric, in the order of METRICS. */
interface Case {
  readonly prediction: string;
  readonly references: readonly string[];
  readonly stemmed: readonly Numbers[];
  readonly unstemmed: readonly Numbers[];
}

interface FixtureCase extends Omit<Case, 'references'> {
  readonly reference?: string;
  readonly references?: readonly string[];
}

const scorer = new RougeScorer(new WorkTurns());

function numbersOf({ precision, recall, fmeasure }: RougeScore): Numbers {
  return [precision, recall, fmeasure];
}

function allNumbersOf(scores: RougeScores): readonly Numbers[] {
  return METRICS.map((metric) => numbersOf(scores[metric]));
}

function assertCase({ prediction, references, stemmed, unstemmed }: Case): void {
  const texts = { prediction, references };
  const context = JSON.stringify(texts).slice(0, 300);
  // every bit: the operations are the package's, in its order
  assert.deepEqual(allNumbersOf(scorer.score(texts)), stemmed, context);
  assert.deepEqual(allNumbersOf(scorer.score({ ...texts, useStemmer: false })), unstemmed, context);
}

const fixture = readJsonFile<{ readonly pairs: readonly FixtureCase[]; readonly multi: readonly FixtureCase[] }>(
  repositoryPath('test/fixtures/rouge.json'),
);

const cases = [...fixture.pairs, ...fixture.multi].map(
  ({ reference, references = [reference ?? ''], ...rest }): Case => ({ ...rest, references }),
);

test('the fixture: every bit is that of the Python package', () => {
  for (const one of cases) assertCase(one);
});

for (const name of ['pairs', 'multi']) {
  oracleTest(
    `the oracle's ${name}: every bit is that of the Python package`,
    `oracle/rouge/${name}.jsonl.gz`,
    (path) => {
      interface OracleLine {
        readonly prediction: string;
        readonly reference?: string;
        readonly references?: readonly string[];
        readonly stemmed: OracleScores;
        readonly unstemmed: OracleScores;
      }
      for (const line of gunzipSync(readFileSync(path)).toString().trim().split('\n')) {
        const { prediction, reference = '', references = [reference], ...scores } = JSON.parse(line) as OracleLine;
        const inOrder = (of: OracleScores): readonly Numbers[] => METRICS.map((metric) => of[metric]);
        assertCase({
          prediction,
          references,
          stemmed: inOrder(scores.stemmed),
          unstemmed: inOrder(scores.unstemmed),
        });
      }
    },
  );
}

/** So many words, some of them often, with a new line after one of ten where asked. */
function randomText(random: () => number, wordCount: number, lines: boolean): string {
  const word = (): string => `w${'abcdefghij'.charAt(Math.floor(random() ** 2 * 10))}ing`;
  return Array.from({ length: wordCount }, () => word() + (lines && random() < 0.1 ? '\n' : ' ')).join('');
}

const SEED = 77;

function forRandomTexts(lines: boolean, check: (a: string, b: string, context: string) => void): void {
  const random = seededNumbers(SEED);
  for (let index = 0; index < 200; index++) {
    const text = (): string => randomText(random, 1 + Math.floor(random() * 90), lines);
    const [a, b] = [text(), text()];
    check(a, b, `seed ${SEED}, ${JSON.stringify([a, b])}`);
  }
}

const pair = (prediction: string, ...references: readonly string[]): RougeScores =>
  scorer.score({ prediction, references });

test('swapping the texts swaps precision and recall, but for ROUGE-Lsum, which unites over one side', () => {
  forRandomTexts(false, (a, b, context) => {
    const [there, back] = [pair(a, b), pair(b, a)];
    for (const metric of METRICS) {
      assert.equal(there[metric].precision, back[metric].recall, context);
      assert.equal(there[metric].recall, back[metric].precision, context);
    }
  });
});

test('a text compared with itself scores 1, with two words at least', () => {
  forRandomTexts(true, (a) => {
    for (const numbers of allNumbersOf(pair(`two words ${a}`, `two words ${a}`))) assert.deepEqual(numbers, [1, 1, 1]);
  });
});

test('the order of the words does not matter to ROUGE-1', () => {
  forRandomTexts(true, (a, b, context) => {
    const reversed = a.trim().split(/\s+/).reverse().join(' ');
    assert.deepEqual(pair(reversed, b).rouge1, pair(a, b).rouge1, context);
  });
});

test('ROUGE-L and ROUGE-Lsum are not above ROUGE-1, and every number is from 0 to 1', () => {
  forRandomTexts(true, (a, b, context) => {
    const scores = pair(a, b);
    for (const metric of ['rougeL', 'rougeLsum'] as const) {
      assert.ok(scores[metric].precision <= scores.rouge1.precision, context);
      assert.ok(scores[metric].recall <= scores.rouge1.recall, context);
    }
    for (const number of allNumbersOf(scores).flat()) assert.ok(number >= 0 && number <= 1, context);
  });
});

test('with one line each, ROUGE-Lsum is ROUGE-L', () => {
  forRandomTexts(false, (a, b, context) => {
    const { rougeL, rougeLsum } = pair(a, b);
    assert.deepEqual(rougeLsum, rougeL, context);
    assert.deepEqual(pair(`\n...\n${a}`, `${b}\n`).rougeLsum, rougeL, context);
  });
});

test('of several references each metric takes the best, whatever their order', () => {
  const random = seededNumbers(SEED);
  for (let index = 0; index < 100; index++) {
    const [a, b, c, d] = [0, 0, 0, 0].map(() => randomText(random, 20, true)) as [string, string, string, string];
    const alone = [b, c, d].map((reference) => pair(a, reference));
    for (const together of [pair(a, b, c, d), pair(a, d, c, b)]) {
      for (const metric of METRICS) {
        const best = Math.max(...alone.map((scores) => scores[metric].fmeasure));
        assert.equal(together[metric].fmeasure, best, `seed ${SEED}, ${index}`);
      }
    }
  }
});

test('a text without Latin letters or digits scores 0 and is named', () => {
  const zeros = METRICS.map(() => [0, 0, 0]);
  const silent = pair('你好', 'hello');
  assert.deepEqual(allNumbersOf(silent), zeros);
  assert.equal(silent.warnings.length, 1);
  assert.match(silent.warnings[0] ?? '', /^The prediction /);
  const second = pair('hello', 'hello there', '—');
  assert.equal(second.rouge1.precision, 1);
  assert.match(second.warnings.join(), /^Reference 2 of 2 /);
  assert.equal(pair('', '').warnings.length, 2);
  assert.deepEqual(allNumbersOf(pair('', '')), zeros);
  assert.deepEqual(pair('hello', 'world').warnings, []);
});

function assertRefused(references: readonly string[], prediction: string, message: RegExp): void {
  assert.throws(
    () => scorer.score({ prediction, references }),
    (error) =>
      error instanceof RuntimeError &&
      error.code === 'BAD_USER_INPUT' &&
      error.details.argument === 'references' &&
      message.test(error.message),
  );
}

test('no reference, too many, and what would take minutes are refused', async () => {
  assertRefused([], 'a', /at least one/);
  assertRefused(
    Array.from({ length: 1001 }, () => 'a'),
    'a',
    /1001 came/,
  );
  assertRefused(['a '.repeat(100_000)], 'a '.repeat(100_000), /Compare shorter texts/);
  assertRefused(['a\n'.repeat(5000)], 'a\n'.repeat(5000), /Compare shorter texts/);
  await assert.rejects(scorer.scoreInTurns({ prediction: 'a', references: [] }), { code: 'BAD_USER_INPUT' });
});

test('scored in turns, many at a time, the scores are the same', async () => {
  const together = await Promise.all(cases.map((one) => scorer.scoreInTurns(one)));
  assert.deepEqual(
    together,
    cases.map((one) => scorer.score(one)),
  );
});

test('long texts give the event loop a turn after each piece that takes a millisecond', async () => {
  let milliseconds = 0;
  // a clock on which every piece takes a millisecond
  const slow = new RougeScorer(new WorkTurns(() => milliseconds++));
  const random = seededNumbers(SEED);
  const long = { prediction: randomText(random, 10_000, true), references: [randomText(random, 10_000, true)] };
  const work = slow.scoreInTurns(long);
  let turnCount = 0;
  let ended = false;
  const end = work.finally(() => {
    ended = true;
  });
  while (!ended) {
    await new Promise(setImmediate);
    turnCount++;
  }
  await end;
  assert.ok(turnCount > 50, `${turnCount} turns`);
  assert.deepEqual(await work, scorer.score(long));
});

test('many calls at the same time share the turns: no turn has pieces of two', async () => {
  let milliseconds = 0;
  const turnsOfPieces: number[] = [];
  let turn = 0;
  const slow = new RougeScorer(
    new WorkTurns(() => {
      turnsOfPieces.push(turn);
      return milliseconds++;
    }),
  );
  const random = seededNumbers(SEED);
  const requests = [0, 1, 2, 3].map(() => ({
    prediction: randomText(random, 3000, false),
    references: [randomText(random, 3000, false)],
  }));
  let running = requests.length;
  const all = requests.map(async (request) => {
    const scores = await slow.scoreInTurns(request);
    running--;
    return scores;
  });
  while (running > 0) {
    await new Promise(setImmediate);
    turn++;
  }
  await Promise.all(all);
  const perTurn = new Map<number, number>();
  for (const at of turnsOfPieces) perTurn.set(at, (perTurn.get(at) ?? 0) + 1);
  // the clock is read when a turn begins and after its piece
  assert.ok(Math.max(...perTurn.values()) <= 2, JSON.stringify([...perTurn]));
});
