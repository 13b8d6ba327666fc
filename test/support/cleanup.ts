/** Where a test, or a file of tests, says what is to be closed at its end. */
export interface Cleanup {
  after(clean: () => unknown): void;
}

/** What was opened last is closed first: node:test goes the other way. */
export function lastFirst(t: Cleanup): Cleanup {
  const cleanups: (() => unknown)[] = [];
  t.after(async () => {
    for (const clean of cleanups.reverse()) await clean();
  });
  return { after: (clean) => void cleanups.push(clean) };
}
