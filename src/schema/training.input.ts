/** What is asked of trainings. */
import { ArgsType, Field, Float, ID, InputType, Int } from 'type-graphql';
import { LearningRateSchedule, TuningMethod, type ValueOf } from './enums.ts';

@InputType()
export class LoraInput {
  @Field(() => Int, { nullable: true, defaultValue: 8 })
  readonly rank?: number | null;

  @Field(() => Float, { nullable: true, defaultValue: 16 })
  readonly alpha?: number | null;

  @Field(() => Float, {
    nullable: true,
    defaultValue: 0,
    description: 'Share of what the factors read that a step drops, from 0 to below 1.',
  })
  readonly dropout?: number | null;

  @Field(() => [String], {
    nullable: true,
    description: "Ends of paths of the model's matrices, as in PEFT, or the one name `all-linear`. Default: q and v.",
  })
  readonly targetModules?: readonly string[] | null;

  @Field(() => Boolean, { nullable: true, defaultValue: false })
  readonly useRslora?: boolean | null;
}

@InputType()
export class StartTrainingInput {
  @Field(() => ID, { description: 'A loaded model; its own weights are trained, whatever adapter is active.' })
  readonly model!: string;

  @Field(() => TuningMethod)
  readonly method!: ValueOf<typeof TuningMethod>;

  @Field(() => ID, {
    description:
      'The id that the trained adapter (or, for FULL, the trained model) is registered under, and the name of its folder.',
  })
  readonly outputId!: string;

  @Field(() => ID, {
    description:
      'A folder of datasets by its name, or `hub:OWNER/NAME[@REVISION]`: a repository of the Hugging Face hub.',
  })
  readonly dataset!: string;

  @Field(() => String, { nullable: true, defaultValue: 'train' })
  readonly split?: string | null;

  @Field(() => Int, { nullable: true, description: 'The first N samples. Default: all.' })
  readonly limit?: number | null;

  @Field(() => String, {
    nullable: true,
    description:
      'The split whose loss is looked at every evaluateEverySteps and after the last step; the weights that were best on it come out. Default: `validation`, where the dataset has one and evaluateEverySteps is given.',
  })
  readonly validationSplit?: string | null;

  @Field(() => Int, { nullable: true, description: 'The first N samples of the validation split. Default: all.' })
  readonly validationLimit?: number | null;

  @Field(() => ID, { nullable: true, description: "Default: the model's own, else `summarize-conversation`." })
  readonly template?: string | null;

  @Field(() => Int, {
    nullable: true,
    description: 'Longer texts are cut, with a warning in the run. Default: 512, or what the model takes.',
  })
  readonly maxSourceTokens?: number | null;

  @Field(() => Int, { nullable: true, defaultValue: 128, description: 'Longer summaries are cut, with a warning.' })
  readonly maxTargetTokens?: number | null;

  @Field(() => LoraInput, { nullable: true })
  readonly lora?: LoraInput | null;

  @Field(() => Float, { nullable: true, defaultValue: 1 })
  readonly epochs?: number | null;

  @Field(() => Int, { nullable: true, description: 'Takes the place of epochs.' })
  readonly maxSteps?: number | null;

  @Field(() => Int, { nullable: true, defaultValue: 8 })
  readonly batchSize?: number | null;

  @Field(() => Int, { nullable: true, defaultValue: 1, description: 'Batches of a step.' })
  readonly gradientAccumulation?: number | null;

  @Field(() => Float, { nullable: true, defaultValue: 0.001 })
  readonly learningRate?: number | null;

  @Field(() => LearningRateSchedule, { nullable: true, defaultValue: LearningRateSchedule.LINEAR })
  readonly schedule?: ValueOf<typeof LearningRateSchedule> | null;

  @Field(() => Int, { nullable: true, defaultValue: 0 })
  readonly warmupSteps?: number | null;

  @Field(() => Float, { nullable: true, defaultValue: 0 })
  readonly weightDecay?: number | null;

  @Field(() => Float, { nullable: true, defaultValue: 1, description: '0: gradients are not clipped.' })
  readonly maxGradNorm?: number | null;

  @Field(() => Float, { nullable: true, defaultValue: 0 })
  readonly labelSmoothing?: number | null;

  @Field(() => Int, { nullable: true, defaultValue: 0 })
  readonly seed?: number | null;

  @Field(() => Int, { nullable: true, description: 'Steps between two looks at the validation split.' })
  readonly evaluateEverySteps?: number | null;

  @Field(() => String, {
    nullable: true,
    description: 'The same key gives the same run; with another request it is refused with CONFLICT.',
  })
  readonly idempotencyKey?: string | null;
}

@ArgsType()
export class TrainingEventsArgs {
  @Field(() => ID)
  readonly id!: string;

  @Field(() => String, {
    nullable: true,
    description: 'Cursor of the last event that was seen. Default: from the first.',
  })
  readonly after?: string | null;
}
