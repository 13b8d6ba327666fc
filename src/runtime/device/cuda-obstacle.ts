/**
 * What keeps CUDA from working, read off what a process said that tried it. The binding's own error says no more than
 * "Failed to load shared library"; onnxruntime 1.30.0 writes the reason to stderr.
 */
import { basename } from 'node:path';

export interface CudaObstacle {
  /** What is missing or wrong, to stand inside a sentence. */
  readonly missing: string;
  /** What to do for CUDA: a request, to stand inside a sentence. */
  readonly advice: string;
}

/** How a trial of CUDA ended. */
export interface CudaTrial {
  /** Whether it gave the numbers that were to come out. */
  readonly isRight: boolean;
  /** All that it wrote. */
  readonly said: string;
  /** Null where it ended by itself. */
  readonly endedBy: NodeJS.Signals | 'timeout' | null;
}

const INSTALL_PROVIDER = `install the CUDA provider of onnxruntime-node's own version (README, "On an NVIDIA GPU")`;
const MAX_WORDS_LENGTH = 300;

/** Undefined: nothing does. */
export function findObstacle({ isRight, said, endedBy }: CudaTrial): CudaObstacle | undefined {
  if (isRight) return undefined;
  const library = /([\w.+-]+): cannot open shared object file/.exec(said)?.[1];
  if (library !== undefined) return missingLibrary(library);
  const [, code, meaning] = /CUDA failure (\d+): (.*?) ;/.exec(said) ?? [];
  if (code !== undefined) return cudaFailure(code, meaning ?? '');
  if (said.includes('assigned to the default CPU EP')) {
    return { missing: 'onnxruntime gives a graph for CUDA to the CPU', advice: INSTALL_PROVIDER };
  }
  const [, file, reason] = /Failed to load library (\S+) with error: (.*)/.exec(said) ?? [];
  if (file !== undefined) return brokenLibrary(basename(file), reason ?? '');
  const advice = `check that nvidia-smi works, and ${INSTALL_PROVIDER}`;
  if (endedBy === 'timeout') return { missing: 'a trial of CUDA came to no end', advice };
  if (endedBy !== null) return { missing: `a trial of CUDA was ended by ${endedBy}`, advice };
  return { missing: `a trial of CUDA failed: ${said.trim().slice(0, MAX_WORDS_LENGTH) || 'it said nothing'}`, advice };
}

/** The provider's library is not where onnxruntime looks for it. */
export function missingProvider(file: string): CudaObstacle {
  return { missing: `${file} is not beside onnxruntime-node's libonnxruntime.so.1`, advice: INSTALL_PROVIDER };
}

function missingLibrary(name: string): CudaObstacle {
  if (name.startsWith('libonnxruntime_')) return missingProvider(name);
  if (name.startsWith('libcuda.so')) {
    const advice = 'install the driver; a container has to be given the GPU (--gpus all)';
    return { missing: `NVIDIA's driver is not here (${name} cannot be found)`, advice };
  }
  // cuDNN is looked for by its name without a version at last
  if (name.startsWith('libcudnn')) {
    return {
      missing: 'libcudnn.so.9 (cuDNN 9) cannot be found',
      advice: 'install cuDNN 9, or add its folder to LD_LIBRARY_PATH',
    };
  }
  // these have the number of their CUDA, others one of their own
  const major = /^lib(?:cublas|cublasLt|cudart|nvrtc)\.so\.(\d+)/.exec(name)?.[1];
  const cuda = major === undefined ? 'the libraries of CUDA' : `the libraries of CUDA ${major}`;
  return { missing: `${name} cannot be found`, advice: `install ${cuda}, or add their folder to LD_LIBRARY_PATH` };
}

function cudaFailure(code: string, meaning: string): CudaObstacle {
  const failure = `CUDA failure ${code}: ${meaning}`;
  if (code === '35') {
    const advice = "update the driver to one for the provider's CUDA (nvidia-smi shows both versions)";
    return { missing: `NVIDIA's driver is too old or does not work (${failure})`, advice };
  }
  if (code === '100') {
    return { missing: `no GPU is to be seen (${failure})`, advice: 'check nvidia-smi and CUDA_VISIBLE_DEVICES' };
  }
  return { missing: `the GPU does not work (${failure})`, advice: 'check that nvidia-smi works' };
}

function brokenLibrary(file: string, reason: string): CudaObstacle {
  const words = reason.replaceAll(/\/\S*\//g, '').slice(0, MAX_WORDS_LENGTH);
  return { missing: `${file} cannot be loaded (${words})`, advice: INSTALL_PROVIDER };
}
