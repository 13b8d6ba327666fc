/** Odd text, broken files, and what a single piece adds. */

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import type { HuggingFaceTokenizer } from '../../../src/runtime/tokenizer/hugging-face-tokenizer.ts';
import { openTokenizer } from '../../support/open-tokenizer.ts';
import { readJsonFile, repositoryPath, sharedPath } from '../../support/oracle.ts';
import { gistMini } from '../../support/scripted-engine.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';
import { smallTokenizers, writeTokenizer } from '../../support/small-tokenizers.ts';

const SEED = 11;
const gistMiniPath = repositoryPath('models/gist-mini/tokenizer.json');
const published = readJsonFile<Record<string, unknown>>(gistMiniPath);

/** What `id` adds behind another token, as the library says; undefined where it is no whole character. */
async function textBehind(tokenizer: HuggingFaceTokenizer, before: number, id: number): Promise<string | undefined> {
  const [alone, both] = [await tokenizer.decode([before]), await tokenizer.decode([before, id])];
  const text = both.slice(alone.length);
  return both.startsWith(alone) && !text.includes('\ufffd') ? text : undefined;
}

async function checkPieces(path: string, word: string): Promise<void> {
  const tokenizer = await openTokenizer(path);
  const next = seededNumbers(SEED);
  const before = (await tokenizer.encode(word, { addSpecialTokens: false })).at(-1);
  assert.ok(before !== undefined && tokenizer.pieceText(before) !== '');
  let checked = 0;
  for (let round = 0; round < 500; round++) {
    const id = Math.floor(next() * tokenizer.vocabularySize);
    const expected = await textBehind(tokenizer, before, id);
    if (expected === undefined) continue;
    assert.equal(tokenizer.pieceText(id), expected, `id ${id}`);
    checked++;
  }
  assert.ok(checked > 50, `${checked} pieces checked`);
}

test(`gist-mini: a piece's text is what it adds behind another (seed ${SEED})`, () => checkPieces(gistMiniPath, 'the'));

for (const path of [
  'tokenizers/flan-t5-small/tokenizer.json',
  'tokenizers/gpt2/tokenizer.json',
  'models/smollm2-135m-instruct/tokenizer.json',
]) {
  const full = sharedPath(path);
  const skip = existsSync(full) ? false : `needs ../shared/${path}`;
  test(`${path}: a piece's text is what it adds behind another (seed ${SEED})`, { skip }, () =>
    checkPieces(full, 'the'),
  );
}

for (const [name, content] of Object.entries(smallTokenizers)) {
  // the library drops the space behind the last piece of a text, which a piece in its middle has
  if (name === 'ends of words') continue;
  test(`${name}: a piece's text is what it adds behind another (seed ${SEED})`, async () =>
    checkPieces(await writeTokenizer(content), name.startsWith('byte') ? '▁the' : 'cat'));
}

test('a lone surrogate is replaced, not fatal', async () => {
  const { tokenizer } = await gistMini();
  assert.deepEqual(await tokenizer.encode('a \ud800 b'), await tokenizer.encode('a \ufffd b'));
  const tokens = await tokenizer.encodeWithOffsets('\udc00\ud800 b', { addSpecialTokens: false });
  assert.equal(tokens.at(-1)?.end, 4);
});

test('offsets count code points', async () => {
  const { tokenizer } = await gistMini();
  const text = '😀😀 cat';
  const tokens = await tokenizer.encodeWithOffsets(text, { addSpecialTokens: false });
  const last = tokens.at(-1);
  // the space before a word is part of its token
  assert.equal([...text].slice(last?.start, last?.end).join(''), ' cat');
  assert.deepEqual((await tokenizer.encodeWithOffsets(text, { most: 1 })).length, 1);
  assert.deepEqual(await tokenizer.encodeWithOffsets(text, { addSpecialTokens: false, most: 1 }), tokens.slice(0, 1));
});

test('a text of a million characters is encoded', async () => {
  const { tokenizer } = await gistMini();
  assert.equal(
    await tokenizer.countTokens('cat '.repeat(250_000)),
    1 + 250_000 * ((await tokenizer.countTokens('cat')) - 1),
  );
});

test('cut to a length, a text keeps its first tokens and its end token', async () => {
  const { tokenizer } = await gistMini();
  const text = '😀 They meet at the old cafe in the evening.';
  const all = await tokenizer.encode(text);
  for (let most = 1; most <= all.length + 1; most++) {
    const { ids, tokenCount, text: kept, truncated } = await tokenizer.encodeWithin(text, most);
    assert.equal(tokenCount, all.length);
    assert.equal(truncated, most < all.length);
    assert.deepEqual(ids, most < all.length ? [...all.slice(0, most - 1), all.at(-1)] : all);
    assert.ok(text.startsWith(kept));
    assert.equal(kept === text, most >= all.length);
  }
});

test('cut to a length, a text keeps what the post-processor puts at both its ends', async () => {
  const path = await writeTokenizer({
    ...published,
    post_processor: {
      type: 'TemplateProcessing',
      single: [
        { SpecialToken: { id: '<pad>', type_id: 0 } },
        { Sequence: { id: 'A', type_id: 0 } },
        { SpecialToken: { id: '</s>', type_id: 0 } },
      ],
      pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 0 } }],
      special_tokens: {
        '<pad>': { id: '<pad>', ids: [0], tokens: ['<pad>'] },
        '</s>': { id: '</s>', ids: [1], tokens: ['</s>'] },
      },
    },
  });
  const tokenizer = await openTokenizer(path);
  const all = await tokenizer.encode('They meet at the old cafe.');
  assert.deepEqual((await tokenizer.encodeWithin('They meet at the old cafe.', 5)).ids, [...all.slice(0, 4), 1]);
  assert.equal(all[0], 0);
});

for (const [name, content] of Object.entries({
  'no object': null,
  'no model': {},
  'an empty vocabulary': { ...published, model: { type: 'Unigram', vocab: [], unk_id: 0 } },
  'an id below zero': { ...published, added_tokens: [{ id: -1, content: 'x', special: true }] },
  // the library ends its process over these two
  'a character map that cannot be parsed': {
    ...published,
    normalizer: { type: 'Precompiled', precompiled_charsmap: 'AAAA' },
  },
  'a template with a token it does not define': {
    ...published,
    post_processor: { ...(published.post_processor as object), special_tokens: {} },
  },
})) {
  test(`a tokenizer.json with ${name} is INVALID_MODEL`, async () => {
    const path = await writeTokenizer(content);
    await assert.rejects(openTokenizer(path), { name: 'RuntimeError', code: 'INVALID_MODEL' });
  });
}

test('a tokenizer.json that cuts and pads by itself does neither here', async () => {
  const path = await writeTokenizer({
    ...published,
    truncation: { direction: 'Right', max_length: 3, strategy: 'LongestFirst', stride: 0 },
    padding: {
      strategy: { Fixed: 64 },
      direction: 'Right',
      pad_to_multiple_of: null,
      pad_id: 0,
      pad_type_id: 0,
      pad_token: '<pad>',
    },
  });
  const tokenizer = await openTokenizer(path);
  const { tokenizer: plain } = await gistMini();
  const text = 'They meet at the old cafe.';
  assert.deepEqual(await tokenizer.encode(text), await plain.encode(text));
});
