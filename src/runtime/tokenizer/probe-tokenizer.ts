/**
 * Tries a tokenizer.json in a process of its own. The library ends the whole process over some broken files (a
 * character map that cannot be parsed, a template that names a token it does not define) instead of throwing, and a
 * server must not fall over a file that somebody asks it to load.
 */
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';

const TIMEOUT_MS = 30_000;
const MAX_MESSAGE_LENGTH = 400;

/** Plain script: a child started from source would need the loader of TypeScript. What it writes to fd 3 is an error. */
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
  const library = createRequire(import.meta.url).resolve('tokenizers');
  const child = spawn(process.execPath, ['-e', SCRIPT, library], {
    stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
    // what reads a hostile file has no secrets to lose
    env: { PATH: process.env.PATH ?? '' },
    timeout: TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  let said = '';
  child.stdio[3]?.on('data', (chunk) => {
    if (said.length < MAX_MESSAGE_LENGTH) said += chunk;
  });
  // a child that dies early closes the pipe under our hands; its exit tells the reason
  child.stdin?.on('error', () => {});
  child.stdin?.end(json);
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (...exit) => resolve(exit));
  });
  if (code === 0) return undefined;
  if (said !== '') return said.slice(0, MAX_MESSAGE_LENGTH);
  return signal === 'SIGKILL'
    ? 'the tokenizers library does not come to an end with it'
    : 'the tokenizers library breaks over it';
}
