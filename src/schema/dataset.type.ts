/** Datasets to evaluate on and to train with. */
import { Field, ID, Int, ObjectType } from 'type-graphql';

@ObjectType()
export class DatasetSplit {
  @Field(() => String)
  readonly name!: string;

  @Field(() => Int)
  readonly sampleCount!: number;

  @Field(() => Int, { description: 'Reference sets; `references` of an evaluation names them by index, from 0.' })
  readonly referenceCount!: number;
}

@ObjectType({ description: 'A folder of GISTQL_DATASETS_DIR, or one that comes with GistQL.' })
export class Dataset {
  @Field(() => ID, { description: 'Name of its folder.' })
  readonly id!: string;

  @Field(() => String, { description: 'As its dataset.json has it, else the id.' })
  readonly name!: string;

  @Field(() => String, { nullable: true, description: 'As its dataset.json has it.' })
  readonly license!: string | null;
}
