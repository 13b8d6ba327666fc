import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readFinetuneArguments } from '../../src/commands/finetune-arguments.ts';
import { defaultLora, defaultOptimization } from '../../src/training/jobs/training-request.ts';

const required = ['--dataset', 'everyday', '--output', 'made'];

test('what is left out has the defaults of the API', () => {
  assert.deepEqual(readFinetuneArguments(required), {
    json: false,
    training: {
      model: undefined,
      idempotencyKey: null,
      request: {
        method: 'lora',
        outputId: 'made',
        dataset: 'everyday',
        split: 'train',
        limit: null,
        validationSplit: null,
        validationLimit: null,
        templateId: null,
        maxSourceTokens: null,
        maxTargetTokens: 128,
        lora: null,
        optimization: defaultOptimization,
        evaluateEverySteps: null,
      },
    },
  });
  assert.equal(readFinetuneArguments(['--help', ...required]), undefined);
});

test('every setting can be said', () => {
  const options = {
    ...{ method: 'lora', model: 'dir:base', split: 'dev', limit: '9', template: 'plain', 'validation-split': 'test' },
    ...{ 'validation-limit': '3', 'max-source-tokens': '64', 'max-target-tokens': '16', 'evaluate-every-steps': '5' },
    ...{ rank: '4', alpha: '1.5', dropout: '0.1', 'target-modules': 'q,wi_0', epochs: '2.5', 'max-steps': '7' },
    ...{ 'batch-size': '2', 'gradient-accumulation': '3', 'learning-rate': '1e-4', schedule: 'cosine' },
    ...{ 'warmup-steps': '6', 'weight-decay': '0.01', 'label-smoothing': '0.2', seed: '11', 'max-grad-norm': '0.5' },
    ...{ 'idempotency-key': 'mine' },
  };
  const written = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
  assert.deepEqual(readFinetuneArguments([...required, ...written, '--rslora', '--json']), {
    json: true,
    training: {
      model: 'dir:base',
      idempotencyKey: 'mine',
      request: {
        ...{ method: 'lora', outputId: 'made', dataset: 'everyday', split: 'dev', limit: 9, templateId: 'plain' },
        ...{ validationSplit: 'test', validationLimit: 3, maxSourceTokens: 64, maxTargetTokens: 16 },
        lora: { rank: 4, alpha: 1.5, dropout: 0.1, targetModules: ['q', 'wi_0'], useRslora: true },
        optimization: {
          ...{ epochs: 2.5, maxSteps: 7, batchSize: 2, gradientAccumulation: 3, learningRate: 1e-4 },
          ...{ schedule: 'cosine', warmupSteps: 6, weightDecay: 0.01, maxGradNorm: 0.5, labelSmoothing: 0.2, seed: 11 },
        },
        evaluateEverySteps: 5,
      },
    },
  });
});

test('one word about LoRA brings its other defaults', () => {
  const { training } = readFinetuneArguments([...required, '--rank', '2']) ?? assert.fail();
  assert.ok(typeof training !== 'string');
  assert.deepEqual(training.request.lora, { ...defaultLora, rank: 2 });
});

test('a training that goes on keeps its settings', () => {
  assert.deepEqual(readFinetuneArguments(['--resume', 'abc', '--json']), { training: 'abc', json: true });
  assert.throws(
    () => readFinetuneArguments(['--resume', 'abc', '--rank', '4']),
    /Expected --resume ID alone, --rank came/,
  );
});

test('what cannot be is refused by name', () => {
  const refusals: readonly (readonly [readonly string[], RegExp])[] = [
    [['--output', 'made'], /^Expected --dataset NAME, none came\. See gistql finetune --help\.$/],
    [['--dataset', 'everyday'], /^Expected --output ID, none came\./],
    [[...required, '--rank', 'four'], /^Expected --rank to be a number, "four" came\./],
    [[...required, '--epochs', ''], /^Expected --epochs to be a number, "" came\./],
    [[...required, '--learning-rate', 'Infinity'], /^Expected --learning-rate to be a number, "Infinity" came\./],
    [[...required, '--method', 'dora'], /^Expected --method to be lora or full, "dora" came\./],
    [[...required, '--schedule', 'step'], /^Expected --schedule to be constant or linear or cosine, "step" came\./],
    [[...required, '--ranks', '4'], /Unknown option '--ranks'.* See gistql finetune --help\.$/s],
  ];
  for (const [written, message] of refusals) {
    assert.throws(() => readFinetuneArguments(written), { message });
  }
});
