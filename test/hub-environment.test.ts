import assert from 'node:assert/strict';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { readConfig } from '../src/config.ts';
import { type Environment, readHubSettings } from '../src/hub-environment.ts';

test("without a word the cache is Hugging Face's own, and the hub is the public one", () => {
  const home = join(homedir(), '.cache', 'huggingface');
  const expected = {
    cacheDir: join(home, 'hub'),
    endpoint: 'https://huggingface.co',
    token: undefined,
    tokenFile: join(home, 'token'),
    offline: false,
  };
  assert.deepEqual(readHubSettings({}), expected);
  const empty = { HF_HOME: '', HF_HUB_CACHE: '', HF_ENDPOINT: '', HF_TOKEN: '', HF_HUB_OFFLINE: '' };
  assert.deepEqual(readConfig(empty).hub, expected);
});

test('each variable moves what it is about', () => {
  const cacheOf = (environment: Environment): string => readHubSettings(environment).cacheDir;
  assert.equal(cacheOf({ HF_HOME: '/a' }), '/a/hub');
  assert.equal(cacheOf({ HF_HOME: '~/a' }), join(homedir(), 'a', 'hub'));
  assert.equal(cacheOf({ HF_HOME: 'a' }), resolve('a/hub'));
  assert.equal(cacheOf({ XDG_CACHE_HOME: '/x' }), '/x/huggingface/hub');
  assert.equal(cacheOf({ HF_HOME: '/a', XDG_CACHE_HOME: '/x', HF_HUB_CACHE: '/b' }), '/b');
  const moved = readHubSettings({
    HF_HOME: '/a',
    HF_HUB_CACHE: '/b',
    HF_TOKEN: 'hf_x',
    HF_ENDPOINT: 'http://h:1/hub//',
  });
  const { token, tokenFile, endpoint } = moved;
  assert.deepEqual([token, tokenFile, endpoint], ['hf_x', '/a/token', 'http://h:1/hub']);
  for (const [written, offline] of [
    ['1', true],
    ['ON', true],
    ['yes', true],
    ['True', true],
    ['0', false],
    ['off', false],
    ['No', false],
    ['false', false],
  ] as const) {
    assert.equal(readHubSettings({ HF_HUB_OFFLINE: written }).offline, offline, written);
  }
});

test('what cannot be meant is refused, and no address is shown, which may have a password in it', () => {
  assert.throws(() => readHubSettings({ HF_HUB_OFFLINE: '2' }), /Expected HF_HUB_OFFLINE to be 1 or 0, "2" came/);
  for (const value of [
    'huggingface.co',
    'ftp://h',
    'https://me:secret@h',
    'https://h?secret',
    'https://h#secret',
    'file:///x',
  ]) {
    assert.throws(
      () => readHubSettings({ HF_ENDPOINT: value }),
      (error: Error) =>
        /Expected HF_ENDPOINT to be an address like https/.test(error.message) && !/secret/.test(error.message),
      value,
    );
  }
});
