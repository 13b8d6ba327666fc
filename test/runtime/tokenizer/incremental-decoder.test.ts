/** Decoding as it grows gives what decoding at once gives, whatever the decoder and however the ids are cut. */

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { IncrementalDecoder } from '../../../src/runtime/tokenizer/incremental-decoder.ts';
import type { Tokenizer } from '../../../src/runtime/tokenizer/tokenizer.ts';
import { openTokenizer } from '../../support/open-tokenizer.ts';
import { oracleTest, readJsonFile, repositoryPath, sharedPath } from '../../support/oracle.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';
import { smallTokenizers, writeTokenizer } from '../../support/small-tokenizers.ts';

const SEED = 20261123;

/** The deltas of ids that come in pieces of random size up to `largest`. */
async function deltasOf(
  tokenizer: Tokenizer,
  ids: readonly number[],
  next: () => number,
  largest: number,
): Promise<readonly string[]> {
  const decoder = new IncrementalDecoder(tokenizer);
  const deltas: string[] = [];
  for (let start = 0; start < ids.length; ) {
    const end = start + 1 + Math.floor(next() * largest);
    deltas.push(await decoder.push(ids.slice(start, end)));
    start = end;
  }
  return [...deltas, await decoder.flush()];
}

async function expectJoined(tokenizer: Tokenizer, ids: readonly number[], next: () => number): Promise<void> {
  const whole = await tokenizer.decode(ids);
  for (const largest of [1, 5]) {
    const deltas = await deltasOf(tokenizer, ids, next, largest);
    assert.equal(deltas.join(''), whole, `pieces of up to ${largest}: ${JSON.stringify(ids)}`);
  }
}

/** Special ids and ids beyond the vocabulary are among them. */
async function expectRandomJoined(tokenizer: Tokenizer, rounds: number, length: number): Promise<void> {
  const next = seededNumbers(SEED);
  for (let round = 0; round < rounds; round++) {
    const ids = Array.from({ length }, () => Math.floor(next() * (tokenizer.vocabularySize + 2)));
    await expectJoined(tokenizer, ids, next);
  }
}

function tokenizerPath(name: string): string {
  const own = sharedPath(`tokenizers/${name}/tokenizer.json`);
  return existsSync(own) ? own : sharedPath('models/smollm2-135m-instruct/tokenizer.json');
}

for (const name of ['flan-t5-small', 'gist-mini', 'gpt2', 'smollm2']) {
  oracleTest(
    `${name}: deltas of every string and of random ids (seed ${SEED})`,
    `oracle/tokenizers/${name}.json`,
    async (path) => {
      const tokenizer = await openTokenizer(tokenizerPath(name));
      const next = seededNumbers(SEED);
      for (const { ids } of readJsonFile<readonly { ids: readonly number[] }[]>(path)) {
        await expectJoined(tokenizer, ids, next);
      }
      await expectRandomJoined(tokenizer, 20, 60);
    },
  );
}

test(`models/gist-mini: deltas of random ids (seed ${SEED})`, async () => {
  await expectRandomJoined(await openTokenizer(repositoryPath('models/gist-mini/tokenizer.json')), 20, 60);
});

for (const [name, content] of Object.entries(smallTokenizers)) {
  test(`${name}: deltas of random ids (seed ${SEED})`, async () => {
    const tokenizer = await openTokenizer(await writeTokenizer(content));
    await expectRandomJoined(tokenizer, 100, 30);
  });
}

test('a character in bytes comes whole, and as soon as it is whole', async () => {
  const tokenizer = await openTokenizer(
    await writeTokenizer({
      version: '1.0',
      added_tokens: [],
      decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      // h, the bytes E4 BD A0 of 你, and a byte that begins nothing
      model: { type: 'WordLevel', vocab: { h: 0, ä: 1, '½': 2, ł: 3, Ģ: 4 }, unk_token: 'h' },
    }),
  );
  const decoder = new IncrementalDecoder(tokenizer);
  const deltas: string[] = [];
  for (const id of [0, 1, 2, 3, 4, 1, 0]) deltas.push(await decoder.push([id]));
  assert.deepEqual([...deltas, await decoder.flush()], ['h', '', '', '你', '\ufffd', '', '\ufffdh', '']);
});

test('the work of a token does not grow with the sequence', async () => {
  const tokenizer = await openTokenizer(repositoryPath('models/gist-mini/tokenizer.json'));
  let decodedCount = 0;
  const counting: Tokenizer = {
    vocabularySize: tokenizer.vocabularySize,
    encode: (text) => tokenizer.encode(text),
    countTokens: (text) => tokenizer.countTokens(text),
    encodeWithin: (text, most) => tokenizer.encodeWithin(text, most),
    encodeWithOffsets: (text) => tokenizer.encodeWithOffsets(text),
    pieceText: (id) => tokenizer.pieceText(id),
    trackCharacters: () => tokenizer.trackCharacters(),
    decode: (ids) => {
      decodedCount += ids.length;
      return tokenizer.decode(ids);
    },
  };
  const decoder = new IncrementalDecoder(counting);
  const ids = await tokenizer.encode('They meet at the old cafe and talk. '.repeat(40));
  for (const id of ids) await decoder.push([id]);
  assert.ok(decodedCount <= 3 * ids.length, `${decodedCount} ids decoded for ${ids.length}`);
});
