/** A PEFT adapter of a model, what its loader reports, and what happens to it. */
import { GraphQLDateTime } from 'graphql-scalars';
import { Field, Float, ID, Int, ObjectType } from 'type-graphql';
import { AdapterChange, AdapterStatus, type ValueOf } from './enums.ts';
import { Model } from './model.type.ts';

@ObjectType()
export class AdapterReport {
  @Field(() => [String])
  readonly matchedTensors!: readonly string[];

  @Field(() => [String])
  readonly unmatchedTensors!: readonly string[];

  @Field(() => [String])
  readonly zeroTensors!: readonly string[];

  @Field(() => [String])
  readonly warnings!: readonly string[];
}

@ObjectType()
export class Adapter {
  @Field(() => ID)
  readonly id!: string;

  @Field(() => String)
  readonly name!: string;

  @Field(() => Model)
  readonly model!: Model;

  @Field(() => String, { description: 'PEFT variant: LORA, RSLORA or DORA.' })
  readonly method!: string;

  @Field(() => Int)
  readonly rank!: number;

  @Field(() => Float)
  readonly alpha!: number;

  @Field(() => [String])
  readonly targetModules!: readonly string[];

  @Field(() => Float)
  readonly parameterCount!: number;

  @Field(() => Float, { description: "Share of the model's parameters, 0..1." })
  readonly parameterShare!: number;

  @Field(() => AdapterStatus)
  readonly status!: ValueOf<typeof AdapterStatus>;

  @Field(() => String)
  readonly source!: string;

  @Field(() => String)
  readonly sha256!: string;

  @Field(() => Float)
  readonly sizeBytes!: number;

  @Field(() => GraphQLDateTime)
  readonly loadedAt!: Date;

  @Field(() => AdapterReport, { description: "What the file held against what the model has: the loader's report." })
  readonly report!: AdapterReport;

  @Field(() => Float, { description: 'Requests and completion tokens answered with it since it was loaded.' })
  readonly requestCount!: number;

  @Field(() => Float)
  readonly completionTokenCount!: number;
}

@ObjectType()
export class AdapterChanged {
  @Field(() => AdapterChange)
  readonly change!: ValueOf<typeof AdapterChange>;

  @Field(() => Model)
  readonly model!: Model;

  @Field(() => Adapter, {
    nullable: true,
    description: 'The adapter as it is now; for DEACTIVATED the one that the model had.',
  })
  readonly adapter!: Adapter | null;
}
