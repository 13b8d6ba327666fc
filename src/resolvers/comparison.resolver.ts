import type { GraphQLResolveInfo } from 'graphql';
import { Arg, Ctx, Info, Mutation, Resolver } from 'type-graphql';
import type { Context } from '../context.ts';
import { type ComparisonRequest, prepareComparison } from '../evaluation/comparison.ts';
import { CompareInput, TextComparison } from '../schema/comparison.type.ts';
import { asksFor, LOGPROB_FIELDS } from './asks-for.ts';
import { toTextComparison, toVariant } from './shape.ts';

function toComparisonRequest({ text, reference, variants }: CompareInput, info: GraphQLResolveInfo): ComparisonRequest {
  return {
    text,
    references: typeof reference === 'string' ? [reference] : [],
    variants: variants.map(toVariant),
    logprobs: asksFor(info, LOGPROB_FIELDS),
  };
}

@Resolver()
export class ComparisonResolver {
  @Mutation(() => TextComparison, {
    description:
      'The same text through several variants at once; those of one model run in one batch. Each summary is what `summarize` answers alone.',
  })
  async compare(
    @Arg('input', () => CompareInput) input: CompareInput,
    @Ctx() { generations, services }: Context,
    @Info() info: GraphQLResolveInfo,
  ): Promise<TextComparison> {
    const request = toComparisonRequest(input, info);
    return toTextComparison(await generations.load(() => prepareComparison(services, request)), services);
  }
}
