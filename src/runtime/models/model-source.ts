/** What a model is called where nobody says: by the last part of its source's name. */

const NAMED = /^(?:(?:dir|embedded):|hub:[^/@#]*\/)([^/@#]+)/;

/** Returns the id of `dir:NAME`, `embedded:NAME` and `hub:OWNER/NAME`; undefined: the source has none of these forms. */
export function modelIdOf(source: string): string | undefined {
  return NAMED.exec(source)?.[1];
}
