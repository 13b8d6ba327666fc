import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseLoraConfig } from '../../../src/runtime/peft/lora-config.ts';
import { selectTargets, type TargetSelection } from '../../../src/runtime/peft/target-modules.ts';
import { t5LinearModules, t5OtherModules } from '../../../src/runtime/t5/t5-modules.ts';
import { readJsonFile, repositoryPath } from '../../support/oracle.ts';
import { refuses } from '../../support/refuses.ts';
import { parseT5Config } from '../../support/t5-config.ts';
import { tinyConfig } from '../../support/tiny-model.ts';

type Fields = Readonly<Record<string, unknown>>;

/** Written by test/fixtures/peft-targets.py for a model of the tiny gated shape. */
interface Fixture {
  readonly linear: readonly string[];
  readonly others: readonly string[];
  readonly configs: readonly {
    readonly config: Fields;
    /** [index in `linear`, rank, scale]; absent where PEFT raises. */
    readonly modules?: readonly (readonly [number, number, number])[];
  }[];
}

const fixture = readJsonFile<Fixture>(repositoryPath('test/fixtures/peft-targets.json'));
const model = parseT5Config(tinyConfig({ gated: true }));

function select(fields: Fields): TargetSelection {
  return selectTargets(parseLoraConfig({ peft_type: 'LORA', target_modules: ['q', 'v'], ...fields }, 't5'), model);
}

test("the modules of a T5 are those of PyTorch's", () => {
  const linear = t5LinearModules(model).map(({ path }) => path);
  assert.deepEqual(linear.toSorted(), fixture.linear.toSorted());
  assert.deepEqual([...t5OtherModules(model)].sort(), fixture.others.toSorted());
});

for (const { config, modules } of fixture.configs) {
  const name = JSON.stringify(config);
  if (modules === undefined) {
    test(`${name} is refused, as PEFT raises`, () => {
      assert.throws(() => select(config), refuses('INCOMPATIBLE_ADAPTER', /target_modules/));
    });
    continue;
  }
  test(`${name} means what it means to PEFT`, () => {
    const selected = new Map(select(config).modules.map(({ path, rank, scale }) => [path, { rank, scale }]));
    const expected = new Map(modules.map(([index, rank, scale]) => [fixture.linear[index], { rank, scale }]));
    assert.deepEqual(new Map([...selected].sort()), new Map([...expected].sort()));
  });
}

test('a target that matches nothing is a warning that names it', () => {
  const { warnings } = select({ target_modules: ['q', 'q_proj', 'Attention.q'] });
  assert.deepEqual(warnings.length, 1);
  assert.match(warnings[0] ?? '', /does not have: "q_proj", "Attention\.q"\.$/);
});

test('targets of another architecture are refused with the names that this one has', () => {
  const message = /of this model \(q, k, v, o, wi_0, wi_1, wo, lm_head\), \["c_attn", "c_proj"\] matches none/;
  assert.throws(() => select({ target_modules: ['c_attn', 'c_proj'] }), refuses('INCOMPATIBLE_ADAPTER', message));
});

for (const target of ['shared', 'embed_tokens', 'relative_attention_bias', 'layer_norm', 'act', 'encoder', '0']) {
  test(`${target} is no linear module`, () => {
    const message = new RegExp(`linear modules \\(.*also means .*${target}`);
    assert.throws(() => select({ target_modules: ['q', target] }), refuses('INCOMPATIBLE_ADAPTER', message));
  });
}
