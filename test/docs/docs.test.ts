/** What the documents say is what the code says. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { settings } from '../../src/config.ts';
import { errorTable } from '../../src/runtime/errors.ts';
import { lastFirst } from '../support/cleanup.ts';
import { repositoryPath } from '../support/oracle.ts';
import { startTestServer } from '../support/start-server.ts';
import { copyDatabase } from '../support/test-database.ts';
import { temporaryFolder } from '../support/tiny-model.ts';

/** The cells of the first table below a heading row that begins with `first`. */
function tableOf(path: string, first: string): readonly (readonly string[])[] {
  const lines = readFileSync(repositoryPath(path), 'utf8').split('\n');
  const start = lines.findIndex((line) => line.split('|')[1]?.trim() === first) + 2;
  const end = lines.findIndex((line, index) => index >= start && !line.startsWith('|'));
  return lines.slice(start, end).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

test('docs/errors.md is the error table', () => {
  const expected = Object.entries(errorTable).map(([code, { meaning, action }]) => [code, meaning, action]);
  assert.deepEqual(tableOf('docs/errors.md', 'code'), expected);
});

test('the README lists every setting', () => {
  const expected = settings.map(({ name, default: value, meaning }) => [`\`${name}\``, value, meaning]);
  assert.deepEqual(tableOf('README.md', 'setting'), expected);
});

test('every example runs', async (t) => {
  const cleanups = lastFirst(t);
  const dataDir = await temporaryFolder(cleanups);
  await copyDatabase(dataDir);
  const server = await startTestServer(cleanups, { GISTQL_DATA_DIR: dataDir });
  const files = readdirSync(repositoryPath('examples')).filter((file) => file.endsWith('.graphql'));
  for (const file of files) {
    const { data, errors } = await server.post(readFileSync(repositoryPath(`examples/${file}`), 'utf8'));
    assert.deepEqual(errors, [], file);
    assert.ok(data !== null, file);
  }
});
