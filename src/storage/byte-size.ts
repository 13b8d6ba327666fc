/** Sizes as settings and messages have them. */

export const MEBIBYTE = 1024 * 1024;

/** `12 MiB` */
export function wholeMebibytes(bytes: number): string {
  return `${Math.round(bytes / MEBIBYTE)} MiB`;
}

/** `12.3 MiB` */
export function mebibytes(bytes: number): string {
  return `${(bytes / MEBIBYTE).toFixed(1)} MiB`;
}
