/** What adapters are chosen, loaded and activated with. */
import { Field, Float, ID, InputType } from 'type-graphql';

@InputType({
  description:
    "Omitted or null: the model's active adapter. An empty list: no adapter. One or more: their weighted sum, for this request alone.",
})
export class AdapterChoiceInput {
  @Field(() => ID)
  readonly id!: string;

  @Field(() => Float, { nullable: true, defaultValue: 1 })
  readonly weight?: number | null;
}

@InputType()
export class LoadAdapterInput {
  @Field(() => ID)
  readonly id!: string;

  @Field(() => ID)
  readonly model!: string;

  @Field(() => String, {
    description:
      "`dir:NAME`: a folder under the server's adapter directory, never a path. `hub:OWNER/NAME[@REVISION]`: a repository of the Hugging Face hub.",
  })
  readonly source!: string;

  @Field(() => String, { nullable: true, description: 'Default: the id.' })
  readonly name?: string | null;

  @Field(() => Boolean, { nullable: true, defaultValue: false })
  readonly activate?: boolean | null;
}

@InputType({
  description:
    'Hot swap. adapter: null returns the model to its own weights. Requests already running keep the adapter they started with.',
})
export class ActivateAdapterInput {
  @Field(() => ID)
  readonly model!: string;

  @Field(() => ID, { nullable: true })
  readonly adapter?: string | null;
}
