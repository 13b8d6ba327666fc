/** Fields are found by their names, wherever and however a document asks for them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type FieldNode, type FragmentDefinitionNode, Kind, type OperationDefinitionNode, parse } from 'graphql';
import { asksFor } from '../../src/resolvers/asks-for.ts';

function asks(document: string): boolean {
  const { definitions } = parse(document);
  const operation = definitions.find(({ kind }) => kind === Kind.OPERATION_DEFINITION) as OperationDefinitionNode;
  const fragments = definitions.filter(({ kind }) => kind === Kind.FRAGMENT_DEFINITION) as FragmentDefinitionNode[];
  const byName = Object.fromEntries(fragments.map((fragment) => [fragment.name.value, fragment]));
  const fieldNodes = operation.selectionSet.selections as readonly FieldNode[];
  return asksFor({ fieldNodes, fragments: byName }, new Set(['logprob', 'score']));
}

test('a document that asks for text only asks for no scores', () => {
  assert.equal(asks('{ summarize { text generation { sequences { tokens { id text } } } } }'), false);
});

test('a field is found in depth, under an alias, in fragments, and where a directive may leave it out', () => {
  assert.equal(asks('{ summarize { generation { sequences { tokens { logprob } } } } }'), true);
  assert.equal(asks('{ generate { sequences { quality: score } } }'), true);
  assert.equal(asks('{ generate { ... on Generation { sequences { score } } } }'), true);
  assert.equal(asks('{ generate { sequences { ...S } } } fragment S on GeneratedSequence { text score }'), true);
  assert.equal(asks('{ generate { sequences { text score @include(if: false) } } }'), true);
});

test('an alias named like the field is not the field', () => {
  assert.equal(asks('{ generate { sequences { score: text } } }'), false);
});

test('a fragment used twice, or by the other of two equal fields, is looked into', () => {
  const fragment = 'fragment S on GeneratedSequence { text } fragment T on GeneratedSequence { score }';
  assert.equal(asks(`{ generate { a: sequences { ...S } b: sequences { ...S } } } ${fragment}`), false);
  assert.equal(asks(`{ generate { sequences { ...S } } generate { sequences { ...T } } } ${fragment}`), true);
});
