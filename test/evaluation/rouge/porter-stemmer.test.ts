import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { PorterStemmer } from '../../../src/evaluation/rouge/porter-stemmer.ts';
import { oracleTest, readJsonFile, repositoryPath } from '../../support/oracle.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

type Stems = Readonly<Record<string, string>>;

const { stems } = readJsonFile<{ readonly stems: Stems }>(repositoryPath('test/fixtures/rouge.json'));

function assertStems(expected: Iterable<readonly [string, string]>): void {
  const stemmer = new PorterStemmer();
  for (const [word, stem] of expected) assert.equal(stemmer.stem(word), stem, word);
}

test('words of the fixture have the stems that NLTK gives them', () => {
  assertStems(Object.entries(stems));
});

oracleTest('all words of the oracle have the stems that NLTK gives them', 'oracle/rouge/stems.jsonl.gz', (path) => {
  const lines = gunzipSync(readFileSync(path)).toString().trim().split('\n');
  assertStems(lines.map((line) => JSON.parse(line) as [string, string]));
});

test('a remembered stem is the stem', () => {
  const stemmer = new PorterStemmer();
  for (let round = 0; round < 2; round++) {
    for (const [word, stem] of Object.entries(stems)) assert.equal(stemmer.stem(word), stem, word);
  }
  assert.equal(stemmer.cachedWordCount, Object.keys(stems).length);
});

test('what is remembered is bounded, in words and in their length', () => {
  const stemmer = new PorterStemmer();
  let most = 0;
  for (let index = 0; index < 100_000; index++) {
    stemmer.stem(`word${index}`);
    most = Math.max(most, stemmer.cachedWordCount);
  }
  assert.ok(most >= 10_000 && most <= 30_000, `${most}`);
  const before = stemmer.cachedWordCount;
  stemmer.stem('x'.repeat(1000));
  assert.equal(stemmer.cachedWordCount, before);
});

test('more letters of the same kinds before the end change nothing at the end', () => {
  const random = seededNumbers(11);
  const stemmer = new PorterStemmer();
  const letters = (count: number, of: string): string =>
    Array.from({ length: count }, () => of.charAt(Math.floor(random() * of.length))).join('');
  const ends = Object.keys(stems).filter((word) => word.length > 6 && word.length < 20);
  for (const [index, end] of ends.entries()) {
    const of = ['aeiouybcdlst', 'bcdfst', 'aeiou', 'y', 'yb', 'ya'][index % 6] ?? 'a';
    // of 40 letters all are looked at, of more only the end
    const short = letters(2, of) + letters(38 - end.length, 'bd') + end;
    const long = `${short.slice(0, 2)}${'bd'.repeat(30)}${short.slice(2)}`;
    assert.equal(short.length, 40);
    const cut = short.length - stemmer.stem(short).length;
    const stem = stemmer.stem(long);
    assert.equal(long.length - stem.length, cut, `seed 11: ${long}`);
    assert.equal(stem.slice(-10), stemmer.stem(short).slice(-10), `seed 11: ${long}`);
  }
});
