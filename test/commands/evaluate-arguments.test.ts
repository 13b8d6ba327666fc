import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EVALUATE_USAGE, readEvaluateArguments } from '../../src/commands/evaluate-arguments.ts';
import { decodingNames } from '../../src/commands/variant-spec.ts';

const least = ['--dataset', 'everyday', '--variant', 'label=a'];

function refuses(written: readonly string[], message: RegExp): void {
  assert.throws(() => readEvaluateArguments(written), message);
}

test('what is left out takes its default', () => {
  assert.deepEqual(readEvaluateArguments(least), {
    dataset: 'everyday',
    split: 'test',
    limit: null,
    sampleSeed: null,
    references: null,
    useStemmer: true,
    signPatterns: undefined,
    idempotencyKey: null,
    variants: [{ label: 'a', model: undefined, adapters: undefined, template: undefined, shotCount: 0, decoding: {} }],
    json: false,
    exports: [],
  });
});

test('everything can be given', () => {
  const more =
    '--split dev --limit 5 --sample-seed 3 --references 2,0 --no-stemmer --sign-patterns 5000 --idempotency-key k --json';
  const files = ['--export', 'a.csv', '--export', 'b/c.jsonl'];
  const read = readEvaluateArguments([...least, '--variant', 'beams=2', ...more.split(' '), ...files]);
  assert.deepEqual(
    { ...read, variants: read?.variants.map(({ label }) => label) },
    {
      dataset: 'everyday',
      split: 'dev',
      limit: 5,
      sampleSeed: 3,
      references: [2, 0],
      useStemmer: false,
      signPatterns: 5000,
      idempotencyKey: 'k',
      variants: ['a', 'beams=2'],
      json: true,
      exports: ['a.csv', 'b/c.jsonl'],
    },
  );
});

test('help is help whatever else is asked, and names every decoding setting', () => {
  assert.equal(readEvaluateArguments(['--help']), undefined);
  assert.equal(readEvaluateArguments([...least, '-h']), undefined);
  for (const name of decodingNames) assert.ok(EVALUATE_USAGE.includes(name), name);
});

test('what cannot be is refused, saying what was expected', () => {
  refuses([], /Expected --dataset NAME, none came/);
  refuses(['--dataset', 'everyday'], /Expected at least one --variant, none came/);
  refuses([...least, '--limit', '0'], /Expected --limit to be a number from 1/);
  refuses([...least, '--limit', '1.5'], /Expected --limit to be a whole number/);
  refuses([...least, '--sample-seed', 'x'], /Expected --sample-seed to be a number from 0/);
  refuses([...least, '--sign-patterns', '999'], /Expected --sign-patterns to be a number from 1000/);
  refuses([...least, '--references', '0,'], /Expected --references to be indexes like 0,1, "0," came/);
  refuses([...least, '--export', 'samples.xlsx'], /Expected --export to name a file that ends in \.jsonl or \.csv/);
  refuses([...least, '--export', 'samples'], /that ends in \.jsonl or \.csv/);
  refuses([...least, '--datasets', 'x'], /--datasets.*See gistql evaluate --help/s);
  refuses([...least, 'label=b'], /label=b.*See gistql evaluate --help/s);
});
