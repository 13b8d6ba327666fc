/** `gistql pull` as processes, from a hub of our own: what they print, what they leave, and how they share a download. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import type { HubSnapshot } from '../../src/storage/hub/hub-snapshot.ts';
import { lastFirst } from '../support/cleanup.ts';
import { modelFiles } from '../support/hub-place.ts';
import { HubServer } from '../support/hub-server.ts';
import { repositoryPath } from '../support/oracle.ts';
import { temporaryFolder } from '../support/tiny-model.ts';

const SOURCE = 'hub:owner/name';
const STORE = /^store GET/;
const TOKEN = 'hf_never_printed';

class Pull {
  readonly ended: Promise<{ readonly code: number | null; readonly out: string; readonly err: string }>;
  private err = '';
  private readonly child: ChildProcess;

  constructor(t: TestContext, environment: Readonly<Record<string, string>>, args: readonly string[] = [SOURCE]) {
    const child = spawn(process.execPath, ['--import', 'tsx', repositoryPath('src/cli.ts'), 'pull', ...args], {
      env: { PATH: process.env.PATH, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    t.after(() => child.kill('SIGKILL'));
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      this.err += chunk;
    });
    this.child = child;
    this.ended = Promise.all([text(child.stdout), once(child, 'close')]).then(([out, [code]]) => {
      return { code, out, err: this.err };
    });
  }

  /** Resolves when stderr has it. */
  async says(what: RegExp): Promise<void> {
    while (!what.test(this.err)) await once(this.child.stderr as NodeJS.EventEmitter, 'data');
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }
}

async function makePlace(t: TestContext) {
  const cleanups = lastFirst(t);
  const hub = await HubServer.start(cleanups);
  const home = await temporaryFolder(cleanups);
  const commit = hub.add({ repo: 'owner/name', files: modelFiles });
  return { hub, home, commit, environment: { HF_HOME: home, HF_ENDPOINT: hub.url, HF_TOKEN: TOKEN } };
}

test('a pull says where it is and how to name it; offline the same command says the same', async (t) => {
  const { hub, home, commit, environment } = await makePlace(t);
  const first = await new Pull(t, environment).ended;
  assert.equal(first.code, 0, first.err);
  const folder = join(home, 'hub', 'models--owner--name', 'snapshots', commit);
  const pinned = `${SOURCE}@${commit}`;
  assert.equal(
    first.out,
    `${pinned}: 4 files of a model\n${folder}\nServe it with GISTQL_MODEL=${pinned}, or load it: loadModel(input: { id: …, source: "${pinned}" })\n`,
  );
  assert.match(first.err, /^0\.\d MiB of 0\.\d MiB.*; \S+$/m);
  assert.deepEqual(await readFile(join(folder, 'model.safetensors')), modelFiles['model.safetensors']);
  const asked = hub.requests.length;
  const offline = await new Pull(t, { ...environment, HF_HUB_OFFLINE: '1' }, [SOURCE, '--json']).ended;
  assert.equal(offline.code, 0, offline.err);
  const { source, kind, files } = JSON.parse(offline.out) as HubSnapshot;
  assert.deepEqual([source, kind, files.length], [pinned, 'model', 4]);
  assert.equal(hub.requests.length, asked);
});

test('stopped by a signal, a pull goes on where it was', async (t) => {
  const { hub, home, environment } = await makePlace(t);
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    hub.fail(STORE, { hangAfter: 100_000 });
    const pull = new Pull(t, environment);
    while (hub.asked(STORE).length < (signal === 'SIGINT' ? 1 : 2)) await once(hub.events, 'request');
    pull.kill(signal);
    const stopped = await pull.ended;
    assert.deepEqual([stopped.code, stopped.out], [code, ''], stopped.err);
    assert.match(stopped.err, /^Stopped\. What has come is kept: the same command goes on there\.$/m);
  }
  const { code, err, out } = await new Pull(t, environment).ended;
  assert.equal(code, 0, err);
  assert.ok(out.includes(home));
});

test('of two that pull the same the later one waits, and nothing is fetched twice', async (t) => {
  const { hub, environment } = await makePlace(t);
  const release = new AbortController();
  hub.fail(STORE, { hangAfter: 1000, cut: once(release.signal, 'abort') });
  const first = new Pull(t, environment);
  while (hub.asked(STORE).length < 1) await once(hub.events, 'request');
  const second = new Pull(t, environment);
  await second.says(/^Waits for another process that fetches files of owner\/name\.$/m);
  release.abort();
  const outcomes = await Promise.all([first.ended, second.ended]);
  assert.deepEqual(
    outcomes.map(({ code }) => code),
    [0, 0],
    outcomes.map(({ err }) => err).join(),
  );
  assert.equal(outcomes[0].out, outcomes[1].out);
  // the one that was cut, and the one that went on
  assert.equal(hub.asked(STORE).length, 2);
});

test('a process that was killed keeps nobody waiting', async (t) => {
  const { hub, environment } = await makePlace(t);
  hub.fail(STORE, { hangAfter: 1000 });
  const first = new Pull(t, environment);
  while (hub.asked(STORE).length < 1) await once(hub.events, 'request');
  first.kill('SIGKILL');
  await first.ended;
  const second = await new Pull(t, environment).ended;
  assert.equal(second.code, 0, second.err);
  assert.doesNotMatch(second.err, /Waits/);
});

test('what stands in the way is said in a sentence, without the token', async (t) => {
  const { hub, environment } = await makePlace(t);
  hub.add({ repo: 'owner/secret', files: modelFiles, token: 'another' });
  const cases: readonly [readonly string[], Readonly<Record<string, string>>, RegExp][] = [
    [
      ['hub:owner/secret'],
      {},
      /^Expected owner\/secret@main to be open to this server, the hub says no \(status 401\)/,
    ],
    [['hub:owner/none'], {}, /^Expected a model on the hub, there is no owner\/none\./],
    [
      [SOURCE],
      { HF_HUB_OFFLINE: '1' },
      /HF_HUB_OFFLINE is set\. Nothing of owner\/name@main is in .*models--owner--name yet/,
    ],
    [[SOURCE], { HF_HUB_OFFLINE: 'maybe' }, /^Expected HF_HUB_OFFLINE to be 1 or 0, "maybe" came\.$/m],
    [[SOURCE], { HF_ENDPOINT: 'ftp://x' }, /^Expected HF_ENDPOINT to be an address like https:/],
    [['dir:x'], {}, /^Expected hub:OWNER\/NAME/],
  ];
  await Promise.all(
    cases.map(async ([args, settings, message]) => {
      const { code, out, err } = await new Pull(t, { ...environment, ...settings }, args).ended;
      assert.deepEqual([code, out], [1, '']);
      assert.match(err, message);
      assert.doesNotMatch(err, new RegExp(`${TOKEN}|\\n    at `));
    }),
  );
});
