/** A stream whose reader can leave at once: an async generator alone hears of it only at its next yield. */
export function abortable<T>(
  caller: AbortSignal,
  open: (signal: AbortSignal) => AsyncIterable<T>,
): AsyncIterableIterator<T> {
  const leaving = new AbortController();
  const inner = open(AbortSignal.any([caller, leaving.signal]))[Symbol.asyncIterator]();
  return {
    next: () => inner.next(),
    return: async () => {
      leaving.abort();
      await inner.return?.();
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
