/** What a sustained load is made of: every kind of request, as data, before it is GraphQL. */

/** The kinds, by which requests are counted and timed. */
export const loadKinds = [
  'greedy',
  'sampling',
  'beams',
  'sequences',
  'stop',
  'aliases',
  'generationStream',
  'summaryStream',
  'tokenize',
  'embed',
  'buildPrompt',
  'refused',
  'abortedRequest',
  'endedStream',
  'closedSocket',
] as const;

export type LoadKind = (typeof loadKinds)[number];

/** The settings that an answer is held against; the others are only sent. */
export interface AskedDecoding {
  readonly doSample: boolean;
  readonly maxNewTokens: number;
  readonly minNewTokens?: number;
  readonly numBeams?: number;
  readonly numReturnSequences?: number;
  readonly seed?: number;
  readonly stop?: readonly string[];
  readonly topLogprobs?: number;
  readonly [other: string]: unknown;
}

/** One generating field. Parts with the same `repeatId` are equal requests, whatever way they are sent. */
export interface GenerationPart {
  readonly repeatId: string;
  readonly field: 'summarize' | 'generate';
  readonly input: { readonly decoding: AskedDecoding; readonly [other: string]: unknown };
}

/** One query about text; equal `repeatId`, equal query. */
export interface TextQuery {
  readonly repeatId: string;
  readonly field: 'tokenize' | 'embed' | 'buildPrompt';
  readonly input: Readonly<Record<string, unknown>>;
}

/** A request that has to be refused, and how. */
export interface BadRequest {
  readonly transport: 'http' | 'websocket';
  readonly query: string;
  readonly variables: Readonly<Record<string, unknown>>;
  readonly code: string;
  /** `extensions.argument` of the error; absent: none. */
  readonly argument?: string;
  /** `extensions.limit` of the error; absent: none. */
  readonly limit?: string;
}

export type LoadRequest = { readonly index: number; readonly kind: LoadKind } & (
  | { readonly type: 'generate'; readonly parts: readonly GenerationPart[] }
  | { readonly type: 'stream'; readonly part: GenerationPart }
  | { readonly type: 'query'; readonly query: TextQuery }
  | { readonly type: 'refused'; readonly bad: BadRequest }
  | { readonly type: 'abort'; readonly part: GenerationPart; readonly afterMs: number }
  | {
      readonly type: 'leave';
      readonly part: GenerationPart;
      /** Whether the subscription alone is ended or its socket dropped without a word. */
      readonly how: 'complete' | 'terminate';
      readonly afterEvents: number;
    }
);
