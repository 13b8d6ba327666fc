/** How far a download is. */
import { mebibytes } from '../storage/byte-size.ts';
import type { HubProgress } from '../storage/hub/snapshot-fetch.ts';
import { type ProgressViews, paceText, progressBar } from './progress-display.ts';

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
  const pace = { done: bytesDone, total: bytesTotal, before: bytesBefore, elapsedMs };
  return share + paceText(pace, mebibytes);
}
