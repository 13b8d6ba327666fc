/** What a document asks of the field being resolved, so that work for fields that nobody reads can be left out. */
import type { GraphQLResolveInfo, SelectionSetNode } from 'graphql';

/** Fields that need the log-probabilities of the tokens. */
export const LOGPROB_FIELDS: ReadonlySet<string> = new Set(['logprob', 'score']);

/**
 * Whether a field of one of these names is selected anywhere below the field being resolved, by whatever alias and
 * through any fragment. `@skip` and `@include` are not looked at: what they may leave out counts as asked for.
 */
export function asksFor(
  { fieldNodes, fragments }: Pick<GraphQLResolveInfo, 'fieldNodes' | 'fragments'>,
  names: ReadonlySet<string>,
): boolean {
  const seen = new Set<string>();
  const selects = (set: SelectionSetNode | undefined): boolean =>
    set?.selections.some((selection) => {
      if (selection.kind === 'Field') return names.has(selection.name.value) || selects(selection.selectionSet);
      if (selection.kind === 'InlineFragment') return selects(selection.selectionSet);
      const name = selection.name.value;
      if (seen.has(name)) return false;
      seen.add(name);
      return selects(fragments[name]?.selectionSet);
    }) ?? false;
  return fieldNodes.some(({ selectionSet }) => selects(selectionSet));
}
