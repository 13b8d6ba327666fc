/** What requests have in the cache stays theirs while others leave, come, and the cache is fitted to what runs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BatchSection, slotOf } from '../../../src/runtime/engine/batch-section.ts';
import { KvCache, type SourceCache } from '../../../src/runtime/engine/kv-cache.ts';
import type { ScheduledRequest } from '../../../src/runtime/engine/scheduled-request.ts';
import { makeScheduled } from '../../support/scheduled-requests.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const SEED = 20261128;
const [HEADS, HEAD_SIZE] = [2, 3];
/** Of every kind: floats by position, bytes whose last axis is the position, and what is said of a whole source. */
const SHAPE = {
  layerCount: 2,
  heads: { headCount: HEADS, headSize: HEAD_SIZE },
  source: [
    { name: 'source_values', type: 'float32', dims: [HEADS, 'length', HEAD_SIZE] },
    { name: 'source_keys', type: 'uint8', dims: [HEADS, HEAD_SIZE, 'length'] },
    { name: 'source_scales', type: 'float32', dims: [HEADS, 1, HEAD_SIZE] },
  ],
} as const;

/** A source of which everything is `mark`, as far as a byte tells. */
function sourceOf(mark: number, length: number): SourceCache {
  const [bytes, floats] = [new Uint8Array(HEADS * HEAD_SIZE * length), new Float32Array(HEADS * HEAD_SIZE * length)];
  const scales = new Float32Array(HEADS * HEAD_SIZE).fill(mark);
  const parts = [floats.fill(mark), bytes.fill(mark), scales];
  return { length, parts: parts.map((part) => [part, part]) };
}

function assertHolds(section: BatchSection, request: ScheduledRequest, mark: number): void {
  const { source } = section.cache.save(slotOf(request), request.sourceLength, 0);
  assert.equal(source.parts.length, SHAPE.source.length);
  for (const plane of source.parts.flat()) {
    const expected = plane instanceof Uint8Array ? mark % 256 : mark;
    assert.ok(
      plane.every((value) => value === expected),
      `${request.request.id} has its source`,
    );
  }
}

test('room for requests that come leaves those behind holes what they have, though the cache shrinks', () => {
  const section = new BatchSection('singles', new KvCache(SHAPE));
  const requests = [64, 16, 16].map((length, index) => {
    const request = makeScheduled(`r${index}`);
    section.place(request, sourceOf(index + 1, length));
    return request;
  });
  const [long, short, last] = requests as [ScheduledRequest, ScheduledRequest, ScheduledRequest];
  section.preempt(long);
  section.preempt(short);
  section.reserve(1);
  assertHolds(section, last, 3);
  section.place(short, undefined);
  section.compact();
  assertHolds(section, last, 3);
  assertHolds(section, short, 2);
});

test(`requests that come, leave and give way at random keep their sources (seed ${SEED})`, () => {
  const next = seededNumbers(SEED);
  const section = new BatchSection('singles', new KvCache(SHAPE));
  const away: ScheduledRequest[] = [];
  const marks = new Map<ScheduledRequest, number>();
  for (let round = 0; round < 500; round++) {
    for (const request of section.requests) {
      const draw = next();
      if (draw < 0.15) section.remove(request);
      else if (draw < 0.35) {
        section.preempt(request);
        away.push(request);
      }
    }
    const back = away.splice(0, Math.floor(next() * 3));
    const coming = Array.from({ length: Math.floor(next() * 3) }, (_, index) => makeScheduled(`r${round}-${index}`));
    section.reserve(back.length + coming.length);
    for (const request of back) section.place(request, undefined);
    for (const request of coming) {
      marks.set(request, marks.size + 1);
      section.place(request, sourceOf(marks.size, 16 * (1 + Math.floor(next() * 8))));
    }
    section.compact();
    for (const request of section.requests) assertHolds(section, request, marks.get(request) ?? 0);
  }
  assert.ok(marks.size > 300);
});

test('a new request finds nothing in its slot of what a former one decoded', () => {
  const cache = new KvCache(SHAPE);
  const section = new BatchSection('singles', cache);
  const former = makeScheduled('former');
  section.place(former, sourceOf(1, 16));
  const row = new Float32Array(SHAPE.layerCount * 2 * HEADS * HEAD_SIZE).fill(Number.POSITIVE_INFINITY);
  cache.writeEntry(slotOf(former), 3, row, 0);
  section.remove(former);
  const next = makeScheduled('next');
  section.place(next, sourceOf(2, 16));
  const { self } = cache.save(slotOf(next), 16, 16);
  assert.ok(self.flat().every((plane) => plane.every((value) => value === 0)));
});
