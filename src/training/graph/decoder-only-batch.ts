/**
 * A batch of a decoder-only model: each row a prompt and what is to be written after it, but for the last token, which
 * nothing follows. Rows are padded at their ends, where no token of theirs sees it.
 */
import { rotaryFeeds } from '../../runtime/decoder-only/rotary.ts';
import type { DecoderOnlyConfig } from '../../runtime/models/model-config.ts';
import { floatTensor, longTensor } from '../../runtime/tensor.ts';
import { causalMask, type PaddedBatch, padIds, placeLabels, type TrainingExample } from './padded-batch.ts';

/** Any id will do: what is read of it is masked. */
const PAD_ID = 0;

export function padDecoderOnlyBatch(config: DecoderOnlyConfig, examples: readonly TrainingExample[]): PaddedBatch {
  const count = examples.length;
  const rows = padIds(
    examples.map(({ inputIds, labels }) => [...inputIds, ...labels.slice(0, -1)]),
    PAD_ID,
  );
  const { length } = rows;
  const positions = Array.from({ length: count * length }, (_, place) => place % length);
  return {
    count,
    embedded: [{ input: 'token_embeddings', ...rows }],
    // the prompt's last token tells the first label
    ...placeLabels(examples, length, ({ inputIds }) => inputIds.length - 1),
    rowDims: () => [count, length],
    feeds: {
      positions: longTensor(positions, [count, length]),
      ...(config.family === 'llama'
        ? rotaryFeeds(
            config,
            Array.from({ length }, (_, position) => position),
          )
        : {}),
      causal_mask: floatTensor(causalMask(length), [1, 1, length, length]),
    },
  };
}
