/** `gistql doctor`: what this machine is and how fast it multiplies, for those who wonder why a model is slow. */
import { availableParallelism, cpus, totalmem } from 'node:os';
import { readConfig } from '../config.ts';
import { chooseDevice, type DeviceSetting } from '../runtime/device/device-choice.ts';
import { probeCuda } from '../runtime/device/probe-cuda.ts';
import { finestExactRange } from '../runtime/quantization/exact-range.ts';
import { measureMemoryRate, measureRates } from '../runtime/quantization/matrix-rates.ts';
import { describeRange } from '../runtime/quantization/quantize-rows.ts';
import { runtimeVersion } from '../runtime/session.ts';
import { usableMemory } from '../runtime/usable-memory.ts';
import { wholeMebibytes } from '../storage/byte-size.ts';
import { readVersion } from '../version.ts';
import { processorFeatures } from './processor-features.ts';
import { textTable } from './text-table.ts';

/** Prints on stdout. Rejects when a setting is wrong, or when onnxruntime does not work here. */
export async function runDoctorCommand(): Promise<void> {
  const { threadCount, device } = readConfig(process.env);
  const range = await finestExactRange(threadCount);
  const facts = [
    ['GistQL', `${readVersion()}, Node ${process.versions.node}, onnxruntime-node ${runtimeVersion}`],
    ['processor', `${cpus()[0]?.model.trim() ?? 'unknown'}, ${availableParallelism()} for this process`],
    ['features', processorFeatures()?.join(' ') ?? 'this system does not say'],
    ['memory', `${wholeMebibytes(totalmem())}, of which ${wholeMebibytes(usableMemory())} may be used`],
    ['threads', `${threadCount} for each model (GISTQL_THREADS)`],
    ['8-bit weights', describeRange(range)],
    ['device', await describeDevice(device)],
  ];
  for (const [name = '', value = ''] of facts) console.log(`${name.padEnd(14)} ${value}`);
  const rates = await measureRates(threadCount, range);
  const memoryRate = await measureMemoryRate(threadCount);
  console.log(`\nA matrix of 128 MiB is read at ${memoryRate.toFixed(1)} · 10⁹ bytes a second.`);
  console.log('\nProducts of rows with a 768 × 2048 matrix, 10⁹ operations a second:\n');
  const rows = rates.map(({ rows: count, float32, int8 }) => [
    String(count),
    float32.toFixed(0),
    int8.toFixed(0),
    (int8 / float32).toFixed(2),
  ]);
  console.log(textTable([['rows', 'float32', 'int8', 'ratio'], ...rows], 0));
}

/** What a server would do, without its end where CUDA is asked for in vain. */
async function describeDevice(setting: DeviceSetting): Promise<string> {
  try {
    const { device, reason, advice } = await chooseDevice(setting, probeCuda);
    const remedy = advice === undefined ? '' : `. For CUDA, ${advice}.`;
    return `${device.toUpperCase()} (GISTQL_DEVICE=${setting}): ${reason}${remedy}`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
