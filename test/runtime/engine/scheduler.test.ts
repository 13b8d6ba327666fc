/** Who runs next: the policy alone, over requests that run nothing. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ScheduledRequest } from '../../../src/runtime/engine/scheduled-request.ts';
import { Scheduler } from '../../../src/runtime/engine/scheduler.ts';
import { makeScheduled } from '../../support/scheduled-requests.ts';

const ids = (requests: readonly ScheduledRequest[]): readonly string[] => requests.map(({ request }) => request.id);

/** What the engine does with a request that was given rows. */
function begin(requests: readonly ScheduledRequest[]): void {
  for (const request of requests) request.state = { status: 'running', slot: 0 };
}

function makeScheduler(maxRows: number): Scheduler {
  return new Scheduler({ maxRows, prefillTokens: 512, timeSliceSteps: 100 });
}

test('interactive requests are admitted before background ones that came first', () => {
  const scheduler = makeScheduler(2);
  for (const id of ['b1', 'b2', 'b3']) scheduler.add(makeScheduled(id, 'background'));
  for (const id of ['i1', 'i2']) scheduler.add(makeScheduled(id));
  assert.deepEqual(ids(scheduler.admit()), ['i1', 'i2']);
});

test('background requests give as many rows as an interactive one needs, the latest first, and come back first', () => {
  const scheduler = makeScheduler(4);
  for (const id of ['b1', 'b2', 'b3', 'b4', 'b5']) scheduler.add(makeScheduled(id, 'background'));
  begin(scheduler.admit());
  scheduler.add(makeScheduled('i1', 'interactive', 2));
  assert.deepEqual(ids(scheduler.preempt()), ['b4', 'b3']);
  assert.deepEqual(ids(scheduler.admit()), ['i1']);
  scheduler.remove(({ request }) => request.id === 'i1');
  assert.deepEqual(scheduler.preempt(), [], 'background requests do not give way to each other');
  assert.deepEqual(ids(scheduler.admit()), ['b3', 'b4']);
});

test('interactive requests do not give way before their time slice is over', () => {
  const scheduler = makeScheduler(1);
  const running = makeScheduled('i1');
  scheduler.add(running);
  begin(scheduler.admit());
  scheduler.add(makeScheduled('i2'));
  assert.deepEqual(scheduler.preempt(), []);
  running.stepsInSlice = 100;
  assert.deepEqual(ids(scheduler.preempt()), ['i1']);
});

test('a background request that hundreds went before counts as interactive', () => {
  const scheduler = makeScheduler(1);
  scheduler.add(makeScheduled('b', 'background'));
  let overtaking = 0;
  for (; overtaking < 10_000; overtaking++) {
    const id = `i${overtaking}`;
    scheduler.add(makeScheduled(id));
    const admitted = scheduler.admit();
    if (ids(admitted).includes('b')) break;
    scheduler.remove(({ request }) => request.id === id);
  }
  assert.equal(overtaking, 256);
  begin([]);
  scheduler.add(makeScheduled('last'));
  assert.deepEqual(scheduler.preempt(), [], 'it keeps its rows as well');
});

test('who is not ready holds up those behind it', () => {
  const scheduler = makeScheduler(8);
  for (const id of ['i1', 'i2', 'i3']) scheduler.add(makeScheduled(id));
  const beside: string[][] = [];
  const prepare = (one: ScheduledRequest, others: readonly ScheduledRequest[]) => {
    beside.push([...ids(others)]);
    return one.request.id === 'i2' ? 'more to do' : 'ready';
  };
  assert.deepEqual(ids(scheduler.admit(prepare)), ['i1']);
  assert.deepEqual(beside, [[], ['i1']]);
  assert.deepEqual(ids(scheduler.admit()), ['i2', 'i3']);
});

/** A runner that has room for one wide adapter at a time. */
const oneWide = (asked: string[] = []) => {
  const isWide = ({ request }: ScheduledRequest): boolean => request.id.startsWith('wide');
  return (one: ScheduledRequest, beside: readonly ScheduledRequest[]) => {
    asked.push(one.request.id);
    return isWide(one) && beside.some(isWide) ? 'no room' : 'ready';
  };
};

test('who has no room for its adapters is passed by those that have, and goes first when room comes', () => {
  const scheduler = makeScheduler(4);
  for (const id of ['wide1', 'wide2', 'i1']) scheduler.add(makeScheduled(id));
  const asked: string[] = [];
  const admit = (): readonly string[] => ids(scheduler.admit(oneWide(asked)));
  assert.deepEqual(admit(), ['wide1', 'i1']);
  scheduler.add(makeScheduled('i2'));
  assert.deepEqual(admit(), ['i2']);
  assert.deepEqual(asked, ['wide1', 'wide2', 'i1', 'i2'], 'it is not asked again while nobody left');
  scheduler.add(makeScheduled('i3'));
  scheduler.add(makeScheduled('i4'));
  scheduler.remove(({ request }) => request.id === 'wide1');
  assert.deepEqual(admit(), ['wide2', 'i3'], 'two of the four rows are left');
});

test('who waits for room is passed 32 times, then the others wait with it', () => {
  const scheduler = makeScheduler(4);
  for (const id of ['wide1', 'wide2']) scheduler.add(makeScheduled(id));
  const admit = (): readonly string[] => ids(scheduler.admit(oneWide()));
  assert.deepEqual(admit(), ['wide1']);
  let passing = 0;
  for (; passing < 1000; passing++) {
    const id = `i${passing}`;
    scheduler.add(makeScheduled(id));
    if (!admit().includes(id)) break;
    scheduler.remove(({ request }) => request.id === id);
  }
  assert.equal(passing, 32);
  scheduler.remove(({ request }) => request.id === 'wide1');
  assert.deepEqual(admit(), ['wide2', 'i32']);
});

test('no rows are taken from others for one that has no room; those that pass it get them', () => {
  const scheduler = makeScheduler(2);
  const [wide, tired] = [makeScheduled('wide1'), makeScheduled('tired')];
  for (const one of [wide, tired]) scheduler.add(one);
  begin(scheduler.admit(oneWide()));
  scheduler.add(makeScheduled('wide2'));
  tired.stepsInSlice = 100;
  assert.deepEqual(ids(scheduler.preempt()), ['tired'], 'whether it has room is not known yet');
  assert.deepEqual(ids(scheduler.admit(oneWide())), ['tired']);
  tired.stepsInSlice = 100;
  assert.deepEqual(scheduler.preempt(), []);
  scheduler.add(makeScheduled('i1'));
  assert.deepEqual(ids(scheduler.preempt()), ['tired']);
  assert.deepEqual(ids(scheduler.admit(oneWide())), ['i1']);
});

test('whether the first that waits has rows, and is kept by something else', () => {
  const scheduler = makeScheduler(3);
  assert.equal(scheduler.nextFits, false);
  for (const id of ['i1', 'i2']) scheduler.add(makeScheduled(id));
  assert.equal(scheduler.nextFits, true);
  begin(scheduler.admit());
  scheduler.add(makeScheduled('i3', 'interactive', 2));
  assert.equal(scheduler.nextFits, false, 'one row is free, it needs two');
  scheduler.remove(({ request }) => request.id === 'i1');
  assert.equal(scheduler.nextFits, true);
});
