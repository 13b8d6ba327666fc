import { Ctx, FieldResolver, Query, Resolver, Root } from 'type-graphql';
import type { Context } from '../context.ts';
import { Dataset, DatasetSplit } from '../schema/dataset.type.ts';

@Resolver(() => Dataset)
export class DatasetResolver {
  @Query(() => [Dataset])
  datasets(@Ctx() { services }: Context): Promise<readonly Dataset[]> {
    return services.datasets.list();
  }

  @FieldResolver(() => [DatasetSplit], {
    description: 'Those whose every sample was checked, once for each version of a file.',
  })
  async splits(@Root() { id }: Dataset, @Ctx() { services }: Context): Promise<readonly DatasetSplit[]> {
    return (await services.datasets.survey(id)).splits;
  }

  @FieldResolver(() => [String], {
    description: 'What is wrong with its files, by file and line; such a split is not in `splits`. Empty for most.',
  })
  async problems(@Root() { id }: Dataset, @Ctx() { services }: Context): Promise<readonly string[]> {
    return (await services.datasets.survey(id)).problems;
  }
}
