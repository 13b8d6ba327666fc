/** What a processor says of itself that matters to matrix products. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { arch, platform } from 'node:os';

/** Names as Linux has them, in the order of their width. */
const FEATURES = [
  'avx',
  'avx2',
  'fma',
  'f16c',
  'avx_vnni',
  'avx512f',
  'avx512bw',
  'avx512_vnni',
  'avx512_bf16',
  'amx_int8',
  'amx_bf16',
  'asimd',
  'asimddp',
  'i8mm',
  'bf16',
  'sve',
];

/** Returns the features there are; undefined where the system does not say. */
export function processorFeatures(): readonly string[] | undefined {
  const said = flags();
  if (said === undefined) return undefined;
  const there = new Set(said);
  return FEATURES.filter((feature) => there.has(feature));
}

function flags(): readonly string[] | undefined {
  try {
    if (platform() === 'linux') {
      const [, line] = /^(?:flags|Features)\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8')) ?? [];
      return line?.split(' ');
    }
    if (platform() === 'darwin' && arch() === 'arm64') {
      const listed = execFileSync('sysctl', ['-a'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
      const has = (name: string): boolean => listed.includes(`${name}: 1`);
      return ['asimd', ...(has('FEAT_DotProd') ? ['asimddp'] : []), ...(has('FEAT_I8MM') ? ['i8mm'] : [])];
    }
    return undefined;
  } catch {
    return undefined;
  }
}
