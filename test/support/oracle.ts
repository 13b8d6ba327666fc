/** The full sets of expected results lie beside the checkout, in ../shared; tests that need them skip where it is absent. */
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Path of a file of this repository. */
export function repositoryPath(path: string): string {
  return `${root}${path}`;
}

/** Path of a file below ../shared, whether it is there or not. */
export function sharedPath(path: string): string {
  return `${root}../shared/${path}`;
}

export function readJsonFile<T>(path: string): T {
  return JSON.parse(readFileSync(path, 'utf8')) as T;
}

/** A test that runs where `../shared/PATH` exists, and says so where it does not. */
export function oracleTest(name: string, path: string, run: (path: string) => Promise<void> | void): void {
  const full = sharedPath(path);
  test(name, { skip: existsSync(full) ? false : `needs ../shared/${path}` }, () => run(full));
}
