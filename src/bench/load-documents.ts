/** From a request of the mix to the document and the variables that a client sends. */
import type { GenerationPart, LoadRequest, TextQuery } from './load-request.ts';

export interface Operation {
  readonly query: string;
  readonly variables: Readonly<Record<string, unknown>>;
}

const INPUT_TYPES = { summarize: 'SummarizeInput', generate: 'GenerateInput' } as const;

/** Token texts and alternatives are asked for where the request asks to have them reported. */
function generationFields({ input }: GenerationPart): string {
  const tokens = input.decoding.topLogprobs === undefined ? '' : 'tokens { id logprob alternatives { id logprob } }';
  return `seed usage { promptTokens completionTokens } sequences { index text tokenIds score finishReason ${tokens} }`;
}

/** The name under which an answer holds its part number `index`. */
export function aliasOf(index: number): string {
  return `part${index}`;
}

function generating(parts: readonly GenerationPart[]): Operation {
  const declared = parts.map(({ field }, index) => `$${aliasOf(index)}: ${INPUT_TYPES[field]}!`);
  const fields = parts.map((part, index) => {
    const selected =
      part.field === 'generate'
        ? generationFields(part)
        : `text alternatives truncated generation { ${generationFields(part)} }`;
    return `${aliasOf(index)}: ${part.field}(input: $${aliasOf(index)}) { ${selected} }`;
  });
  return {
    query: `mutation (${declared.join(', ')}) { ${fields.join(' ')} }`,
    variables: Object.fromEntries(parts.map(({ input }, index) => [aliasOf(index), input])),
  };
}

function streaming(part: GenerationPart): Operation {
  const field = part.field === 'generate' ? 'generationStream' : 'summaryStream';
  const query = `subscription ($input: ${INPUT_TYPES[part.field]}!) {
    event: ${field}(input: $input) {
      __typename
      generationId
      ... on TokensAppended { sequenceIndex text tokenIds }
      ... on GenerationFinished { generation { ${generationFields(part)} } }
    }
  }`;
  return { query, variables: { input: part.input } };
}

const TEXT_QUERIES = {
  tokenize: `query ($input: TokenizeInput!) {
    tokenize(input: $input) { ids tokenCount tokens { id text special start end } }
  }`,
  embed: 'query ($input: EmbedInput!) { embed(input: $input) { tokenIds vectors dimension } }',
  buildPrompt: `query ($input: BuildPromptInput!) {
    buildPrompt(input: $input) { text tokenCount shotCount template { id } }
  }`,
} as const satisfies Record<TextQuery['field'], string>;

export function operationOf(request: LoadRequest): Operation {
  switch (request.type) {
    case 'generate':
      return generating(request.parts);
    case 'abort':
      return generating([request.part]);
    case 'stream':
    case 'leave':
      return streaming(request.part);
    case 'query':
      return { query: TEXT_QUERIES[request.query.field], variables: { input: request.query.input } };
    case 'refused':
      return { query: request.bad.query, variables: request.bad.variables };
    default:
      return request satisfies never;
  }
}
