/** Tokens and embeddings. */
import { Field, Float, ID, InputType, Int, ObjectType } from 'type-graphql';
import { EmbeddingLayer, Pooling, type ValueOf } from './enums.ts';

@ObjectType()
export class Token {
  @Field(() => Int)
  readonly id!: number;

  @Field(() => String)
  readonly text!: string;

  @Field(() => Boolean)
  readonly special!: boolean;

  @Field(() => Int, {
    nullable: true,
    description: 'Character range in the input, in Unicode code points; null for tokens that stand for no input.',
  })
  readonly start!: number | null;

  @Field(() => Int, { nullable: true })
  readonly end!: number | null;
}

@ObjectType()
export class Tokenization {
  @Field(() => [Token])
  readonly tokens!: readonly Token[];

  @Field(() => [Int])
  readonly ids!: readonly number[];

  @Field(() => Int)
  readonly tokenCount!: number;
}

@InputType()
export class TokenizeInput {
  @Field(() => String)
  readonly text!: string;

  @Field(() => ID, { nullable: true })
  readonly model?: string | null;

  @Field(() => Boolean, { nullable: true, defaultValue: true })
  readonly addSpecialTokens?: boolean | null;
}

@InputType()
export class DetokenizeInput {
  @Field(() => [Int])
  readonly ids!: readonly number[];

  @Field(() => ID, { nullable: true })
  readonly model?: string | null;

  @Field(() => Boolean, { nullable: true, defaultValue: true })
  readonly skipSpecialTokens?: boolean | null;
}

@InputType()
export class EmbedInput {
  @Field(() => [String])
  readonly texts!: readonly string[];

  @Field(() => ID, { nullable: true })
  readonly model?: string | null;

  @Field(() => EmbeddingLayer, { nullable: true, defaultValue: EmbeddingLayer.ENCODER })
  readonly layer?: ValueOf<typeof EmbeddingLayer> | null;

  @Field(() => Pooling, { nullable: true, defaultValue: Pooling.MEAN })
  readonly pooling?: ValueOf<typeof Pooling> | null;

  @Field(() => Boolean, { nullable: true, defaultValue: false })
  readonly normalize?: boolean | null;
}

@ObjectType()
export class Embedding {
  @Field(() => String)
  readonly text!: string;

  @Field(() => [Int])
  readonly tokenIds!: readonly number[];

  @Field(() => [[Float]], { description: 'One vector when pooled, else one a token.' })
  readonly vectors!: readonly (readonly number[])[];

  @Field(() => Int)
  readonly dimension!: number;
}
