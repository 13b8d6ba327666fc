/** What the contract names and no issue has built yet; each later issue takes its lines out. */
export const notYetBuilt: ReadonlySet<string> = new Set([]);
