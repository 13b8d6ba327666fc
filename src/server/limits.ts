/** Bound on the lexical tokens of a GraphQL document: parsing a longer one is refused half-way. */
export const MAX_DOCUMENT_LEXEMES = 20_000;
