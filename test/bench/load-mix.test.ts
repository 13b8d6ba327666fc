import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { buildSchema, getOperationAST, getVariableValues, parse, validate } from 'graphql';
import { operationOf } from '../../src/bench/load-documents.ts';
import { RequestMix, ROUND_LENGTH } from '../../src/bench/load-mix.ts';
import { type LoadRequest, loadKinds } from '../../src/bench/load-request.ts';
import { repositoryPath } from '../support/oracle.ts';

function deal(count: number, seed = 1): readonly LoadRequest[] {
  const mix = new RequestMix({ seed, maxInputTokens: 512 });
  return Array.from({ length: count }, () => mix.next());
}

/** What may come again, by its id. */
function repeatable(request: LoadRequest): readonly (readonly [string, object])[] {
  if (request.type === 'generate') return request.parts.map((part) => [part.repeatId, part]);
  if (request.type === 'stream') return [[request.part.repeatId, request.part]];
  return request.type === 'query' ? [[request.query.repeatId, request.query]] : [];
}

test('the same seed deals the same mix, another one another', () => {
  assert.deepEqual(deal(3 * ROUND_LENGTH, 5), deal(3 * ROUND_LENGTH, 5));
  assert.notDeepEqual(deal(ROUND_LENGTH, 5), deal(ROUND_LENGTH, 6));
});

test('every round has every kind, in the same numbers', () => {
  const requests = deal(4 * ROUND_LENGTH);
  const counts = [0, 1, 2, 3].map((round) => {
    const kinds = requests.slice(round * ROUND_LENGTH, (round + 1) * ROUND_LENGTH).map(({ kind }) => kind);
    return loadKinds.map((kind) => kinds.filter((other) => other === kind).length);
  });
  for (const round of counts) {
    assert.deepEqual(round, counts[0]);
    assert.ok(round.every((count) => count > 0));
  }
  assert.deepEqual(
    requests.map(({ index }) => index),
    requests.map((_, index) => index),
  );
});

test('a share of requests comes again, whole, and some of them another way', () => {
  const seen = new Map<string, { readonly asked: object; readonly type: string }>();
  const [again, otherWay] = [new Set<string>(), new Set<string>()];
  for (const request of deal(20 * ROUND_LENGTH)) {
    for (const [id, asked] of repeatable(request)) {
      const first = seen.get(id);
      if (first === undefined) seen.set(id, { asked, type: request.type });
      else {
        assert.deepEqual(asked, first.asked);
        again.add(id);
        if (request.type !== first.type) otherWay.add(id);
      }
    }
  }
  assert.ok(again.size > seen.size / 20, `${again.size} of ${seen.size}`);
  assert.ok(otherWay.size > 0);
});

test('every document but the bad ones is valid, with variables that fit', () => {
  const schema = buildSchema(readFileSync(repositoryPath('src/schema/schema.graphql'), 'utf8'));
  for (const request of deal(10 * ROUND_LENGTH, 2)) {
    if (request.type === 'refused') continue;
    const { query, variables } = operationOf(request);
    const document = parse(query);
    assert.deepEqual(validate(schema, document), [], query);
    const declared = getOperationAST(document)?.variableDefinitions ?? [];
    assert.equal(getVariableValues(schema, declared, variables).errors, undefined, JSON.stringify(variables));
  }
});
