/** Resolvers to an executable schema. */
import 'reflect-metadata';
import { createPubSub } from '@graphql-yoga/subscription';
import type { GraphQLSchema } from 'graphql';
import { buildSchemaSync } from 'type-graphql';
import { EvaluationFinished, SampleScored, ScoresUpdated } from '../schema/evaluation-event.type.ts';
import { GenerationFinished, TokensAppended } from '../schema/generation.type.ts';
import { TrainingFinished, TrainingStep, TrainingValidation } from '../schema/training.type.ts';
import { AdapterResolver } from './adapter.resolver.ts';
import { ComparisonResolver } from './comparison.resolver.ts';
import { DatasetResolver } from './dataset.resolver.ts';
import { EvaluationResolver } from './evaluation.resolver.ts';
import { GenerationResolver } from './generation.resolver.ts';
import { ModelResolver } from './model.resolver.ts';
import { RougeResolver } from './rouge.resolver.ts';
import { TextResolver } from './text.resolver.ts';
import { TrainingResolver } from './training.resolver.ts';

export function buildGraphqlSchema(): GraphQLSchema {
  return buildSchemaSync({
    resolvers: [
      AdapterResolver,
      ComparisonResolver,
      DatasetResolver,
      EvaluationResolver,
      GenerationResolver,
      ModelResolver,
      RougeResolver,
      TextResolver,
      TrainingResolver,
    ],
    // nothing returns the interface's own types by name
    orphanedTypes: [
      TokensAppended,
      GenerationFinished,
      SampleScored,
      ScoresUpdated,
      EvaluationFinished,
      TrainingStep,
      TrainingValidation,
      TrainingFinished,
    ],
    // the runtime checks what it is asked, for other callers too
    validate: false,
    // type-graphql asks for one as soon as there is a subscription; ours bring their own sources
    pubSub: createPubSub(),
  });
}
