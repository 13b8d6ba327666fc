/** The HF_… variables, as Hugging Face's own library reads them. */
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import type { HubSettings } from './storage/hub/hub-settings.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

const DEFAULT_ENDPOINT = 'https://huggingface.co';
const TRUE = /^(?:1|on|yes|true)$/i;
const FALSE = /^(?:|0|off|no|false)$/i;

/** Throws an Error that names the variable and what was expected; none shows a value that could be secret. */
export function readHubSettings(environment: Environment): HubSettings {
  const { HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE = '', XDG_CACHE_HOME } = environment;
  const home = withHome(HF_HOME || join(XDG_CACHE_HOME || '~/.cache', 'huggingface'));
  if (!TRUE.test(HF_HUB_OFFLINE) && !FALSE.test(HF_HUB_OFFLINE)) {
    throw new Error(`Expected HF_HUB_OFFLINE to be 1 or 0, ${JSON.stringify(HF_HUB_OFFLINE)} came.`);
  }
  return {
    cacheDir: withHome(HF_HUB_CACHE || join(home, 'hub')),
    endpoint: readEndpoint(HF_ENDPOINT || DEFAULT_ENDPOINT),
    token: HF_TOKEN || undefined,
    tokenFile: join(home, 'token'),
    offline: TRUE.test(HF_HUB_OFFLINE),
  };
}

function withHome(path: string): string {
  return path === '~' || path.startsWith('~/') ? join(homedir(), path.slice(1)) : resolve(path);
}

function readEndpoint(value: string): string {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  const isFine =
    url !== undefined && /^https?:$/.test(url.protocol) && url.username + url.password + url.search + url.hash === '';
  if (isFine) return value.replace(/\/+$/, '');
  throw new Error('Expected HF_ENDPOINT to be an address like https://huggingface.co, something else came.');
}
