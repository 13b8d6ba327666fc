/**
 * Tries a tokenizer.json in a process of its own. The library ends the whole process over some broken files (a
 * character map that cannot be parsed, a template that names a token it does not define) instead of throwing, and a
 * server must not fall over a file that somebody asks it to load.
 */
import { createRequire } from 'node:module';
import { MEBIBYTE } from '../../storage/byte-size.ts';
import { runChildScript } from '../child-script.ts';

const TIMEOUT_MS = 30_000;
const MAX_MESSAGE_LENGTH = 400;

/** What it writes to fd 3 is an error. */
const SCRIPT = `
const { Tokenizer } = require(process.argv[1]);
const { readFileSync, writeSync } = require('node:fs');
const texts = ['', ' ', 'Hello, world! 12 times.\\n\\tA caf\\u00e9', '\\u4f60\\u597d \\u{1f600} \\ufb01 \\ufffd \\u0000', '</s> <pad> [CLS]'];
(async () => {
  const tokenizer = Tokenizer.fromString(readFileSync(0, 'utf8'));
  tokenizer.disableTruncation();
  tokenizer.disablePadding();
  for (const text of texts) {
    for (const addSpecialTokens of [true, false]) {
      const ids = (await tokenizer.encode(text, null, { addSpecialTokens })).getIds();
      await tokenizer.decode(ids, true);
      await tokenizer.decode(ids, false);
    }
  }
})().catch((error) => {
  writeSync(3, String(error));
  process.exitCode = 1;
});
`;

/** Resolves to what is wrong with the text of a tokenizer.json; undefined when the library works with it. */
export async function probeTokenizer(json: string): Promise<string | undefined> {
  const { code, isKilled, said } = await runChildScript({
    script: SCRIPT,
    library: createRequire(import.meta.url).resolve('tokenizers'),
    input: json,
    timeoutMs: TIMEOUT_MS,
    mostBytes: MEBIBYTE,
  });
  if (code === 0) return undefined;
  if (said !== '') return said.slice(0, MAX_MESSAGE_LENGTH);
  return isKilled ? 'the tokenizers library does not come to an end with it' : 'the tokenizers library breaks over it';
}
