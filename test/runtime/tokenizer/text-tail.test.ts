/** Our end of a text is the end of the library's, whatever the decoder. */

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { TextTail } from '../../../src/runtime/tokenizer/text-tail.ts';
import { openTokenizer } from '../../support/open-tokenizer.ts';
import { repositoryPath, sharedPath } from '../../support/oracle.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';
import { smallTokenizers, writeTokenizer } from '../../support/small-tokenizers.ts';

const SEED = 20261124;

function commonLength(first: string, second: string): number {
  let length = 0;
  while (length < first.length && first[length] === second[length]) length++;
  return length;
}

/** Special ids and ids beyond the vocabulary are among them. */
async function expectTails(path: string, rounds: number, longest: number): Promise<void> {
  const tokenizer = await openTokenizer(path);
  const tail = new TextTail(tokenizer.vocabulary);
  const next = seededNumbers(SEED);
  for (let round = 0; round < rounds; round++) {
    const ids = Array.from({ length: longest }, () => Math.floor(next() * (tokenizer.vocabularySize + 2)));
    let before = '';
    for (let count = 1; count <= ids.length; count++) {
      const sofar = ids.slice(0, count);
      const whole = await tokenizer.decode(sofar);
      const about = `ids ${JSON.stringify(sofar)}`;
      assert.equal(tail.of(sofar, Number.POSITIVE_INFINITY), whole, about);
      const length = Math.floor(next() * 8);
      const end = tail.of(sofar, length);
      assert.ok(whole.endsWith(end), `${JSON.stringify(end)} ends ${JSON.stringify(whole)}: ${about}`);
      const firstChange = commonLength(before, whole);
      assert.ok(
        whole.length - end.length <= Math.max(0, firstChange - length),
        `${JSON.stringify(end)} is long: ${about}`,
      );
      before = whole;
    }
  }
}

for (const [name, content] of Object.entries(smallTokenizers)) {
  test(`${name}: the end of random ids' text (seed ${SEED})`, async () =>
    expectTails(await writeTokenizer(content), 200, 12));
}

test(`models/gist-mini: the end of random ids' text (seed ${SEED})`, () =>
  expectTails(repositoryPath('models/gist-mini/tokenizer.json'), 20, 20));

for (const path of [
  'tokenizers/flan-t5-small/tokenizer.json',
  'tokenizers/gpt2/tokenizer.json',
  'models/smollm2-135m-instruct/tokenizer.json',
]) {
  const full = sharedPath(path);
  const skip = existsSync(full) ? false : `needs ../shared/${path}`;
  test(`${path}: the end of random ids' text (seed ${SEED})`, { skip }, () => expectTails(full, 20, 20));
}

test('the work of a token does not grow with the sequence', async () => {
  const tokenizer = await openTokenizer(repositoryPath('models/gist-mini/tokenizer.json'));
  const ids = await tokenizer.encode('They meet at the old cafe and talk. '.repeat(40), { addSpecialTokens: false });
  const tail = new TextTail(tokenizer.vocabulary);
  for (let count = 100; count <= ids.length; count++) {
    assert.ok(tail.of(ids.slice(0, count), 10).length < 60);
  }
});
