/** Refuses documents that ask for too much, before anything runs: depth, aliases, tokens. */
import {
  type FieldNode,
  type FragmentDefinitionNode,
  type GraphQLSchema,
  getArgumentValues,
  getVariableValues,
  Kind,
  type OperationDefinitionNode,
  type SelectionSetNode,
} from 'graphql';
import type { Limits } from '../config.ts';
import { DEFAULT_MAX_NEW_TOKENS } from '../runtime/decoding/parse-sampling-params.ts';
import type { DecodingOptions } from '../runtime/decoding/sampling-params.ts';
import { RuntimeError } from '../runtime/errors.ts';
import type { ModelDirectory } from '../runtime/models/served-model.ts';

export type Fragments = ReadonlyMap<string, FragmentDefinitionNode>;

interface OperationRequest {
  readonly schema: GraphQLSchema;
  readonly operation: OperationDefinitionNode;
  readonly fragments: Fragments;
  readonly variables: Readonly<Record<string, unknown>>;
}

/** Fields of a selection, those of its fragments included. The document is valid: fragments exist and have no cycles. */
export function fieldsOf(selectionSet: SelectionSetNode, fragments: Fragments): readonly FieldNode[] {
  return selectionSet.selections.flatMap((selection) => {
    if (selection.kind === Kind.FIELD) return [selection];
    if (selection.kind === Kind.INLINE_FRAGMENT) return fieldsOf(selection.selectionSet, fragments);
    const fragment = fragments.get(selection.name.value);
    return fragment === undefined ? [] : fieldsOf(fragment.selectionSet, fragments);
  });
}

function tooCostly(limit: string, what: string, most: number, came: number): RuntimeError {
  const message = `Expected at most ${most} ${what} in one document, ${came} came. Split it into several.`;
  return new RuntimeError('QUERY_TOO_COSTLY', message, { limit });
}

/** Counts depth and aliases together, and stops at the first limit that is passed. */
function checkShape(operation: OperationDefinitionNode, fragments: Fragments, limits: Limits): void {
  let aliases = 0;
  const walk = (selectionSet: SelectionSetNode, depth: number): void => {
    if (depth > limits.maxQueryDepth) {
      throw tooCostly('GISTQL_MAX_QUERY_DEPTH', 'levels of fields', limits.maxQueryDepth, depth);
    }
    for (const field of fieldsOf(selectionSet, fragments)) {
      if (field.alias !== undefined) aliases++;
      if (aliases > limits.maxAliases) {
        throw tooCostly('GISTQL_MAX_ALIASES', 'aliases', limits.maxAliases, aliases);
      }
      if (field.selectionSet !== undefined) walk(field.selectionSet, depth + 1);
    }
  };
  walk(operation.selectionSet, 1);
}

const GENERATING = new Set(['summarize', 'generate', 'summaryStream', 'generationStream', 'compare']);

interface GeneratingInput {
  readonly model?: string | null;
  readonly decoding?: DecodingOptions | null;
  /** Of `compare`: a generation each. */
  readonly variants?: readonly GeneratingInput[];
}

function tokensOf({ model, decoding }: GeneratingInput, models: ModelDirectory): number {
  const defaults = models.find(model ?? models.defaultId ?? '')?.generationDefaults ?? {};
  const newTokens = decoding?.maxNewTokens ?? defaults.maxNewTokens ?? DEFAULT_MAX_NEW_TOKENS;
  return newTokens * Math.max(decoding?.numBeams ?? defaults.numBeams ?? 1, decoding?.numReturnSequences ?? 1);
}

/** New tokens that the fields of the operation may make: maxNewTokens × max(beams, sequences) of each generation. */
function askedTokens({ schema, operation, fragments, variables }: OperationRequest, models: ModelDirectory): number {
  const type = schema.getRootType(operation.operation);
  const coerced = getVariableValues(schema, operation.variableDefinitions ?? [], { ...variables }).coerced;
  // what cannot be coerced is refused by the execution itself
  if (type === undefined || type === null || coerced === undefined) return 0;
  let total = 0;
  for (const field of fieldsOf(operation.selectionSet, fragments)) {
    const definition = type.getFields()[field.name.value];
    if (definition === undefined || !GENERATING.has(field.name.value)) continue;
    const { input = {} } = getArgumentValues(definition, field, coerced) as { input?: GeneratingInput };
    for (const generation of input.variants ?? [input]) total += tokensOf(generation, models);
  }
  return total;
}

/** Throws RuntimeError QUERY_TOO_COSTLY naming the setting whose limit is passed. */
export function checkDocumentLimits(request: OperationRequest, limits: Limits, models: ModelDirectory): void {
  checkShape(request.operation, request.fragments, limits);
  const tokens = askedTokens(request, models);
  if (tokens > limits.maxDocumentTokens) {
    throw tooCostly('GISTQL_MAX_DOCUMENT_TOKENS', 'new tokens', limits.maxDocumentTokens, tokens);
  }
}
