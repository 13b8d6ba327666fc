import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PorterStemmer } from '../../../src/evaluation/rouge/porter-stemmer.ts';
import { RougeTokenizer } from '../../../src/evaluation/rouge/rouge-tokenizer.ts';
import { finish, WorkMeter } from '../../../src/evaluation/work.ts';

function tokenizer(stemmer?: PorterStemmer): RougeTokenizer {
  return new RougeTokenizer(new WorkMeter(), stemmer);
}

/** Tokens by lines. */
function idsOf(text: string, from: RougeTokenizer): readonly (readonly number[])[] {
  return finish(from.tokenize(text)).sentences.map((sentence) => [...sentence]);
}

test('of all characters only Latin letters, digits, the dotted capital I and the Kelvin sign are tokens', () => {
  const from = tokenizer();
  const found: number[] = [];
  for (let code = 0; code <= 0x10ffff; code++) {
    if (finish(from.tokenize(String.fromCodePoint(code))).ids.length > 0) found.push(code);
  }
  const expected = [...'0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'].map((c) => c.charCodeAt(0));
  assert.deepEqual(found, [...expected, 0x130, 0x212a]);
  assert.equal(from.tokenCount, 36);
});

test('case and what stands between words do not matter', () => {
  const from = tokenizer();
  const plain = idsOf('one two 3 four', from);
  assert.deepEqual(idsOf('  One—TWO, (3)…four!', from), plain);
  assert.deepEqual(idsOf('one\r\ttwo\u00a03 four', from), plain);
  assert.equal(from.tokenCount, 4);
});

test('a sentence is a line that has a token', () => {
  assert.deepEqual(idsOf('\n\na b\n...\n \nc\r\nb\n', tokenizer()), [[0, 1], [2], [1]]);
  assert.deepEqual(idsOf('', tokenizer()), []);
  assert.deepEqual(idsOf('?\n!', tokenizer()), []);
});

test('words of three characters are not stemmed, longer ones are when there is a stemmer', () => {
  const stemmed = tokenizer(new PorterStemmer());
  assert.deepEqual(idsOf('cat cats dies die ads ad', stemmed), [[0, 0, 1, 1, 2, 3]]);
  assert.deepEqual(idsOf('cat cats dies die', tokenizer()), [[0, 1, 2, 3]]);
});

test('equal pairs of neighbours have equal ids, others do not', () => {
  const from = tokenizer();
  const text = finish(from.tokenize('a b a b b a'));
  assert.deepEqual([...finish(from.bigramsOf(text))], [0, 1, 0, 2, 1]);
  assert.equal(from.bigramCount, 3);
  assert.equal(finish(from.bigramsOf(finish(from.tokenize('a')))).length, 0);
});
