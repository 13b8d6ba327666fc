/** Where models run: what was asked for against what the machine can do. */
import type { Device } from '../models/served-model.ts';
import type { CudaObstacle } from './cuda-obstacle.ts';

/** `auto`: CUDA where it works, else the CPU. */
export type DeviceSetting = Device | 'auto';

export interface DeviceChoice {
  readonly device: Device;
  readonly reason: string;
  /** What to do for CUDA, where it was tried and does not work. */
  readonly advice?: string;
}

const ASKED = 'GISTQL_DEVICE asks for it';

/** `probe` resolves to what keeps CUDA from working. Rejects where CUDA is asked for and does not work. */
export async function chooseDevice(
  setting: DeviceSetting,
  probe: () => Promise<CudaObstacle | undefined>,
): Promise<DeviceChoice> {
  if (setting === 'cpu') return { device: 'cpu', reason: ASKED };
  const obstacle = await probe();
  if (obstacle === undefined) return { device: 'cuda', reason: setting === 'cuda' ? ASKED : 'a trial of it ran' };
  const { missing, advice } = obstacle;
  if (setting === 'auto') return { device: 'cpu', reason: missing, advice };
  const message = `Expected CUDA to work here, since GISTQL_DEVICE is cuda; ${missing}. For CUDA, ${advice}; without it, set GISTQL_DEVICE=cpu.`;
  throw new Error(message);
}

/**
 * Tells NVIDIA's libraries, before they are loaded, that products of float32 are to be such: onnxruntime's CUDA provider
 * rounds them to TF32, which has 11 bits, and onnxruntime-node has no option for it. What the user has set stands.
 */
export function keepFloat32(environment: NodeJS.ProcessEnv): void {
  environment.NVIDIA_TF32_OVERRIDE ??= '0';
}
