/** Who is in memory, who goes, who waits. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AdapterResidency, type Hold, type Tenant } from '../../../src/runtime/adapters/adapter-residency.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { seededNumbers } from '../../support/seeded-numbers.ts';

const SEED = 17;

/** What came in and went out, in order: `+a`, `-a`. */
class Log {
  readonly lines: string[] = [];

  tenant(id: string, memoryBytes = 1, bringIn: () => Promise<void> = async () => {}): Tenant {
    return {
      id,
      memoryBytes,
      bringIn: () => {
        this.lines.push(`+${id}`);
        return bringIn();
      },
      putOut: () => void this.lines.push(`-${id}`),
    };
  }

  take(): readonly string[] {
    return this.lines.splice(0);
  }
}

function setUp(budgetBytes: number, maxWaiting = 10) {
  const clock = new ManualClock();
  const residency = new AdapterResidency({ budgetBytes, maxWaiting, waitMs: 1000, clock });
  return { residency, clock, log: new Log() };
}

async function held(residency: AdapterResidency, ...tenants: readonly Tenant[]): Promise<Hold> {
  const hold = await residency.hold(tenants);
  assert.ok(hold !== undefined);
  return hold;
}

/** Whether it has settled by now. */
async function isPending(promise: Promise<unknown>): Promise<boolean> {
  const later = new Promise((resolve) => setImmediate(resolve, 'pending'));
  return (await Promise.race([promise, later])) === 'pending';
}

test('the least recently used that nobody holds goes out, and comes back when it is asked for', async () => {
  const { residency, log } = setUp(2);
  const [a, b, c] = [log.tenant('a'), log.tenant('b'), log.tenant('c')];
  for (const tenant of [a, b, a]) residency.release(await held(residency, tenant));
  assert.deepEqual(log.take(), ['+a', '+b']);
  residency.release(await held(residency, c));
  assert.deepEqual(log.take(), ['-b', '+c']);
  const hold = await held(residency, a);
  residency.release(await held(residency, b));
  assert.deepEqual(log.take(), ['-c', '+b']);
  residency.release(hold);
  assert.equal(residency.usedBytes, 2);
});

test('whoever finds all room held waits; those after it wait too, even for what is in memory', async () => {
  const { residency, log } = setUp(2);
  const [a, b, c] = [log.tenant('a'), log.tenant('b'), log.tenant('c')];
  const first = await held(residency, a);
  const second = await held(residency, b);
  const waiting = held(residency, c);
  const after = held(residency, a);
  assert.equal(residency.tryHold([a]), undefined);
  assert.equal(await isPending(Promise.race([waiting, after])), true);
  assert.equal(residency.waitingCount, 2);
  residency.release(second);
  residency.release(await waiting);
  residency.release(await after);
  residency.release(first);
  assert.deepEqual(log.take(), ['+a', '+b', '-b', '+c']);
});

test('two that need what the other holds room for do not wait for each other', async () => {
  const { residency, log } = setUp(3);
  const [a, b, c, d] = [log.tenant('a'), log.tenant('b'), log.tenant('c'), log.tenant('d')];
  const running = await held(residency, a, b);
  const one = held(residency, c, d);
  const other = held(residency, b, c);
  assert.equal(await isPending(Promise.race([one, other])), true);
  residency.release(running);
  residency.release(await one);
  residency.release(await other);
  assert.ok(residency.usedBytes <= 3);
});

test('all who ask for one that is on its way share one way, and its failure', async () => {
  const { residency, log } = setUp(2);
  const tenant = log.tenant('a', 1, async () => {
    await new Promise(setImmediate);
    throw new Error('broken');
  });
  const asked = [residency.hold([tenant]), residency.hold([tenant])];
  for (const one of asked) await assert.rejects(one, { message: 'broken' });
  assert.deepEqual(log.take(), ['+a']);
  assert.equal(residency.usedBytes, 0);
});

test('a signal, a deadline and a full queue end the wait, and the next one gets its turn', async () => {
  const { residency, clock, log } = setUp(2, 3);
  const [a, b] = [log.tenant('a', 2), log.tenant('b', 1)];
  const running = await held(residency, log.tenant('c', 1));
  const leaving = new AbortController();
  const left = residency.hold([a], leaving.signal);
  const late = residency.hold([a]);
  const turn = residency.hold([b]);
  await assert.rejects(residency.hold([b]), { code: 'OVERLOADED' });
  leaving.abort();
  assert.equal(await left, undefined);
  assert.equal(await residency.hold([b], leaving.signal), undefined);
  const expired = assert.rejects(late, { code: 'TIMEOUT' });
  assert.equal(await isPending(turn), true);
  await clock.advance(1000);
  await expired;
  assert.ok((await turn) !== undefined);
  residency.release(running);
  assert.equal(clock.alarmCount, 0);
});

