import { Arg, Ctx, ID, Mutation, Query, Resolver, Root, Subscription } from 'type-graphql';
import type { Context } from '../context.ts';
import type { AdapterChange } from '../runtime/adapters/served-adapter.ts';
import { ActivateAdapterInput, LoadAdapterInput } from '../schema/adapter.input.ts';
import { Adapter, AdapterChanged } from '../schema/adapter.type.ts';
import { Model } from '../schema/model.type.ts';
import { abortable } from './abortable.ts';
import { toAdapter, toAdapterChanged, toModel } from './shape.ts';

interface ChangesSource {
  readonly args: { readonly model?: string | null };
  readonly context: Context;
}

@Resolver()
export class AdapterResolver {
  @Query(() => [Adapter])
  adapters(
    @Arg('model', () => ID, { nullable: true }) model: string | null | undefined,
    @Ctx() { services }: Context,
  ): readonly Adapter[] {
    const modelId = typeof model === 'string' ? services.models.get(model).id : undefined;
    return services.adapters.list(modelId).map((adapter) => toAdapter(adapter, services));
  }

  @Query(() => Adapter, { nullable: true })
  adapter(@Arg('id', () => ID) id: string, @Ctx() { services }: Context): Adapter | null {
    const adapter = services.adapters.find(id);
    return adapter === undefined ? null : toAdapter(adapter, services);
  }

  @Mutation(() => Adapter)
  async loadAdapter(
    @Arg('input', () => LoadAdapterInput) input: LoadAdapterInput,
    @Ctx() { services }: Context,
  ): Promise<Adapter> {
    const { id, model, source, name, activate } = input;
    const request = { id, modelId: model, source, name: name ?? null, activate: activate ?? false };
    return toAdapter(await services.adapters.load(request), services);
  }

  @Mutation(() => Boolean, { description: 'Waits for requests that use it to end, then frees it.' })
  unloadAdapter(@Arg('id', () => ID) id: string, @Ctx() { services }: Context): Promise<boolean> {
    return services.adapters.unload(id);
  }

  @Mutation(() => Model)
  async activateAdapter(
    @Arg('input', () => ActivateAdapterInput) { model, adapter }: ActivateAdapterInput,
    @Ctx() { services }: Context,
  ): Promise<Model> {
    await services.adapters.activate(model, adapter ?? null);
    return toModel(services.models.get(model), services);
  }

  @Subscription(() => AdapterChanged, {
    description:
      'What happens to the adapters of a model, of all models when it is absent, from the moment of subscribing. A reader that lets 256 changes wait gets OVERLOADED.',
    subscribe: ({ args, context }: ChangesSource) =>
      abortable(context.signal, (signal) => context.services.adapters.changes(args.model ?? null, signal)),
  })
  adapterChanges(
    @Root() change: AdapterChange,
    @Arg('model', () => ID, { nullable: true }) _model: string | null | undefined,
    @Ctx() { services }: Context,
  ): AdapterChanged {
    return toAdapterChanged(change, services);
  }
}
