/** The tables of the comparison on a GPU: what is counted, and what is left out. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { publishedTable, ratioTable, type SystemRounds, speedTable } from '../../bench/cuda-report.ts';
import { systemsOf } from '../../bench/cuda-systems.ts';

const BYTES = { weights: 400, source: 500, own: 100, total: 1000 };

function rounds(label: string, values: Partial<SystemRounds>): SystemRounds {
  const system = systemsOf('cuda').find((kind) => kind.label === label);
  assert.ok(system !== undefined);
  const measured = { seconds: [2, 4, 5], firstTokenSeconds: [0.2, 0.1, 0.3], equalShare: 1, trouble: undefined };
  return { system, bytes: BYTES, ...measured, ...values };
}

function cellsOf(table: string): readonly (readonly string[])[] {
  const cut = (line: string): string[] =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim());
  return table.split('\n').slice(2).map(cut);
}

test('speeds are medians, and the share is of steps a second times what a step reads', () => {
  const systems = [rounds('PyTorch fp32', {}), rounds('GistQL fp32', { equalShare: 0.5 })];
  // 10 steps in 4 s, 1000 bytes each, of 5000 bytes a second
  const [first, second] = cellsOf(speedTable([{ rows: 8, newTokens: 10, systems }], 5000));
  assert.deepEqual(first, ['8', 'PyTorch fp32', '20.0', '200.0', '100 %', '0.0', '50 %', '']);
  assert.equal(second?.[4], '50 %');
});

test('ratios are made round by round, to each peer', () => {
  const systems = [
    rounds('GistQL fp16', { seconds: [1, 2, 1], firstTokenSeconds: [0.1, 0.1, 0.1] }),
    rounds('PyTorch fp16', {}),
    rounds('PyTorch bf16', { seconds: [0.5, 1, 0.5] }),
    rounds('PyTorch fp32', { seconds: [9, 9, 9] }),
  ];
  assert.deepEqual(cellsOf(ratioTable([{ rows: 8, newTokens: 10, systems }])), [
    ['8', 'GistQL fp16', 'PyTorch fp16', '2.00', '2.00 to 5.00', '2.00', '1.00 to 3.00'],
    ['8', 'GistQL fp16', 'PyTorch bf16', '0.50', '0.50 to 0.50', '2.00', '1.00 to 3.00'],
  ]);
});

test('who gave no numbers, or void ones, has a remark and no ratio', () => {
  const systems = [
    rounds('GistQL fp32', {}),
    rounds('PyTorch fp32', { seconds: [], firstTokenSeconds: [], equalShare: undefined, trouble: 'out of memory' }),
  ];
  const results = [{ rows: 128, newTokens: 10, systems }];
  assert.deepEqual(cellsOf(speedTable(results, 5000))[1]?.slice(1), [
    'PyTorch fp32',
    '',
    '',
    '',
    '0.0',
    '',
    'out of memory',
  ]);
  assert.deepEqual(cellsOf(ratioTable(results)), []);
});

test('a system is held against its own kind, and TF32 is asked for where it is meant', () => {
  const [fp32, tf32] = systemsOf('cuda', 'gistql-fp32,gistql-tf32');
  assert.deepEqual(fp32?.peers, ['PyTorch fp32']);
  assert.deepEqual(fp32?.environment, {});
  assert.deepEqual(tf32?.environment, { NVIDIA_TF32_OVERRIDE: '1' });
  const place = { folder: 'F', python: 'P', device: 'cuda' } as const;
  assert.deepEqual(fp32?.command(place).slice(2), tf32?.command(place).slice(2));
  assert.throws(() => systemsOf('cuda', 'jax'), /expected systems of .*; jax came/);
});

test('published numbers are said to be that', () => {
  assert.match(publishedTable(), /^Published by others, another model, not measured here/);
});
