/** Numbers of the command line, checked before anything starts. */

interface Range {
  readonly low: number;
  readonly high: number;
}

/** Throws an Error that names the option, what was expected and what came. */
export function readNumber(option: string, text: string, { low, high }: Range): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (value >= low && value <= high) return value;
  throw new Error(`Expected ${option} to be a number from ${low} to ${high}, ${JSON.stringify(text)} came.`);
}

/** Throws as `readNumber` does. */
export function readWhole(option: string, text: string, range: Range): number {
  const value = readNumber(option, text, range);
  if (Number.isInteger(value)) return value;
  throw new Error(`Expected ${option} to be a whole number, ${JSON.stringify(text)} came.`);
}
