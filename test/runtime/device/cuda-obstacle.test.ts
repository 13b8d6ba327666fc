/**
 * What onnxruntime 1.30.0 says when CUDA does not work, and what is made of it. The messages are those of the provider
 * of the Python package of that version, without its libraries, without a driver, and over drivers that were made to
 * fail; those on cuDNN follow its source (providers/cuda/cudnn_loader.cc), since they need a GPU.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findObstacle } from '../../../src/runtime/device/cuda-obstacle.ts';

const NOT_LOADED = 'OrtSessionOptionsAppendExecutionProvider_Cuda: Failed to load shared library\n';
const PROVIDER = '/app/node_modules/onnxruntime-node/bin/napi-v6/linux/x64/libonnxruntime_providers_cuda.so';

function loadFailure(file: string, reason: string): string {
  return `2026-11-28 12:40:49.165622374 [E:onnxruntime:onnxruntime-node, provider_bridge_ort.cc:2146 Create] /onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:1988 onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library ${file} with error: ${reason}\n\n${NOT_LOADED}`;
}

function absent(library: string): string {
  return `${library}: cannot open shared object file: No such file or directory`;
}

function cudaFailure(code: number, meaning: string): string {
  const call =
    'std::conditional_t<THRW, void, onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, const char*, SUCCTYPE, const char*, const char*, int) [with ERRTYPE = cudaError; bool THRW = true; SUCCTYPE = cudaError; std::conditional_t<THRW, void, common::Status> = void]';
  return `/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 ${call} /onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:146 ${call} CUDA failure ${code}: ${meaning} ; GPU=-1 ; hostname=vm ; file=/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_execution_provider.cc ; line=352 ; expr=cudaSetDevice(info_.device_id); \n\n\n`;
}

function missing(said: string, endedBy: NodeJS.Signals | 'timeout' | null = null): string | undefined {
  return findObstacle({ isRight: false, said, endedBy })?.missing;
}

function advice(said: string, endedBy: NodeJS.Signals | 'timeout' | null = null): string {
  return findObstacle({ isRight: false, said, endedBy })?.advice ?? '';
}

test('right numbers are all that counts', () => {
  assert.equal(findObstacle({ isRight: true, said: '', endedBy: null }), undefined);
  assert.equal(findObstacle({ isRight: true, said: NOT_LOADED, endedBy: 'SIGSEGV' }), undefined);
});

test('a provider that is not there is named', () => {
  const said = loadFailure(PROVIDER, absent(PROVIDER));
  assert.equal(missing(said), "libonnxruntime_providers_cuda.so is not beside onnxruntime-node's libonnxruntime.so.1");
  assert.match(advice(said), /provider of onnxruntime-node's own version \(README/);
});

test('a library of CUDA that is not there is named, with its CUDA where the name tells it', () => {
  for (const library of ['libcublasLt.so.13', 'libcublas.so.13', 'libcudart.so.13', 'libcublasLt.so.12']) {
    const said = loadFailure(PROVIDER, absent(library));
    assert.equal(missing(said), `${library} cannot be found`);
    const [, major] = library.split('.so.');
    assert.equal(advice(said), `install the libraries of CUDA ${major}, or add their folder to LD_LIBRARY_PATH`);
  }
  const said = loadFailure(PROVIDER, absent('libcurand.so.10'));
  assert.equal(missing(said), 'libcurand.so.10 cannot be found');
  assert.equal(advice(said), 'install the libraries of CUDA, or add their folder to LD_LIBRARY_PATH');
});

test('cuDNN, which is looked for when it is needed, is named with its version', () => {
  const said = `Non-zero status code returned while running ReduceMax node. Name:'ReduceMax' Status Message: cuDNN is unavailable for CUDA Execution Provider: dlopen failed for libcudnn.so: ${absent('libcudnn.so')}`;
  assert.equal(missing(said), 'libcudnn.so.9 (cuDNN 9) cannot be found');
  assert.match(advice(said), /^install cuDNN 9, /);
  assert.equal(missing(loadFailure(PROVIDER, absent('libcudnn.so.9'))), 'libcudnn.so.9 (cuDNN 9) cannot be found');
});

test('a driver that is not there, is too old, or sees no GPU', () => {
  const none = loadFailure(PROVIDER, absent('libcuda.so.1'));
  assert.equal(missing(none), "NVIDIA's driver is not here (libcuda.so.1 cannot be found)");
  assert.match(advice(none), /^install the driver; /);
  const old = cudaFailure(35, 'CUDA driver version is insufficient for CUDA runtime version');
  assert.match(
    missing(old) ?? '',
    /^NVIDIA's driver is too old or does not work \(CUDA failure 35: CUDA driver version is/,
  );
  assert.match(advice(old), /^update the driver /);
  const blind = cudaFailure(100, 'no CUDA-capable device is detected');
  assert.equal(missing(blind), 'no GPU is to be seen (CUDA failure 100: no CUDA-capable device is detected)');
  assert.match(advice(blind), /CUDA_VISIBLE_DEVICES/);
  const other = cudaFailure(803, 'system has unsupported display driver / cuda driver combination');
  assert.equal(
    missing(other),
    'the GPU does not work (CUDA failure 803: system has unsupported display driver / cuda driver combination)',
  );
});

test('a library that cannot be loaded is named, with the reason and without folders', () => {
  assert.equal(
    missing(loadFailure(PROVIDER, `${PROVIDER}: file too short`)),
    'libonnxruntime_providers_cuda.so cannot be loaded (libonnxruntime_providers_cuda.so: file too short)',
  );
  const reason = `/opt/libcufft.so.11: version \`libcufft.so.11' not found (required by ${PROVIDER})`;
  assert.equal(
    missing(loadFailure(PROVIDER, reason)),
    "libonnxruntime_providers_cuda.so cannot be loaded (libcufft.so.11: version `libcufft.so.11' not found (required by libonnxruntime_providers_cuda.so))",
  );
});

test('a graph that the CPU was given is no CUDA', () => {
  const said =
    'This session contains graph nodes that are assigned to the default CPU EP, but fallback to CPU EP has been explicitly disabled by the user.';
  assert.equal(missing(said), 'onnxruntime gives a graph for CUDA to the CPU');
});

test('a trial that broke off, never ended or said something else', () => {
  assert.equal(missing('', 'SIGBUS'), 'a trial of CUDA was ended by SIGBUS');
  assert.equal(missing('', 'timeout'), 'a trial of CUDA came to no end');
  assert.equal(missing('largest 0 0 0 0\n'), 'a trial of CUDA failed: largest 0 0 0 0');
  assert.equal(missing(''), 'a trial of CUDA failed: it said nothing');
  assert.match(missing('x'.repeat(5000)) ?? '', /^a trial of CUDA failed: x{300}$/);
  // what was said before the end says more than the end
  assert.equal(missing(loadFailure(PROVIDER, absent('libcublas.so.13')), 'SIGSEGV'), 'libcublas.so.13 cannot be found');
});
