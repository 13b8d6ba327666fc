/**
 * Runs one operation, the same for HTTP and WebSocket. GraphQL runs the fields of a mutation one after the other,
 * because they may change things. Generating text changes nothing: a mutation of nothing else is run as the query it
 * is, so that its fields run side by side and meet in one batch.
 */
import {
  type DocumentNode,
  type ExecutionResult,
  execute,
  type FragmentDefinitionNode,
  GraphQLError,
  GraphQLSchema,
  Kind,
  type OperationDefinitionNode,
  OperationTypeNode,
} from 'graphql';
import type { Limits } from '../config.ts';
import type { Context } from '../context.ts';
import { toGraphqlError } from '../resolvers/format-error.ts';
import { RuntimeError } from '../runtime/errors.ts';
import { checkDocumentLimits, type Fragments, fieldsOf } from './document-limits.ts';

/** Mutations that read only. */
const WITHOUT_EFFECT = new Set(['summarize', 'generate', 'compare', '__typename']);

export interface Operation {
  readonly document: DocumentNode;
  readonly operation: OperationDefinitionNode;
  readonly variables: Readonly<Record<string, unknown>>;
  readonly context: Context;
}

function fragmentsOf(document: DocumentNode): Fragments {
  const definitions = document.definitions.filter(
    (definition): definition is FragmentDefinitionNode => definition.kind === Kind.FRAGMENT_DEFINITION,
  );
  return new Map(definitions.map((definition) => [definition.name.value, definition]));
}

export class OperationRunner {
  private readonly sideBySide: GraphQLSchema;

  constructor(
    readonly schema: GraphQLSchema,
    private readonly limits: Limits,
  ) {
    // the same types, with the mutations where queries are looked up
    this.sideBySide = new GraphQLSchema({ ...schema.toConfig(), query: schema.getMutationType(), mutation: null });
  }

  /** The error of a document that asks for too much; undefined when it may run. */
  refusal({ document, operation, variables, context }: Operation): GraphQLError | undefined {
    try {
      const request = { schema: this.schema, operation, fragments: fragmentsOf(document), variables };
      checkDocumentLimits(request, this.limits, context.services.models);
      return undefined;
    } catch (error) {
      if (error instanceof RuntimeError) return toGraphqlError(error);
      // arguments that do not coerce: the execution says so at their place
      if (error instanceof GraphQLError) return undefined;
      throw error;
    }
  }

  async execute(asked: Operation): Promise<ExecutionResult> {
    const { document, operation, variables, context } = asked;
    const refusal = this.refusal(asked);
    if (refusal !== undefined) return { errors: [refusal] };
    const parallel = operation.operation === OperationTypeNode.MUTATION && this.isWithoutEffect(document, operation);
    const alone = parallel ? { ...operation, operation: OperationTypeNode.QUERY } : operation;
    const definitions = document.definitions.filter(({ kind }) => kind === Kind.FRAGMENT_DEFINITION);
    return execute({
      schema: parallel ? this.sideBySide : this.schema,
      document: { ...document, definitions: [alone, ...definitions] },
      variableValues: variables,
      contextValue: context,
    });
  }

  private isWithoutEffect(document: DocumentNode, operation: OperationDefinitionNode): boolean {
    return fieldsOf(operation.selectionSet, fragmentsOf(document)).every(({ name }) => WITHOUT_EFFECT.has(name.value));
  }
}