test('one that leaves the line lets the next one in', async () => {
  const { residency, log } = setUp(2);
  const running = await held(residency, log.tenant('c', 1));
  const leaving = new AbortController();
  const left = residency.hold([log.tenant('a', 2)], leaving.signal);
  const next = residency.hold([log.tenant('b', 1)]);
  assert.equal(await isPending(next), true);
  leaving.abort();
  assert.ok((await next) !== undefined);
  assert.equal(await left, undefined);
  residency.release(running);
});

test('what does not arrive holds nobody for ever: the deadline counts from the asking, and a signal ends it', async () => {
  const { residency, clock, log } = setUp(2);
  let arrive = (): void => {};
  const slow = log.tenant('a', 2, () => new Promise((resolve) => (arrive = resolve)));
  const leaving = new AbortController();
  const left = residency.hold([slow], leaving.signal);
  const late = assert.rejects(residency.hold([slow]), { code: 'TIMEOUT' });
  leaving.abort();
  assert.equal(await left, undefined);
  await clock.advance(999);
  const patient = residency.hold([slow]);
  await clock.advance(1);
  await late;
  assert.equal(await isPending(patient), true);
  arrive();
  const hold = await patient;
  assert.ok(hold !== undefined);
  residency.release(hold);
  assert.deepEqual(log.take(), ['+a']);
  assert.equal(clock.alarmCount, 0);
  residency.release(await held(residency, log.tenant('b', 2)));
  assert.deepEqual(log.take(), ['-a', '+b']);
});

test('waiting for room and for what comes in then are one wait', async () => {
  const { residency, clock, log } = setUp(2);
  const running = await held(residency, log.tenant('c', 2));
  const late = assert.rejects(residency.hold([log.tenant('a', 2, () => new Promise(() => {}))]), { code: 'TIMEOUT' });
  await clock.advance(600);
  residency.release(running);
  await clock.advance(399);
  assert.equal(await isPending(late), true);
  await clock.advance(1);
  await late;
});

test('one that is retired goes as soon as nobody holds it', async () => {
  const { residency, log } = setUp(2);
  const tenant = log.tenant('a');
  const hold = await held(residency, tenant);
  await residency.retire(tenant);
  assert.deepEqual(log.take(), ['+a']);
  residency.release(hold);
  assert.deepEqual(log.take(), ['-a']);
  assert.equal(residency.usedBytes, 0);
});

test('one is admitted only into room that nobody waits for', async () => {
  const { residency, log } = setUp(2);
  const [a, b] = [log.tenant('a', 2), log.tenant('b', 2)];
  const hold = await held(residency, a);
  await residency.admit(b, async () => void log.lines.push('+b by hand'));
  assert.deepEqual(log.take(), ['+a']);
  residency.release(hold);
  await residency.admit(b, async () => void log.lines.push('+b by hand'));
  assert.deepEqual(log.take(), ['-a', '+b by hand']);
  assert.ok(residency.tryHold([b]) !== undefined);
});

test(`never over budget, never out while held, everyone gets a turn, whatever the order (seed ${SEED})`, async () => {
  const next = seededNumbers(SEED);
  const budget = 20;
  const { residency } = setUp(budget, 1000);
  const inMemory = new Set<number>();
  const tenants = Array.from({ length: 60 }, (_, index): Tenant => {
    const memoryBytes = 1 + (index % 4);
    return {
      id: String(index),
      memoryBytes,
      bringIn: async () => {
        for (let wait = next() * 3; wait > 0; wait--) await new Promise(setImmediate);
        if (next() < 0.1) throw new Error('broken');
        inMemory.add(index);
      },
      putOut: () => void inMemory.delete(index),
    };
  });
  let served = 0;
  const ask = async (): Promise<void> => {
    const wanted = new Set(Array.from({ length: 1 + Math.floor(next() * 3) }, () => Math.floor(next() * 60)));
    const chosen = [...wanted].flatMap((index) => tenants[index] ?? []);
    const hold = await residency.hold(chosen).catch(() => undefined);
    for (let wait = next() * 4; hold !== undefined && wait > 0; wait--) {
      for (const index of wanted) assert.ok(inMemory.has(index), `${index} is out while held`);
      assert.ok(residency.usedBytes <= budget);
      await new Promise(setImmediate);
    }
    if (hold !== undefined) residency.release(hold);
    served++;
  };
  await Promise.all(Array.from({ length: 500 }, ask));
  assert.equal(served, 500);
  assert.equal(residency.waitingCount, 0);
  const bytes = [...inMemory].reduce((sum, index) => sum + 1 + (index % 4), 0);
  assert.equal(residency.usedBytes, bytes);
});
