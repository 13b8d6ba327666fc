/** Variants as they are written on a command line: `label=beams,model=dir:NAME,adapters=dir:a:0.5+dir:b,beams=4`. */
import type { DecodingOptions } from '../runtime/decoding/sampling-params.ts';

export interface AdapterSpec {
  /** `dir:NAME`, `hub:OWNER/NAME`, or the id of one that the data folder has registered. */
  readonly name: string;
  readonly weight: number;
}

export interface VariantSpec {
  /** Default: the whole as it was written. */
  readonly label: string;
  /** `dir:NAME`, `embedded:NAME` or `hub:OWNER/NAME`; undefined: the default model. */
  readonly model: string | undefined;
  /** Undefined: the model's active adapter; empty: none. */
  readonly adapters: readonly AdapterSpec[] | undefined;
  /** Undefined: the model's own. */
  readonly template: string | undefined;
  /** Worked examples; 0: none. */
  readonly shotCount: number;
  readonly decoding: DecodingOptions;
}

type Kind = 'number' | 'boolean' | 'early stopping' | 'texts';

/** All settings but those that change no score. */
const DECODING_KINDS = {
  maxNewTokens: 'number',
  minNewTokens: 'number',
  numBeams: 'number',
  lengthPenalty: 'number',
  earlyStopping: 'early stopping',
  noRepeatNgramSize: 'number',
  repetitionPenalty: 'number',
  stop: 'texts',
  badWords: 'texts',
  doSample: 'boolean',
  temperature: 'number',
  topK: 'number',
  topP: 'number',
  minP: 'number',
  typicalP: 'number',
  seed: 'number',
} as const satisfies Partial<Record<keyof DecodingOptions, Kind>>;

type DecodingName = keyof typeof DECODING_KINDS;

export const decodingNames = Object.keys(DECODING_KINDS) as readonly DecodingName[];

const EARLY_STOPPING = ['heuristic', 'when-beams-finish', 'never'] as const;
const OWN_NAMES = ['label', 'model', 'adapters', 'template', 'shots'];
const MOST_SHOTS = 100;
/** What stands behind a backslash stands for itself. */
const ESCAPE = /\\([\s\S])/g;

/** Throws an Error that says what was expected, and where. */
export function parseVariantSpec(written: string): VariantSpec {
  const values = readItems(written);
  const one = (name: string): string | undefined => {
    const [value, second] = values.get(name) ?? [];
    if (second === undefined) return value;
    throw refused(written, `${name} once`, 'it twice');
  };
  const decoding: Record<string, unknown> = {};
  for (const name of decodingNames) {
    const kind = DECODING_KINDS[name];
    const value = kind === 'texts' ? values.get(name)?.map(unescaped) : one(name);
    if (value !== undefined) decoding[name] = typeof value === 'string' ? readValue(written, name, value) : value;
  }
  const [label, model, template] = [one('label'), one('model'), one('template')];
  const adapters = one('adapters');
  return {
    label: label === undefined ? written : unescaped(label),
    model: model && unescaped(model),
    adapters: adapters === undefined ? undefined : readAdapters(written, adapters),
    template: template && unescaped(template),
    shotCount: readShots(written, one('shots')),
    decoding,
  };
}

function readItems(written: string): ReadonlyMap<string, readonly string[]> {
  const values = new Map<string, string[]>();
  for (const item of splitAt(written, ',')) {
    const at = item.indexOf('=');
    const [name, value] = [item.slice(0, at).trim(), item.slice(at + 1)];
    if (at < 0) throw refused(written, 'NAME=VALUE,…', JSON.stringify(item));
    const known = name === 'beams' ? 'numBeams' : name;
    if (!OWN_NAMES.includes(known) && !Object.hasOwn(DECODING_KINDS, known)) {
      const names = [...OWN_NAMES, 'beams', ...decodingNames].join(', ');
      throw refused(written, `each name to be one of ${names}`, JSON.stringify(name));
    }
    if (value === '') throw refused(written, `a value of ${name}`, 'none');
    values.set(known, [...(values.get(known) ?? []), value]);
  }
  return values;
}

function readValue(written: string, name: DecodingName, value: string): unknown {
  switch (DECODING_KINDS[name]) {
    case 'number':
      return readNumber(written, name, value);
    case 'boolean':
      if (value === 'true' || value === 'false') return value === 'true';
      throw refused(written, `${name} to be true or false`, JSON.stringify(value));
    case 'early stopping': {
      const found = EARLY_STOPPING.find((one) => one === value);
      if (found !== undefined) return found;
      throw refused(written, `${name} to be one of ${EARLY_STOPPING.join(', ')}`, JSON.stringify(value));
    }
    default:
      return value;
  }
}

function readNumber(written: string, name: string, value: string): number {
  const number = value.trim() === '' ? Number.NaN : Number(value);
  if (Number.isFinite(number)) return number;
  throw refused(written, `${name} to be a number`, JSON.stringify(value));
}

function readShots(written: string, value: string | undefined): number {
  const count = value === undefined ? 0 : readNumber(written, 'shots', value);
  if (Number.isInteger(count) && count >= 0 && count <= MOST_SHOTS) return count;
  throw refused(written, `shots to be a whole number from 0 to ${MOST_SHOTS}`, String(value));
}

/** `none`, or adapters with `+` between them, each with `:WEIGHT` behind it where that is not 1. */
function readAdapters(written: string, value: string): readonly AdapterSpec[] {
  if (value === 'none') return [];
  return splitAt(value, '+').map((adapter) => {
    const parts = splitAt(adapter, ':');
    const nameLength = parts[0] === 'dir' || parts[0] === 'hub' ? 2 : 1;
    const name = unescaped(parts.slice(0, nameLength).join(':'));
    const [weight, tooMuch] = parts.slice(nameLength);
    if (parts.length < nameLength || parts.includes('') || tooMuch !== undefined) {
      throw refused(
        written,
        'adapters to be none, or dir:NAME:WEIGHT, hub:OWNER/NAME:WEIGHT or ID:WEIGHT with + between them',
        JSON.stringify(value),
      );
    }
    return { name, weight: weight === undefined ? 1 : readNumber(written, `the weight of ${name}`, weight) };
  });
}

/** At separators that no backslash stands before; backslashes stay. */
function splitAt(text: string, separator: string): readonly string[] {
  const parts: string[] = [];
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === separator) {
      parts.push(text.slice(start, at));
      start = at + 1;
    }
  }
  return [...parts, text.slice(start)];
}

function unescaped(text: string): string {
  return text.replaceAll(ESCAPE, '$1');
}

function refused(written: string, expected: string, came: string): Error {
  return new Error(`--variant ${JSON.stringify(written)}: expected ${expected}, ${came} came.`);
}
