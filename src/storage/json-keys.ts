/** Counts keys in the text of valid JSON: each has its own colon, also one that JSON.parse drops for a later one. */
export function countKeys(json: string, deepest = Number.POSITIVE_INFINITY): number {
  let keys = 0;
  let depth = 0;
  let inText = false;
  for (let index = 0; index < json.length; index++) {
    const character = json[index];
    if (inText) {
      if (character === '\\') index++;
      else if (character === '"') inText = false;
    } else if (character === '"') inText = true;
    else if (character === '{' || character === '[') depth++;
    else if (character === '}' || character === ']') depth--;
    else if (character === ':' && depth <= deepest) keys++;
  }
  return keys;
}
