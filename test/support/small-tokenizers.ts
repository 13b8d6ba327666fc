/** Tokenizer files with the decoders that the models at hand do not have. */
import { rmSync } from 'node:fs';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const WORDS = ['▁the', '▁cat', 's', '▁', 'é', '你', '▁sat', '.', 'a', '�'];

function hexByte(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
}

function wordLevel(pieces: readonly string[], decoder: unknown): unknown {
  const vocab = Object.fromEntries(['<pad>', '</s>', '<unk>', ...pieces].map((piece, id) => [piece, id]));
  const added = ['<pad>', '</s>', '<unk>'].map((content, id) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: { type: 'WhitespaceSplit' },
    post_processor: null,
    decoder,
    model: { type: 'WordLevel', vocab, unk_token: '<unk>' },
  };
}

export const smallTokenizers = {
  'byte fallback, as Llama spells it': wordLevel(
    [...WORDS, ...Array.from({ length: 256 }, (_, byte) => hexByte(byte))],
    {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
  ),
  'word pieces': wordLevel(['the', 'cat', '##s', '##é', '.', '##.', '你'], {
    type: 'WordPiece',
    prefix: '##',
    cleanup: true,
  }),
  'ends of words': wordLevel(['the</w>', 'cat', 's</w>', 'é</w>', '.</w>'], { type: 'BPEDecoder', suffix: '</w>' }),
  "GPT-2's bytes": wordLevel(
    // é is Ã©, 你 is ä½ł; the last one begins nothing
    ['the', 'Ġcat', 'cat', 's', 'Ġ', 'a', '.', 'Ã', '©', 'ä', '½', 'ł', 'sÃ', '©s', '½łĠ', 'Ģ'],
    { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
  ),
  'marks of spaces': wordLevel(['▁the', '▁cat', 'cat', 's', '▁', '▁▁', 'é', '你', '▁s', '.', 'a'], {
    type: 'Metaspace',
    replacement: '▁',
    prepend_scheme: 'always',
    split: true,
  }),
  'marks of spaces, the first one too': wordLevel(['▁the', 'cat', '▁cat', 's', '▁', 'a'], {
    type: 'Metaspace',
    replacement: '▁',
    prepend_scheme: 'never',
    split: true,
  }),
  'no decoder': wordLevel(['the', 'cat', 's', 'é', '.'], null),
} as const;

const folders: string[] = [];
process.once('exit', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** Writes a tokenizer.json into a folder that goes when the test file ends, and returns its path. */
export async function writeTokenizer(content: unknown): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'gistql-tokenizer-'));
  folders.push(folder);
  const path = join(folder, 'tokenizer.json');
  await writeFile(path, JSON.stringify(content));
  return path;
}
