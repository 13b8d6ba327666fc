import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromFloat32, toFloat32 } from '../../src/storage/float-conversion.ts';
import { SafetensorsFile } from '../../src/storage/safetensors.ts';
import { oracleTest, repositoryPath, sharedPath } from '../support/oracle.ts';

const ALL_PATTERNS = Uint16Array.from({ length: 65_536 }, (_, pattern) => pattern);

function bytesOf(patterns: Uint16Array): Uint8Array {
  return new Uint8Array(patterns.buffer, patterns.byteOffset, patterns.byteLength);
}

function patternsOf(bytes: Uint8Array): Uint16Array {
  return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
}

/** IEEE 754, read off its definition digit by digit. */
function halfByDefinition(pattern: number): number {
  const digits = pattern.toString(2).padStart(16, '0');
  const exponent = Number.parseInt(digits.slice(1, 6), 2);
  let significand = exponent === 0 ? 0 : 1;
  for (let place = 1; place <= 10; place++) significand += digits[5 + place] === '1' ? 2 ** -place : 0;
  const sign = digits[0] === '1' ? -1 : 1;
  if (exponent < 31) return sign * significand * 2 ** (Math.max(exponent, 1) - 15);
  return significand === 1 ? sign / 0 : Number.NaN;
}

test('all 65536 float16 patterns have the value of the definition', () => {
  const values = toFloat32(bytesOf(ALL_PATTERNS), 'F16');
  for (const pattern of ALL_PATTERNS) assert.ok(Object.is(values[pattern], halfByDefinition(pattern)), `${pattern}`);
});

test('all 65536 bfloat16 patterns are the upper half of a float32', () => {
  const view = new DataView(new ArrayBuffer(4));
  const values = toFloat32(bytesOf(ALL_PATTERNS), 'BF16');
  for (const pattern of ALL_PATTERNS) {
    view.setUint16(0, pattern);
    assert.ok(Object.is(values[pattern], view.getFloat32(0)), `${pattern}`);
  }
});

for (const type of ['F16', 'BF16'] as const) {
  test(`${type}: every number survives the way to float32 and back`, () => {
    const values = toFloat32(bytesOf(ALL_PATTERNS), type);
    const back = patternsOf(fromFloat32(values, type));
    for (const pattern of ALL_PATTERNS) {
      if (!Number.isNaN(values[pattern])) assert.equal(back[pattern], pattern);
    }
    assert.ok(Number.isNaN(toFloat32(fromFloat32(Float32Array.of(Number.NaN), type), type)[0]));
  });

  test(`${type}: a number between two neighbours goes to the nearer, the middle to the even one`, () => {
    const infinity = type === 'F16' ? 0x7c00 : 0x7f80;
    const values = toFloat32(bytesOf(ALL_PATTERNS), type);
    for (let low = 0; low < infinity - 1; low++) {
      const middle = ((values[low] ?? 0) + (values[low + 1] ?? 0)) / 2;
      const [near, tie, far] = patternsOf(fromFloat32(around(middle), type));
      assert.deepEqual([near, tie, far], [low, low + (low % 2), low + 1], `${low}`);
    }
  });
}

/** The float32 numbers just below, at and just above a positive one. */
function around(value: number): Float32Array {
  const floats = Float32Array.of(value, value, value);
  const bits = new Uint32Array(floats.buffer);
  bits[0] = (bits[0] ?? 0) - 1;
  bits[2] = (bits[2] ?? 0) + 1;
  return floats;
}

test('float16: what is beyond 65504 by half a step or more becomes infinite', () => {
  const patterns = patternsOf(fromFloat32(Float32Array.of(65_519, 65_520, -1e30), 'F16'));
  assert.deepEqual([...patterns], [0x7bff, 0x7c00, 0xfc00]);
});

test('values at an odd address are read as well', () => {
  const shifted = Uint8Array.of(9, 0, 0, 128, 63).subarray(1);
  assert.deepEqual([...toFloat32(shifted, 'F32')], [1]);
  assert.deepEqual([...toFloat32(shifted, 'BF16')], [0, 1]);
});

for (const [type, name] of [
  ['F16', 'float16'],
  ['BF16', 'bfloat16'],
] as const) {
  const path = `oracle/models/t5-gated-untied-${name}/model.safetensors`;
  oracleTest(`${name}: PyTorch's rounding of the float32 model, both ways`, path, async () => {
    const full = await SafetensorsFile.open(repositoryPath('test/fixtures/t5-gated-untied/model.safetensors'));
    const rounded = await SafetensorsFile.open(sharedPath(path));
    try {
      assert.deepEqual([...rounded.tensors.keys()].sort(), [...full.tensors.keys()].sort());
      for (const [tensor, { dtype }] of rounded.tensors) {
        assert.equal(dtype, type);
        const values = await rounded.read(tensor);
        assert.deepEqual(values, toFloat32(fromFloat32(await full.read(tensor), type), type), tensor);
      }
    } finally {
      await full.close();
      await rounded.close();
    }
  });
}
