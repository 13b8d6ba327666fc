/** Rows of the table of embeddings, in float32 and in 8 bits. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ByteTable, FloatTable } from '../../../src/runtime/models/embedding-table.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const [VOCABULARY, SIZE] = [20, 33];
const next = seededNumbers(3);
const table = Float32Array.from({ length: VOCABULARY * SIZE }, (_, index) =>
  index < SIZE ? 0 : (next() - 0.5) * (1 + (index % SIZE)),
);

test('rows come by id, zeros behind them', () => {
  for (const rows of [new FloatTable(table, SIZE), new ByteTable(table, SIZE)].map((one) =>
    one.rows([3, 3, 0, 19], 6),
  )) {
    assert.equal(rows.length, 6 * SIZE);
    assert.deepEqual(rows.slice(0, SIZE), rows.slice(SIZE, 2 * SIZE));
    assert.ok(rows.subarray(4 * SIZE).every((value) => value === 0));
    assert.ok(
      rows.subarray(2 * SIZE, 3 * SIZE).every((value) => value === 0),
      'the row of id 0',
    );
  }
});

test('8 bits lose half a unit of the largest number of a row at most, and take a quarter of the memory', () => {
  const bytes = new ByteTable(table, SIZE);
  for (let id = 0; id < VOCABULARY; id++) {
    const own = table.subarray(id * SIZE, (id + 1) * SIZE);
    const unit = own.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127;
    for (const [index, value] of bytes.rows([id]).entries()) {
      assert.ok(Math.abs(value - (own[index] as number)) <= (unit / 2) * (1 + 1e-5));
    }
  }
  assert.equal(bytes.byteLength, VOCABULARY * (SIZE + 4));
  assert.equal(new FloatTable(table, SIZE).byteLength, VOCABULARY * SIZE * 4);
});
