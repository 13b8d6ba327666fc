/** Datasets as evaluations and trainings see them: checked before they are used, the same samples however often. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { DatasetDirectory, type SplitRequest } from '../../../src/runtime/datasets/dataset-directory.ts';
import { collect, type DatasetFiles, oneDataset, rowsOf, writeDataset } from '../../support/dataset-files.ts';
import { oracleTest, repositoryPath, sharedPath } from '../../support/oracle.ts';
import { refuses } from '../../support/refuses.ts';
import { temporaryFolder } from '../../support/tiny-model.ts';

function ask(split: string, changes: Partial<SplitRequest> = {}): SplitRequest {
  return { dataset: 'mine', split, limit: null, sampleSeed: null, references: null, ...changes };
}

test('a split gives the same samples whatever its format', async (t) => {
  const rows = rowsOf(5, 3);
  const csv = rows.map((row) =>
    Object.values(row)
      .map((value) => `"${String(value).replaceAll('"', '""')}"`)
      .join(','),
  );
  const header = 'fname,dialogue,summary1,summary2,summary3';
  const { datasets } = await oneDataset(t, {
    'lines.jsonl': rows,
    'array.json': rows,
    'table.csv': [header, ...csv].join('\r\n'),
  });
  const expected = rows.map((row, index) => {
    const [id, text, ...references] = Object.values(row) as string[];
    return { index, id, text, references };
  });
  for (const split of ['lines', 'array', 'table']) {
    const selection = await datasets.open(ask(split));
    assert.deepEqual(await collect(selection.samples()), expected);
    assert.deepEqual(selection.referenceColumns, ['summary1', 'summary2', 'summary3']);
    assert.equal(selection.textColumn, 'dialogue');
  }
});

test('a selection has the samples and references that were asked for, and reads those that are wanted again', async (t) => {
  const { datasets, folder } = await oneDataset(t, { 'test.jsonl': rowsOf(30, 3) });
  const selection = await datasets.open(ask('test', { limit: 6, sampleSeed: 3, references: [2, 0] }));
  const indexes = [...selection.indexes];
  assert.equal(indexes.length, 6);
  const samples = await collect(selection.samples());
  assert.deepEqual(
    samples.map(({ index }) => index),
    indexes,
  );
  for (const { index, id, references } of samples) {
    assert.equal(id, `row_${index}`);
    assert.deepEqual(references, [`Summary 0 of ${index}.`, `Summary 2 of ${index}.`]);
  }
  assert.deepEqual(selection.referenceColumns, ['summary1', 'summary3']);
  const rest = await collect(selection.samples((index) => index !== indexes[0] && index !== indexes[4]));
  assert.deepEqual(
    rest,
    samples.filter((_, at) => at !== 0 && at !== 4),
  );
  assert.deepEqual(await collect(selection.samples(() => false)), []);
  const bytes = await readFile(join(folder, 'test.jsonl'));
  assert.equal(selection.sha256, createHash('sha256').update(bytes).digest('hex'));
});

test('a reader that leaves early leaves nothing behind', async (t) => {
  for (const file of ['test.jsonl', 'test.json', 'test.csv']) {
    const rows: DatasetFiles[string] = file.endsWith('csv')
      ? `dialogue,summary\n${'a text,a summary\n'.repeat(9000)}`
      : rowsOf(9000);
    const { datasets } = await oneDataset(t, { [file]: rows });
    const selection = await datasets.open(ask('test'));
    for (let round = 0; round < 6; round++) {
      for await (const { index } of selection.samples()) if (index === round) break;
    }
    assert.equal((await collect(selection.samples())).length, 9000);
  }
});

for (const [name, files, message] of [
  [
    'a line that is no JSON',
    { 'test.jsonl': '{"dialogue":"a","summary":"b"}\n{' },
    /^mine\/test\.jsonl, line 2: .*JSON/,
  ],
  [
    'an empty reference',
    { 'test.json': [{ dialogue: 'a', summary: '' }] },
    /test\.json, line 1, column "summary": .*empty/,
  ],
  [
    'an id twice',
    { 'test.csv': 'id,dialogue,summary\n1,a,b\n2,a,b\n1,a,b\n' },
    /line 4: expected an id of its own, "1" came/,
  ],
  ['no sample', { 'test.jsonl': '\n\n' }, /^mine\/test\.jsonl: expected at least one sample/],
  ['no byte', { 'test.csv': '' }, /^mine\/test\.csv: expected at least one sample/],
  ['an empty array', { 'test.json': [] }, /^mine\/test\.json: expected at least one sample/],
  [
    'two files',
    { 'test.jsonl': rowsOf(1), 'test.csv': 'a' },
    /one file of split test, mine\/test\.csv and mine\/test\.jsonl/,
  ],
  ['a broken dataset.json', { 'test.jsonl': rowsOf(1), 'dataset.json': '{' }, /^dataset\.json: expected JSON/],
  ['a wrong dataset.json', { 'test.jsonl': rowsOf(1), 'dataset.json': '{"references":[]}' }, /^mine\/dataset\.json: /],
] as const) {
  test(`a split with ${name} is INVALID_DATASET, and a problem of the dataset, every time`, async (t) => {
    const { datasets } = await oneDataset(t, { ...files, 'good.jsonl': rowsOf(2) } as DatasetFiles);
    for (let round = 0; round < 2; round++) {
      await assert.rejects(datasets.open(ask('test')), refuses('INVALID_DATASET', message));
      const { splits, problems } = await datasets.survey('mine');
      assert.equal(problems.length, 1);
      assert.match(problems[0] ?? '', message);
      assert.deepEqual(
        splits,
        name.endsWith('dataset.json') ? [] : [{ name: 'good', sampleCount: 2, referenceCount: 1 }],
      );
    }
    assert.deepEqual(await datasets.list(), [{ id: 'mine', name: 'mine', license: null }]);
  });
}

test('names that are not there are NOT_FOUND and say which are; a path is no name', async (t) => {
  const { datasets, root } = await oneDataset(t, { 'dev.jsonl': rowsOf(1), 'train.jsonl': rowsOf(1) });
  await writeDataset(root, 'other', { 'test.jsonl': rowsOf(1) });
  await assert.rejects(datasets.open(ask('test')), refuses('NOT_FOUND', /mine's \(dev, train\), "test" came/));
  await assert.rejects(datasets.open(ask('../other/test')), refuses('NOT_FOUND', /"\.\.\/other\/test" came/));
  await assert.rejects(datasets.open(ask('dataset')), refuses('NOT_FOUND', /split/));
  const unknown = datasets.open(ask('test', { dataset: 'third' }));
  await assert.rejects(unknown, refuses('NOT_FOUND', /one of mine, other; "third" came/));
  await assert.rejects(datasets.survey('third'), refuses('NOT_FOUND', /one of mine, other/));
  for (const dataset of ['..', '../mine', 'mine/../other', '', '/etc', 'a\0b']) {
    await assert.rejects(datasets.open(ask('test', { dataset })), refuses('BAD_USER_INPUT', /a folder name/));
  }
});

test('what cannot be selected is BAD_USER_INPUT, before the file is looked at where that is enough', async (t) => {
  const { datasets } = await oneDataset(t, { 'test.jsonl': rowsOf(3, 3), 'broken.jsonl': '{' });
  for (const [request, message] of [
    [ask('broken', { limit: 0 }), /limit/],
    [ask('broken', { sampleSeed: 1 }), /limit beside sampleSeed/],
    [ask('test', { references: [3] }), /2 \(summary3\), 3 came/],
    [ask('test', { references: [] }), /none came/],
  ] as const) {
    await assert.rejects(datasets.open(request), refuses('BAD_USER_INPUT', message));
  }
});

test("the user's folder comes before the one of the same name that comes with GistQL", async (t) => {
  const [user, embedded] = [await temporaryFolder(t), await temporaryFolder(t)];
  await writeDataset(embedded, 'both', { 'test.jsonl': rowsOf(1), 'dataset.json': '{"name":"Ours"}' });
  await writeDataset(embedded, 'ours', { 'test.jsonl': rowsOf(1), 'dataset.json': '{"license":"MIT"}' });
  const datasets = new DatasetDirectory({ datasets: user, embedded });
  const ours = { id: 'ours', name: 'ours', license: 'MIT' };
  assert.deepEqual(await datasets.list(), [{ id: 'both', name: 'Ours', license: null }, ours]);
  await writeDataset(user, 'both', { 'dev.jsonl': rowsOf(2) });
  await writeFile(join(user, 'README.md'), 'no dataset');
  await mkdir(join(user, '.hidden'));
  assert.deepEqual(await datasets.list(), [{ id: 'both', name: 'both', license: null }, ours]);
  assert.deepEqual((await datasets.survey('both')).splits, [{ name: 'dev', sampleCount: 2, referenceCount: 1 }]);
});

test('without a folder of the user there is what comes with GistQL', async (t) => {
  const root = await temporaryFolder(t);
  const embedded = repositoryPath('examples/datasets');
  const datasets = new DatasetDirectory({ datasets: join(root, 'none'), embedded });
  assert.deepEqual(
    (await datasets.list()).map(({ id }) => id),
    ['everyday'],
  );
  assert.deepEqual(await datasets.survey('everyday'), {
    splits: [
      { name: 'test', sampleCount: 16, referenceCount: 3 },
      { name: 'train', sampleCount: 48, referenceCount: 1 },
    ],
    problems: [],
  });
});

test('links that lead out are refused, links within are followed', async (t) => {
  const { datasets, root, folder } = await oneDataset(t, { 'test.jsonl': rowsOf(1) });
  const outside = await writeDataset(await temporaryFolder(t), 'secret', { 'test.jsonl': rowsOf(1) });
  await symlink(outside, join(root, 'away'));
  await symlink(folder, join(root, 'same'));
  await symlink(join(root, 'gone'), join(root, 'broken'));
  await symlink(join(outside, 'test.jsonl'), join(folder, 'out.jsonl'));
  assert.deepEqual(
    (await datasets.list()).map(({ id }) => id),
    ['away', 'mine', 'same'],
  );
  const away = await datasets.survey('away');
  assert.deepEqual(away.splits, []);
  assert.match(away.problems.join(), /a link that leads out/);
  await assert.rejects(datasets.open(ask('test', { dataset: 'away' })), refuses('BAD_USER_INPUT', /leads out/));
  await assert.rejects(datasets.open(ask('out')), refuses('INVALID_DATASET', /a link leads out of it/));
  assert.equal((await datasets.survey('same')).splits.length, 1);
});

test('a folder without a split, and one whose name cannot be asked for, are told', async (t) => {
  const { datasets, root } = await oneDataset(t, { 'README.md': 'nothing', 'test.txt': 'nothing' });
  assert.match((await datasets.survey('mine')).problems.join(), /mine: expected a file SPLIT\.jsonl/);
  await mkdir(join(root, 'my data'));
  assert.match((await datasets.survey('my data')).problems.join(), /a folder name of letters/);
});

test('a version of a file is checked once, broken or not; another version is checked anew', async (t) => {
  const { root, folder } = await oneDataset(t, { 'test.jsonl': rowsOf(3), 'broken.jsonl': '{' });
  const stopping = new AbortController();
  const datasets = new DatasetDirectory({ datasets: root, embedded: join(root, 'none') }, stopping.signal);
  const before = await datasets.open(ask('test'));
  await assert.rejects(datasets.open(ask('broken')), refuses('INVALID_DATASET', /broken/));
  // from here on nothing is checked any more
  stopping.abort();
  assert.equal((await datasets.open(ask('test'))).sha256, before.sha256);
  await assert.rejects(datasets.open(ask('broken')), refuses('INVALID_DATASET', /broken/));
  await writeFile(join(folder, 'dataset.json'), '{"id":"fname","references":["summary"]}');
  await assert.rejects(datasets.open(ask('test')), refuses('OVERLOADED', /stopping/));
  await rm(join(folder, 'dataset.json'));
  await writeDataset(root, 'mine', { 'test.jsonl': rowsOf(4) });
  await assert.rejects(datasets.open(ask('test')), refuses('OVERLOADED', /stopping/));
  const again = new DatasetDirectory({ datasets: root, embedded: join(root, 'none') });
  assert.equal((await again.open(ask('test'))).indexes.length, 4);
});

test('many who ask at once get the outcome of one check', async (t) => {
  const { datasets } = await oneDataset(t, { 'test.jsonl': rowsOf(2000) });
  const opened = await Promise.all(Array.from({ length: 20 }, () => datasets.open(ask('test'))));
  assert.equal(new Set(opened.map(({ sha256 }) => sha256)).size, 1);
  for (const { indexes } of opened) assert.equal(indexes.length, 2000);
});

async function longSplit(t: TestContext) {
  const made = await oneDataset(t, { 'test.jsonl': rowsOf(5000) });
  return { ...made, file: join(made.folder, 'test.jsonl'), selection: await made.datasets.open(ask('test')) };
}

test('a file that has changed since its check is not read', async (t) => {
  const { selection, file } = await longSplit(t);
  await writeFile(file, '{"dialogue":"other","summary":"other"}\n');
  await assert.rejects(collect(selection.samples()), refuses('INVALID_DATASET', /has changed/));
  await rm(file);
  await assert.rejects(collect(selection.samples()), refuses('NOT_FOUND', /there is none/));
});

test('a file that changes while it is read ends the reading; one that is replaced is read to its end', async (t) => {
  const { selection, file } = await longSplit(t);
  const iterator = selection.samples();
  await iterator.next();
  await copyFile(file, `${file}.new`);
  await rm(file);
  assert.equal((await collect(iterator)).length, 4999);
  await copyFile(`${file}.new`, file);
  const changed = await longSplit(t);
  const other = changed.selection.samples();
  await other.next();
  await writeFile(changed.file, 'x', { flag: 'a' });
  await assert.rejects(collect(other), refuses('INVALID_DATASET', /nobody writes to, it has changed/));
});

async function copiesOf(files: Readonly<Record<string, string>>, root: string): Promise<void> {
  for (const [to, from] of Object.entries(files)) await copyFile(sharedPath(`data/${from}`), join(root, to));
}

oracleTest('DialogSum and MTS-Dialog are read as published', 'data/dialogsum/dialogsum.test.jsonl', async () => {
  const root = await mkdtemp(join(tmpdir(), 'gistql-'));
  try {
    const notes = { id: 'ID', references: ['section_text'], license: 'CC BY 4.0' };
    await writeDataset(root, 'dialogsum', {});
    await writeDataset(root, 'notes', { 'dataset.json': JSON.stringify(notes) });
    const files = {
      'dialogsum/test.jsonl': 'dialogsum/dialogsum.test.jsonl',
      'dialogsum/train.jsonl': 'dialogsum/dialogsum.train.jsonl',
      'notes/train.csv': 'mts-dialog/MTS-Dialog-TrainingSet.csv',
    };
    await copiesOf(files, root);
    const datasets = new DatasetDirectory({ datasets: root, embedded: join(root, 'none') });
    assert.deepEqual(await datasets.survey('dialogsum'), {
      splits: [
        { name: 'test', sampleCount: 500, referenceCount: 3 },
        { name: 'train', sampleCount: 12_460, referenceCount: 1 },
      ],
      problems: [],
    });
    const { splits } = await datasets.survey('notes');
    assert.deepEqual(splits, [{ name: 'train', sampleCount: 1201, referenceCount: 1 }]);
    const some = await datasets.open(ask('test', { dataset: 'dialogsum', limit: 50, sampleSeed: 1, references: [1] }));
    for (const { id, index } of await collect(some.samples())) assert.equal(id, `test_${index}`);
    const table = await collect((await datasets.open(ask('train', { dataset: 'notes' }))).samples());
    for (const { id, index } of table) assert.equal(id, `${index}`);
    // line ends within quotes stay as they are
    assert.equal(
      table.reduce((sum, { text }) => sum + text.split('\r\n').length - 1, 0),
      10_255,
    );
  } finally {
    await rm(root, { recursive: true });
  }
});
