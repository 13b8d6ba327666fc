/** A loaded model. */
import { GraphQLDateTime } from 'graphql-scalars';
import { Field, Float, ID, InputType, Int, ObjectType } from 'type-graphql';
import { Adapter } from './adapter.type.ts';
import { Device, ModelFamily, ModelStatus, Precision, type ValueOf } from './enums.ts';

@ObjectType()
export class Model {
  @Field(() => ID)
  readonly id!: string;

  @Field(() => ModelFamily)
  readonly family!: ValueOf<typeof ModelFamily>;

  @Field(() => String, {
    description: "The architecture as the model's own config.json names it, such as T5ForConditionalGeneration.",
  })
  readonly architecture!: string;

  @Field(() => String, { description: 'Where it came from: `embedded:NAME`, `dir:NAME` or `hub:OWNER/NAME@COMMIT`.' })
  readonly source!: string;

  @Field(() => Float)
  readonly parameterCount!: number;

  @Field(() => Int)
  readonly vocabularySize!: number;

  @Field(() => Int)
  readonly hiddenSize!: number;

  @Field(() => Int)
  readonly maxInputTokens!: number;

  @Field(() => Precision)
  readonly precision!: ValueOf<typeof Precision>;

  @Field(() => Device)
  readonly device!: ValueOf<typeof Device>;

  @Field(() => Boolean)
  readonly isDefault!: boolean;

  @Field(() => ModelStatus)
  readonly status!: ValueOf<typeof ModelStatus>;

  @Field(() => Float, { description: 'Bytes of weights held in memory.' })
  readonly memoryBytes!: number;

  @Field(() => GraphQLDateTime)
  readonly loadedAt!: Date;

  @Field(() => Adapter, {
    nullable: true,
    description: 'The adapter that answers requests which name none; null is the model as it is.',
  })
  readonly activeAdapter!: Adapter | null;

  @Field(() => [Adapter])
  readonly adapters!: readonly Adapter[];
}

@InputType()
export class LoadModelInput {
  @Field(() => ID)
  readonly id!: string;

  @Field(() => String, {
    description:
      "`dir:NAME` or `embedded:NAME`: a folder under the server's model directory, never a path. `hub:OWNER/NAME[@REVISION][#FILE]`: a repository of the Hugging Face hub.",
  })
  readonly source!: string;

  @Field(() => Precision, { nullable: true, defaultValue: Precision.FP32 })
  readonly precision?: ValueOf<typeof Precision> | null;

  @Field(() => Boolean, { nullable: true, defaultValue: false })
  readonly makeDefault?: boolean | null;
}
