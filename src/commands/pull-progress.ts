/** How far a download is. */
import { mebibytes } from '../storage/byte-size.ts';
import type { HubProgress } from '../storage/hub/snapshot-fetch.ts';
import { duration, type ProgressViews, progressBar } from './progress-display.ts';

export interface PullProgress extends HubProgress {
  /** Since the command began. */
  readonly elapsedMs: number;
}

export const pullViews: ProgressViews<PullProgress> = {
  line: (progress) => `${counts(progress)}; ${progress.file}`,
  block: (progress) => [`${progressBar(progress.bytesDone, progress.bytesTotal)} ${counts(progress)}`, progress.file],
};

function counts({ bytesDone, bytesTotal, bytesBefore, elapsedMs }: PullProgress): string {
  const share = `${mebibytes(bytesDone)} of ${mebibytes(bytesTotal)}`;
  const came = bytesDone - bytesBefore;
  if (came <= 0 || elapsedMs <= 0) return share;
  const perSecond = (1000 * came) / elapsedMs;
  return `${share}, ${mebibytes(perSecond)} a second, ${duration((bytesTotal - bytesDone) / perSecond)} left`;
}
