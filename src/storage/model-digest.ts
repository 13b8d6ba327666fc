/** A digest of a model folder: another one when any file that a model is made from has other bytes. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

/** The files that are read of a model. */
const OF_A_MODEL =
  /\.(safetensors|gguf)$|^(config|generation_config|tokenizer|tokenizer_config)\.json$|^chat_template\.jinja$/;

/** Returns the SHA-256 of names and bytes, in the order of names. The event loop is held for a fraction of a millisecond at a time. */
export async function digestModelFolder(folder: string): Promise<string> {
  const hash = createHash('sha256');
  const names = (await readdir(folder)).filter((name) => OF_A_MODEL.test(name)).sort();
  for (const name of names) {
    const own = createHash('sha256');
    for await (const piece of createReadStream(join(folder, name))) own.update(piece as Buffer);
    hash.update(`${name}\0${own.digest('hex')}\n`);
  }
  return hash.digest('hex');
}
