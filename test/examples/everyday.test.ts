/** The dataset of our own writing is what its README says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EverydayDialogue, readEveryday } from '../support/everyday.ts';
import { readJsonFile, repositoryPath } from '../support/oracle.ts';

const REFERENCES = { train: ['summary'], test: ['summary1', 'summary2', 'summary3'] } as const;
const TURN = /^#Person([12])#: \S.*\S$/;

function wordCount(text: string): number {
  return text.split(' ').length;
}

function checkDialogue({ fname, dialogue }: EverydayDialogue): void {
  const speakers = dialogue.split('\n').map((turn) => TURN.exec(turn)?.[1]);
  assert.ok(speakers.length >= 4 && speakers.length <= 10, `${fname}: ${speakers.length} turns`);
  for (const [index, speaker] of speakers.entries()) assert.equal(speaker, String((index % 2) + 1), fname);
}

for (const [split, count] of [
  ['train', 48],
  ['test', 16],
] as const) {
  test(`everyday ${split}: ${count} dialogues of two speakers in turn, each with its references and a headline`, () => {
    const rows = readEveryday(split);
    assert.equal(rows.length, count);
    for (const [index, row] of rows.entries()) {
      assert.deepEqual(Object.keys(row), ['fname', 'dialogue', ...REFERENCES[split], 'headline']);
      assert.equal(row.fname, `${split}_${index}`);
      checkDialogue(row);
      const words = wordCount(row.headline);
      assert.ok(words >= 3 && words <= 7, `${row.fname}: ${words} words`);
      const references = REFERENCES[split].map((name) => row[name] ?? '');
      for (const reference of references) assert.ok(wordCount(reference) > words, `${row.fname}: ${reference}`);
      assert.equal(new Set(references).size, references.length, row.fname);
    }
  });
}

test('no dialogue and no headline of everyday comes twice', () => {
  const rows = [...readEveryday('train'), ...readEveryday('test')];
  for (const field of ['fname', 'dialogue', 'headline'] as const) {
    assert.equal(new Set(rows.map((row) => row[field])).size, rows.length, field);
  }
});

test('dataset.json of everyday names columns that the rows have', () => {
  const path = repositoryPath('examples/datasets/everyday/dataset.json');
  const columns = readJsonFile<{ readonly id: string; readonly text: string; readonly references: readonly string[] }>(
    path,
  );
  for (const split of ['train', 'test'] as const) {
    for (const row of readEveryday(split)) {
      const references = columns.references.filter((name) => name in row);
      assert.deepEqual(references, REFERENCES[split], row.fname);
      for (const name of [columns.id, columns.text]) assert.ok(name in row, `${row.fname}: ${name}`);
    }
  }
});
