import { Arg, Ctx, ID, Mutation, Query, Resolver } from 'type-graphql';
import type { Context } from '../context.ts';
import { LoadModelInput, Model } from '../schema/model.type.ts';
import { toModel } from './shape.ts';

@Resolver()
export class ModelResolver {
  @Query(() => [Model])
  models(@Ctx() { services }: Context): Model[] {
    return services.models.list().map((model) => toModel(model, services));
  }

  @Query(() => Model, { nullable: true })
  model(@Arg('id', () => ID) id: string, @Ctx() { services }: Context): Model | null {
    const model = services.models.find(id);
    return model === undefined ? null : toModel(model, services);
  }

  @Mutation(() => Model)
  async loadModel(
    @Arg('input', () => LoadModelInput) input: LoadModelInput,
    @Ctx() { services }: Context,
  ): Promise<Model> {
    const { id, source, precision, makeDefault } = input;
    const request = { id, source, precision: precision ?? 'fp32', makeDefault: makeDefault ?? false };
    return toModel(await services.models.load(request), services);
  }

  @Mutation(() => Boolean)
  unloadModel(@Arg('id', () => ID) id: string, @Ctx() { services }: Context): Promise<boolean> {
    return services.models.unload(id);
  }
}
