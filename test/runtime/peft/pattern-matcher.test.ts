import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PatternBudget, PatternMatcher } from '../../../src/runtime/peft/pattern-matcher.ts';
import { parsePattern } from '../../../src/runtime/peft/pattern-syntax.ts';
import { readJsonFile, repositoryPath } from '../../support/oracle.ts';
import { refuses } from '../../support/refuses.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

interface Fixture {
  readonly linear: readonly string[];
  readonly patterns: readonly (readonly [string, readonly number[]])[];
}

const fixture = readJsonFile<Fixture>(repositoryPath('test/fixtures/peft-targets.json'));

function matcherOf(pattern: string): PatternMatcher {
  return new PatternMatcher(parsePattern('target_modules', pattern), new PatternBudget());
}

for (const [pattern, indexes] of fixture.patterns) {
  test(`${pattern} matches the paths that Python's re.fullmatch matches`, () => {
    const matcher = matcherOf(pattern);
    const matched = [...fixture.linear.keys()].filter((index) => matcher.matches(fixture.linear[index] as string));
    assert.deepEqual(matched, indexes);
  });
}

/** A short expression whose meaning is the same in JavaScript. */
function randomPattern(next: () => number, depth: number): string {
  const pick = (...options: readonly string[]): string => options[Math.floor(next() * options.length)] as string;
  const atom = (): string => {
    if (depth === 0 || next() < 0.6) {
      return pick('a', 'b', 'c', '.', '\\.', '[ab]', '[^a]', '[b-c.]', '\\w', '\\W', '\\b', '^', '$', '');
    }
    return `${pick('(', '(?:', '(?=', '(?!')}${randomPattern(next, depth - 1)})`;
  };
  const repeated = (text: string): string => {
    const assertion = text === '' || /^(\\b|\^|\$|\(\?[=!])/.test(text);
    return assertion ? text : text + pick('', '', '', '*', '+', '?', '*?', '{2}', '{0,2}', '{1,}');
  };
  const sequence = (): string => Array.from({ length: 1 + Math.floor(next() * 3) }, () => repeated(atom())).join('');
  return next() < 0.3 ? `${sequence()}|${sequence()}` : sequence();
}

test('3000 random expressions match what they match in JavaScript, on short texts', () => {
  const seed = 5;
  const next = seededNumbers(seed);
  const letters = ['a', 'b', 'c', '.'];
  for (let round = 0; round < 3000; round++) {
    const pattern = randomPattern(next, 3);
    const matcher = matcherOf(pattern);
    const same = new RegExp(`^(?:${pattern})$`);
    for (let sample = 0; sample < 8; sample++) {
      const text = Array.from({ length: Math.floor(next() * 6) }, () => letters[Math.floor(next() * 4)]).join('');
      assert.equal(matcher.matches(text), same.test(text), `seed ${seed}: ${pattern} on ${JSON.stringify(text)}`);
    }
  }
});

/** Each would take a backtracking engine longer than anyone waits. */
for (const pattern of [
  '(a*)*b',
  '(a|a)*b',
  '(a|aa)+$',
  '((a+)+)+b',
  '(.*)*(.*)*(.*)*x',
  '(?=(a*)*b)a*',
  'a?'.repeat(200),
]) {
  test(`${pattern.slice(0, 20)} is answered though it nests repetitions`, () => {
    assert.equal(matcherOf(pattern).matches(`${'a'.repeat(900)}!`), false);
  });
}

for (const [pattern, what] of [
  ['(a)\\1', /without \\\\?1/],
  ['(?<=a)b', /\(\?<=/],
  ['(?<!a)b', /\(\?<!/],
  ['(?i)q', /\(\?i\)/],
  ['(?>a)b', /\(\?>a/],
  ['(?P=name)', /\(\?P=/],
  ['a*+', /possessive/],
  ['\\pL', /without \\p/],
  ['a{1001}', /more than 1000 times/],
  ['((a{900}){900}){900}', /4000 parts/],
  ['((((){1000}){1000}){1000}){1000}', /4000 parts/],
  [`${'('.repeat(60)}a${')'.repeat(60)}`, /50 groups/],
  ['a'.repeat(4001), /4000 characters, 4001 came/],
] as const) {
  test(`${pattern.slice(0, 30)} is refused as more than is served`, () => {
    assert.throws(() => matcherOf(pattern), refuses('INCOMPATIBLE_ADAPTER', what));
  });
}

for (const [pattern, what] of [
  ['(a', /unclosed/],
  ['a)', /unopened/],
  ['*a', /nothing to repeat/],
  ['a**', /repeated quantifier/],
  ['[ab', /its end/],
  ['[b-a]', /range/],
  ['a\\', /its end/],
  ['a{3,2}', /most is below/],
] as const) {
  test(`${pattern} is refused as no expression`, () => {
    assert.throws(() => matcherOf(pattern), refuses('INVALID_ADAPTER', what));
  });
}
