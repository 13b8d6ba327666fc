/** Where stop strings cut a text. The one that is complete first counts: what follows it was never asked for. */

/** Index at which the text is cut; undefined when no stop string is in it. */
export function findStop(text: string, stop: readonly string[]): number | undefined {
  let first: { readonly start: number; readonly end: number } | undefined;
  for (const word of stop) {
    const start = text.indexOf(word);
    const end = start + word.length;
    if (start < 0 || (first !== undefined && end > first.end)) continue;
    if (first === undefined || end < first.end || start < first.start) first = { start, end };
  }
  return first?.start;
}

/** The text before the stop string that is complete first; all of it when there is none. */
export function cutAtStop(text: string, stop: readonly string[]): string {
  return text.slice(0, findStop(text, stop));
}

/** Length of the longest end of the text with which a stop string begins. */
export function heldLength(text: string, stop: readonly string[]): number {
  let held = 0;
  for (const word of stop) {
    for (let length = Math.min(word.length - 1, text.length); length > held; length--) {
      if (text.endsWith(word.slice(0, length))) held = length;
    }
  }
  return held;
}
