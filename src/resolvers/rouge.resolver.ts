import { Arg, Ctx, Query, Resolver } from 'type-graphql';
import type { Context } from '../context.ts';
import { RougeInput, RougeScores } from '../schema/rouge.type.ts';

@Resolver()
export class RougeResolver {
  @Query(() => RougeScores)
  rouge(
    @Arg('input', () => RougeInput) { prediction, references, useStemmer }: RougeInput,
    @Ctx() { services }: Context,
  ): Promise<RougeScores> {
    return services.rouge.scoreInTurns({ prediction, references, useStemmer: useStemmer ?? true });
  }
}
