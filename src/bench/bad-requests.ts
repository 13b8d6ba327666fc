/** Requests that a server has to refuse, with the error that each must get. */
import type { BadRequest } from './load-request.ts';

/** More new tokens than any setting of the server allows a document. */
const TOO_MANY_TOKENS = 2_000_000_000;

const GENERATE = 'mutation ($input: GenerateInput!) { generate(input: $input) { id } }';
const SUMMARIZE = 'mutation ($input: SummarizeInput!) { summarize(input: $input) { id } }';
const SUMMARY_STREAM = 'subscription ($input: SummarizeInput!) { summaryStream(input: $input) { generationId } }';

/** Every kind of refusal once, about `text`. `maxInputTokens`: what the model takes. */
export function badRequests(text: string, maxInputTokens: number): readonly [BadRequest, ...BadRequest[]] {
  const http = (query: string, input: object, error: Pick<BadRequest, 'code' | 'argument' | 'limit'>): BadRequest => ({
    transport: 'http',
    query,
    variables: { input },
    ...error,
  });
  const decoded = (decoding: object, error: Pick<BadRequest, 'code' | 'argument' | 'limit'>) =>
    http(GENERATE, { prompt: text, onOverflow: 'TRUNCATE', decoding }, error);
  const unsupported = (argument: string) => ({ code: 'UNSUPPORTED_ARGUMENT', argument });
  const bad = (argument: string) => ({ code: 'BAD_USER_INPUT', argument });
  // a word has a token at least
  const tooLong = Array.from({ length: maxInputTokens + 1 }, () => 'word').join(' ');
  return [
    decoded({ doSample: false, temperature: 0.5 }, unsupported('temperature')),
    decoded({ doSample: false, seed: 1 }, unsupported('seed')),
    decoded({ doSample: true, numBeams: 2 }, unsupported('doSample')),
    decoded({ numBeams: 1, lengthPenalty: 2 }, unsupported('lengthPenalty')),
    decoded({ doSample: false, numBeams: 2, numReturnSequences: 3 }, unsupported('numReturnSequences')),
    decoded({ topLogprobs: 21 }, bad('topLogprobs')),
    decoded({ doSample: true, temperature: 0 }, bad('temperature')),
    decoded({ maxNewTokens: 0 }, bad('maxNewTokens')),
    decoded({ stop: [''] }, bad('stop')),
    decoded({ maxNewTokens: 'many' }, { code: 'BAD_USER_INPUT' }),
    decoded({ maxNewTokens: TOO_MANY_TOKENS }, { code: 'QUERY_TOO_COSTLY', limit: 'GISTQL_MAX_DOCUMENT_TOKENS' }),
    http(GENERATE, { prompt: text, model: 'no-such-model' }, { code: 'NOT_FOUND' }),
    http(GENERATE, { prompt: text, adapters: [{ id: 'none' }] }, { code: 'NOT_FOUND', argument: 'adapters' }),
    http(SUMMARIZE, { text, template: 'none' }, { code: 'NOT_FOUND', argument: 'template' }),
    http(GENERATE, { prompt: tooLong }, { code: 'INPUT_TOO_LONG', argument: 'onOverflow' }),
    http('query ($input: ID) { nothing(input: $input) }', {}, { code: 'BAD_USER_INPUT' }),
    http('{', {}, { code: 'BAD_USER_INPUT' }),
    {
      transport: 'websocket',
      query: SUMMARY_STREAM,
      variables: { input: { text, decoding: { doSample: false, topP: 0.5 } } },
      ...unsupported('topP'),
    },
    {
      transport: 'websocket',
      query: 'subscription { nothing }',
      variables: {},
      code: 'BAD_USER_INPUT',
    },
  ];
}
