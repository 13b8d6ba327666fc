/**
 * One vocabulary under the rules of four models, against the ids of transformers' own tokenizers
 * (test/fixtures/gguf-files.py), and what is refused because no exact tokenizer can be made of it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GgufFields } from '../../../src/runtime/gguf/gguf-fields.ts';
import { ggufTokenizerJson } from '../../../src/runtime/gguf/gguf-tokenizer.ts';
import { HuggingFaceTokenizer } from '../../../src/runtime/tokenizer/hugging-face-tokenizer.ts';
import { readJsonFile, repositoryPath } from '../../support/oracle.ts';

interface Expected {
  readonly tokens: readonly string[];
  readonly types: readonly number[];
  readonly merges: readonly string[];
  readonly bos: number;
  readonly texts: readonly string[];
  readonly ids: Readonly<Record<string, readonly (readonly number[])[]>>;
  readonly decoded: Readonly<Record<string, readonly string[]>>;
}

type Metadata = Readonly<Record<string, number | boolean | string | readonly string[] | Int32Array<ArrayBuffer>>>;

const expected = readJsonFile<Expected>(repositoryPath('test/fixtures/gguf/tokenizers.json'));
const good: Metadata = {
  model: 'gpt2',
  pre: 'gpt-2',
  tokens: expected.tokens,
  token_type: Int32Array.from(expected.types),
  merges: expected.merges,
  bos_token_id: expected.bos,
};

/** The tokenizer.json of metadata without its prefix; null takes a key away. */
function jsonOf(metadata: Readonly<Record<string, Metadata[string] | null>>, rows = expected.tokens.length): string {
  const entries = Object.entries({ ...good, ...metadata }).filter(
    (entry): entry is [string, Metadata[string]] => entry[1] !== null,
  );
  const named = entries.map(([key, value]) => [`tokenizer.ggml.${key}`, value] as const);
  return ggufTokenizerJson(new GgufFields({ name: 'model.gguf', metadata: new Map(named) }), rows);
}

for (const [pre, ids] of Object.entries(expected.ids)) {
  test(`${pre}: ids and texts are those of the model's own tokenizer`, async () => {
    const tokenizer = await HuggingFaceTokenizer.parse(jsonOf({ pre }));
    for (const [index, text] of expected.texts.entries()) {
      assert.deepEqual(await tokenizer.encode(text), ids[index], JSON.stringify(text));
      const decoded = await tokenizer.decode(ids[index] ?? [], { skipSpecialTokens: false });
      assert.equal(decoded, expected.decoded[pre]?.[index]);
    }
  });
}

test('default: ids are those of llama.cpp, whose rules they are', async () => {
  const path = repositoryPath('test/fixtures/gguf/default-tokens.json');
  const { texts, ids } = readJsonFile<{
    readonly texts: readonly string[];
    readonly ids: readonly (readonly number[])[];
  }>(path);
  const tokenizer = await HuggingFaceTokenizer.parse(jsonOf({ pre: 'default' }));
  for (const [index, text] of texts.entries()) {
    assert.deepEqual(await tokenizer.encode(text), ids[index], JSON.stringify(text));
  }
});

test('the rules make a difference: no two give the same ids', () => {
  const all = Object.values(expected.ids).map((ids) => JSON.stringify(ids));
  assert.equal(new Set(all).size, 4);
});

test('start and end tokens come where the file says so, and only there', async () => {
  const ids = async (metadata: Metadata): Promise<readonly number[]> =>
    (await HuggingFaceTokenizer.parse(jsonOf(metadata))).encode('the');
  const [plain] = [await ids({})];
  assert.deepEqual(await ids({ add_bos_token: true }), [expected.bos, ...plain]);
  assert.deepEqual(await ids({ add_bos_token: true, add_eos_token: true, eos_token_id: 2 }), [
    expected.bos,
    ...plain,
    2,
  ]);
  assert.deepEqual(await ids({ pre: 'llama-bpe', add_bos_token: false }), plain);
  assert.deepEqual(await ids({ pre: 'llama-bpe' }), [expected.bos, ...plain]);
});

