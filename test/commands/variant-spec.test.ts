import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseVariantSpec } from '../../src/commands/variant-spec.ts';

const nothing = {
  model: undefined,
  adapters: undefined,
  template: undefined,
  shotCount: 0,
  decoding: {},
};

function refuses(spec: string, message: RegExp): void {
  assert.throws(() => parseVariantSpec(spec), message);
  assert.throws(() => parseVariantSpec(spec), new RegExp(`^Error: --variant ${JSON.stringify(spec).slice(0, 5)}`));
}

test('a variant is named by its label, or by itself', () => {
  assert.deepEqual(parseVariantSpec('label=greedy'), { ...nothing, label: 'greedy' });
  assert.deepEqual(parseVariantSpec('beams=4'), { ...nothing, label: 'beams=4', decoding: { numBeams: 4 } });
});

test('model, adapters with weights, template, worked examples and every decoding setting', () => {
  const own = 'label=all,model=dir:mine,adapters=dir:a:0.5+dir:b+c:-2+d,template=plain,shots=2';
  const numbers =
    'maxNewTokens=60,minNewTokens=1,numBeams=4,lengthPenalty=1.2,noRepeatNgramSize=3,repetitionPenalty=1.1,temperature=0.5,topK=5,topP=0.9,minP=0,typicalP=1,seed=7';
  assert.deepEqual(parseVariantSpec(`${own},${numbers},doSample=true,earlyStopping=never`), {
    label: 'all',
    model: 'dir:mine',
    adapters: [
      { name: 'dir:a', weight: 0.5 },
      { name: 'dir:b', weight: 1 },
      { name: 'c', weight: -2 },
      { name: 'd', weight: 1 },
    ],
    template: 'plain',
    shotCount: 2,
    decoding: {
      maxNewTokens: 60,
      minNewTokens: 1,
      numBeams: 4,
      lengthPenalty: 1.2,
      noRepeatNgramSize: 3,
      repetitionPenalty: 1.1,
      temperature: 0.5,
      topK: 5,
      topP: 0.9,
      minP: 0,
      typicalP: 1,
      seed: 7,
      doSample: true,
      earlyStopping: 'never',
    },
  });
  assert.deepEqual(parseVariantSpec('label=x,adapters=none').adapters, []);
});

test('models and adapters of the hub are named with their revision', () => {
  const spec = parseVariantSpec('model=hub:owner/name@v1,adapters=hub:owner/one@main:0.5+hub:owner/two');
  assert.equal(spec.model, 'hub:owner/name@v1');
  assert.deepEqual(spec.adapters, [
    { name: 'hub:owner/one@main', weight: 0.5 },
    { name: 'hub:owner/two', weight: 1 },
  ]);
});

test('a backslash makes commas, plus signs and colons part of a value; stop strings may be several', () => {
  const spec = parseVariantSpec('label=a\\, b\\\\,adapters=dir:one\\+two:0.5+i\\:d,stop=\\,,stop=x=y,badWords=no');
  assert.equal(spec.label, 'a, b\\');
  assert.deepEqual(spec.adapters, [
    { name: 'dir:one+two', weight: 0.5 },
    { name: 'i:d', weight: 1 },
  ]);
  assert.deepEqual(spec.decoding, { stop: [',', 'x=y'], badWords: ['no'] });
});

test('what cannot be read is refused, saying what was expected and what came', () => {
  refuses('greedy', /expected NAME=VALUE,…, "greedy" came/);
  refuses('', /expected NAME=VALUE,…, "" came/);
  refuses('label=a,', /expected NAME=VALUE,…, "" came/);
  refuses('label=', /expected a value of label, none came/);
  refuses('beam=4', /expected each name to be one of label, model, .*, beams, maxNewTokens, .*, "beam" came/);
  refuses('constructor=4', /expected each name to be one of/);
  refuses('beams=4,numBeams=5', /expected numBeams once, it twice came/);
  refuses('label=a,label=b', /expected label once/);
  refuses('beams=four', /expected numBeams to be a number, "four" came/);
  refuses('doSample=yes', /expected doSample to be true or false, "yes" came/);
  refuses('earlyStopping=true', /expected earlyStopping to be one of heuristic, when-beams-finish, never, "true" came/);
  refuses('shots=-1', /expected shots to be a whole number from 0 to 100, -1 came/);
  refuses('shots=1.5', /expected shots to be a whole number/);
  for (const adapters of ['dir:', 'a::1', 'a:1:2', 'dir:a:1:2', 'a+', '+a', 'dir']) {
    refuses(
      `adapters=${adapters}`,
      /expected adapters to be none, or dir:NAME:WEIGHT, hub:OWNER\/NAME:WEIGHT or ID:WEIGHT with \+ between them/,
    );
  }
  refuses('adapters=dir:a:much', /expected the weight of dir:a to be a number, "much" came/);
});
