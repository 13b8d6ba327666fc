/** The two sides of cuda.bench.ts, each in the precisions that its users have. */
import { fileURLToPath } from 'node:url';

export type BenchDevice = 'cuda' | 'cpu';

export interface SystemKind {
  readonly label: string;
  readonly isOurs: boolean;
  /** Of a number, for what a step has to read. */
  readonly numberBytes: number;
  /** Whom its speed is held against. */
  readonly peers: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  command(place: SystemPlace): readonly string[];
}

interface SystemPlace {
  readonly folder: string;
  readonly python: string;
  readonly device: BenchDevice;
}

/** Leaves the rounding of float32's products to TF32 to NVIDIA's libraries and their callers; else ours has none. */
const WITH_TF32 = { NVIDIA_TF32_OVERRIDE: '1' };
const CLI = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
const PEER = fileURLToPath(new URL('torch_peer.py', import.meta.url));

function ours(precision: string, peers: readonly string[]): SystemKind {
  return {
    label: `GistQL ${precision}`,
    isOurs: true,
    numberBytes: precision === 'fp16' ? 2 : 4,
    peers,
    environment: precision === 'tf32' ? WITH_TF32 : {},
    command: ({ folder, device }) => {
      const given = ['--device', device, '--precision', precision === 'tf32' ? 'fp32' : precision];
      // on the processor it is asked to decode as it does on CUDA
      return [process.execPath, CLI, 'bench', '--protocol', ...given, '--decode-loop', folder];
    },
  };
}

function theirs(precision: string): SystemKind {
  return {
    label: `PyTorch ${precision}`,
    isOurs: false,
    numberBytes: precision === 'fp16' || precision === 'bf16' ? 2 : 4,
    peers: [],
    environment: {},
    command: ({ folder, python, device }) => [python, PEER, folder, '--device', device, '--precision', precision],
  };
}

/** Rows are held against its tokens: no product of it is rounded to less than float32. */
export const REFERENCE = 'PyTorch fp32';

const kinds: readonly SystemKind[] = [
  ours('fp32', ['PyTorch fp32']),
  ours('tf32', ['PyTorch tf32']),
  ours('fp16', ['PyTorch fp16', 'PyTorch bf16']),
  theirs('fp32'),
  theirs('tf32'),
  theirs('fp16'),
  theirs('bf16'),
];

/** `names`: of labels, in small letters with a hyphen; absent: all that the device has. */
export function systemsOf(device: BenchDevice, names?: string): readonly SystemKind[] {
  const nameOf = ({ label }: SystemKind): string => label.toLowerCase().replace(' ', '-');
  const known = kinds.map(nameOf);
  const wanted = names?.split(',') ?? (device === 'cuda' ? known : ['gistql-fp32', 'pytorch-fp32']);
  const unknown = wanted.filter((name) => !known.includes(name));
  if (unknown.length > 0) throw new Error(`expected systems of ${known.join(', ')}; ${unknown.join(', ')} came`);
  return kinds.filter((kind) => wanted.includes(nameOf(kind)));
}