test('unused tokens are rows of the table that no text leads to; other added ones stand for themselves', async () => {
  const { added_tokens: added, model } = JSON.parse(jsonOf({})) as {
    readonly added_tokens: readonly { readonly content: string; readonly special: boolean }[];
    readonly model: { readonly vocab: Readonly<Record<string, number>> };
  };
  assert.deepEqual(
    added.map(({ content, special }) => [content, special]),
    [
      ['<|endoftext|>', true],
      ['<|im_start|>', true],
      ['<|im_end|>', true],
      ['<tool>', false],
    ],
  );
  const unused = expected.types.indexOf(5);
  assert.equal(expected.tokens[unused], `[PAD${unused}]`);
  assert.deepEqual(
    Object.values(model.vocab).sort((a, b) => a - b),
    [...Array(unused).keys()],
  );
  const tokenizer = await HuggingFaceTokenizer.parse(jsonOf({}));
  assert.ok(!(await tokenizer.encode(`[PAD${unused}]`)).includes(unused));
});

const ADVICE = /Put the model's own tokenizer\.json beside the file\.$/;
const types = Int32Array.from(expected.types);
const REFUSED: readonly (readonly [string, Readonly<Record<string, Metadata[string] | null>>, RegExp])[] = [
  ['SentencePiece', { model: 'llama' }, /expected tokenizer\.ggml\.model "gpt2" \(byte BPE\), "llama" came/],
  ['no kind of tokenizer', { model: null }, /"gpt2" \(byte BPE\), nothing came/],
  ['rules that are not known', { pre: 'novel' }, /tokenizer\.ggml\.pre to be one of default, gpt-2, .*; "novel" came/],
  ['no word about rules', { pre: null }, /tokenizer\.ggml\.pre to be one of default, .*; nothing came/],
  ['a name that every object has', { pre: 'constructor' }, /; "constructor" came/],
  ['rules of another type', { pre: 3 }, /expected tokenizer\.ggml\.pre to be a text, 3 came/],
  ['no tokens', { tokens: null }, /expected tokenizer\.ggml\.tokens to be a list of texts, nothing came/],
  ['tokens that are numbers', { tokens: types }, /tokenizer\.ggml\.tokens to be a list of texts/],
  [
    'a token twice',
    { tokens: expected.tokens.with(20, expected.tokens[9] as string) },
    /tokens once, ".*" comes twice/,
  ],
  ['fewer types than tokens', { token_type: types.slice(1) }, /expected \d+ values of tokenizer\.ggml\.token_type/],
  ['types that are texts', { token_type: expected.tokens }, /token_type to be a list of whole numbers of 32 bits/],
  ['no merges', { merges: null }, /tokenizer\.ggml\.merges to be a list of texts, nothing came/],
  ['a merge of one token', { merges: ['a'] }, /pairs of tokens that make a token, "a" came/],
  ['a merge of three tokens', { merges: ['a b c'] }, /pairs of tokens that make a token/],
  ['a merge of what is no token', { merges: ['a 日'] }, /pairs of tokens that make a token/],
  ['a merge that makes no token', { merges: ['~ }'] }, /pairs of tokens that make a token/],
  [
    'a start token that is none',
    { add_bos_token: true, bos_token_id: 99_999 },
    /bos_token_id to be a whole number from 0/,
  ],
  ['no start token where texts begin with it', { pre: 'llama-bpe', bos_token_id: null }, /bos_token_id to be a whole/],
  ['a flag that is a number', { add_eos_token: 1 }, /tokenizer\.ggml\.add_eos_token to be a bool, 1 came/],
];

for (const [what, metadata, message] of REFUSED) {
  test(`refused: ${what}`, () => {
    assert.throws(
      () => jsonOf(metadata),
      (error: Error) => {
        assert.equal(error.name, 'StorageError');
        assert.match(error.message, message);
        assert.match(error.message, /^model\.gguf: expected/);
        if ('pre' in metadata && typeof metadata.pre === 'string' && metadata.pre !== 'llama-bpe') {
          assert.match(error.message, ADVICE);
        }
        return true;
      },
    );
  });
}

test('refused: more tokens than rows of the embedding table', () => {
  assert.throws(() => jsonOf({}, 100), { name: 'StorageError', message: /at most 100 tokenizer\.ggml\.tokens/ });
});
