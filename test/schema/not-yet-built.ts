/** What the contract names and no issue has built yet; each later issue takes its lines out. */
export const notYetBuilt: ReadonlySet<string> = new Set([
  // training
  'LearningRateSchedule',
  'LoraInput',
  'StartTrainingInput',
  'Training',
  'TrainingEvent',
  'TrainingFinished',
  'TrainingStep',
  'TrainingValidation',
  'TuningMethod',
  'Query.training',
  'Query.trainings',
  'Mutation.cancelTraining',
  'Mutation.startTraining',
  'Subscription.trainingEvents',
]);
