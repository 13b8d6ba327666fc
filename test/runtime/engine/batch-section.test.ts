/** What requests have in the cache stays theirs while others leave, come, and the cache is fitted to what runs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BatchSection, slotOf } from '../../../src/runtime/engine/batch-section.ts';
import { KvCache, type SourceCache } from '../../../src/runtime/engine/kv-cache.ts';
import type { ScheduledRequest } from '../../../src/runtime/engine/scheduled-request.ts';
import { makeScheduled } from '../../support/scheduled-requests.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const SEED = 20261128;
const SHAPE = { layerCount: 2, headCount: 2, headSize: 3 };

/** A source whose keys and values are all `mark`. */
function sourceOf(mark: number, length: number): SourceCache {
  const plane = (): Float32Array => new Float32Array(SHAPE.headCount * length * SHAPE.headSize).fill(mark);
  const planes = [plane(), plane()];
  return { length, offset: 0, keys: planes, values: planes };
}

function assertHolds(section: BatchSection, request: ScheduledRequest, mark: number): void {
  const { source } = section.cache.save(slotOf(request), request.sourceLength, 0);
  for (const plane of [...source.keys, ...source.values]) {
    assert.ok(
      plane.every((value) => value === mark),
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
