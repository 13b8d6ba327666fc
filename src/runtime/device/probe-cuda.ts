/**
 * Tries CUDA in a process of its own: a provider library that is cut short ends the whole process when it is loaded,
 * and a driver may never answer.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { GraphBuilder } from '../graph/graph-builder.ts';
import { type CudaObstacle, type CudaTrial, findObstacle, missingProvider } from './cuda-obstacle.ts';

/** The first run reads the libraries of CUDA, more than a gigabyte, from the disk. */
const TIMEOUT_MS = 60_000;
/** The one platform for which onnxruntime-node has a CUDA provider (script/install-metadata.js, 1.30.0). */
const PLATFORM = 'linux-x64';
const PROVIDER_FILES = ['libonnxruntime_providers_shared.so', 'libonnxruntime_providers_cuda.so'];

/** Without the fallback onnxruntime would run on the CPU, without a word, what CUDA does not take. */
const SCRIPT = `
const { InferenceSession, Tensor, env } = require(process.argv[1]);
env.logLevel = 'error';
(async () => {
  const session = await InferenceSession.create(require('node:fs').readFileSync(0), {
    executionProviders: ['cuda'],
    extra: { session: { disable_cpu_ep_fallback: '1' } },
  });
  const { largest } = await session.run({ rows: new Tensor('float32', new Float32Array(16).fill(2), [4, 4]) });
  console.log('largest', ...largest.data);
})().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
`;
const RIGHT = 'largest 16 16 16 16';

/** Resolves to what keeps CUDA from working here; undefined when it works. */
export async function probeCuda(): Promise<CudaObstacle | undefined> {
  const platform = `${process.platform}-${process.arch}`;
  if (platform !== PLATFORM) {
    const missing = `onnxruntime-node has no CUDA provider for ${platform}, only for ${PLATFORM}`;
    return { missing, advice: `use a machine with ${PLATFORM}` };
  }
  const library = createRequire(import.meta.url).resolve('onnxruntime-node');
  const folder = join(dirname(library), '..', 'bin', 'napi-v6', process.platform, process.arch);
  const absent = PROVIDER_FILES.find((file) => !existsSync(join(folder, file)));
  return absent === undefined ? findObstacle(await tryCuda(library)) : missingProvider(absent);
}

function tryCuda(library: string): Promise<CudaTrial> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, ['-e', SCRIPT, library], (error, stdout, stderr) => {
      clearTimeout(timer);
      // what it wrote counts, not how it ended: the driver's own end may break
      const said = stripVTControlCharacters(stderr + stdout) || (error?.message ?? '');
      resolve({ isRight: stdout.includes(RIGHT), said, endedBy: error?.signal ?? null });
    });
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      // one that waits inside the driver does not end even so
      child.unref();
      for (const pipe of [child.stdin, child.stdout, child.stderr]) pipe?.destroy();
      resolve({ isRight: false, said: '', endedBy: 'timeout' });
    }, TIMEOUT_MS);
    // one that dies early closes the pipe under our hands
    child.stdin?.on('error', () => {});
    child.stdin?.end(trialModel());
  });
}

/** A product of matrices, which needs cuBLAS, and the largest of each row, which needs cuDNN. */
function trialModel(): Uint8Array {
  const graph = new GraphBuilder('cuda_trial');
  const rows = graph.input('rows', 'float32', [4, 4]);
  const product = graph.node('MatMul', [rows, rows]);
  const largest = graph.node('ReduceMax', [product, graph.integers(-1)], { keepdims: 0 });
  graph.output(largest, 'largest', 'float32', [4]);
  return graph.build().bytes;
}
