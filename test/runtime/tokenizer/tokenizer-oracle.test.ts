/** Ids, pieces, offsets (code points) and decoded text are the Python library's for every string of the oracle. */

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { openTokenizer } from '../../support/open-tokenizer.ts';
import { oracleTest, readJsonFile, repositoryPath, sharedPath } from '../../support/oracle.ts';

interface TokenizerCase {
  readonly text: string;
  readonly ids: readonly number[];
  readonly tokens: readonly string[];
  readonly offsets: readonly (readonly [number, number])[];
  readonly plainIds: readonly number[];
  readonly decoded: string;
  readonly decodedWithSpecial: string;
}

async function checkCases(casesPath: string, tokenizerPath: string): Promise<void> {
  const tokenizer = await openTokenizer(tokenizerPath);
  for (const one of readJsonFile<readonly TokenizerCase[]>(casesPath)) {
    const name = JSON.stringify(one.text);
    const tokens = await tokenizer.encodeWithOffsets(one.text);
    assert.deepEqual(
      tokens.map(({ id }) => id),
      one.ids,
      name,
    );
    assert.deepEqual(
      tokens.map(({ text }) => text),
      one.tokens,
      name,
    );
    // what the post-processor adds has the range (0, 0) there and none here
    assert.deepEqual(
      tokens.map(({ start, end }) => [start ?? 0, end ?? 0]),
      one.offsets,
      name,
    );
    assert.deepEqual(await tokenizer.encode(one.text, { addSpecialTokens: false }), one.plainIds, name);
    assert.equal(await tokenizer.decode(one.ids), one.decoded, name);
    assert.equal(await tokenizer.decode(one.ids, { skipSpecialTokens: false }), one.decodedWithSpecial, name);
  }
}

test('gist-mini: odd strings', () =>
  checkCases(
    repositoryPath('test/fixtures/tokenizer-gist-mini.json'),
    repositoryPath('models/gist-mini/tokenizer.json'),
  ));

for (const name of ['flan-t5-small', 'gist-mini', 'gpt2', 'smollm2']) {
  oracleTest(`${name}: every string of the oracle`, `oracle/tokenizers/${name}.json`, (path) => {
    const own = sharedPath(`tokenizers/${name}/tokenizer.json`);
    return checkCases(path, existsSync(own) ? own : sharedPath('models/smollm2-135m-instruct/tokenizer.json'));
  });
}
