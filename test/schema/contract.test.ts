/** The emitted schema holds everything of the contract: names, types, arguments, defaults, nullability. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import {
  buildSchema,
  type GraphQLNamedType,
  type GraphQLSchema,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isObjectType,
  lexicographicSortSchema,
  printSchema,
} from 'graphql';
import { buildGraphqlSchema } from '../../src/resolvers/build-schema.ts';
import { oracleTest, repositoryPath } from '../support/oracle.ts';
import { notYetBuilt } from './not-yet-built.ts';

/** One line for each thing that a client can rely on, by its path. */
function surfaceOf(schema: GraphQLSchema): ReadonlyMap<string, string> {
  const lines = new Map<string, string>();
  for (const type of Object.values(schema.getTypeMap())) {
    if (!type.name.startsWith('__')) describeType(type, lines);
  }
  return lines;
}

function describeType(type: GraphQLNamedType, lines: Map<string, string>): void {
  lines.set(type.name, type.astNode?.kind ?? type.constructor.name);
  if (isEnumType(type)) for (const { name } of type.getValues()) lines.set(`${type.name}.${name}`, 'value');
  if (isInputObjectType(type)) {
    for (const field of Object.values(type.getFields())) {
      lines.set(`${type.name}.${field.name}`, `${field.type} = ${JSON.stringify(field.defaultValue)}`);
    }
  }
  if (!isObjectType(type) && !isInterfaceType(type)) return;
  for (const parent of type.getInterfaces()) lines.set(`${type.name} implements ${parent.name}`, '');
  for (const field of Object.values(type.getFields())) {
    lines.set(`${type.name}.${field.name}`, String(field.type));
    for (const argument of field.args) {
      const path = `${type.name}.${field.name}(${argument.name})`;
      lines.set(path, `${argument.type} = ${JSON.stringify(argument.defaultValue)}`);
    }
  }
}

/** Whether the list says that a later issue builds it. */
function isLater(path: string): boolean {
  const [owner = ''] = path.split(/[ .(]/);
  const [field = ''] = path.split('(');
  return notYetBuilt.has(owner) || notYetBuilt.has(field);
}

const emitted = printSchema(lexicographicSortSchema(buildGraphqlSchema()));

test('the committed schema is what the resolvers make', () => {
  assert.equal(readFileSync(repositoryPath('src/schema/schema.graphql'), 'utf8'), `${emitted}\n`);
});

oracleTest(
  'the schema is a superset of the contract, but for what is not built yet',
  'design/contract.graphql',
  (path) => {
    const contract = surfaceOf(buildSchema(readFileSync(path, 'utf8')));
    const ours = surfaceOf(buildSchema(emitted));
    for (const [name, expected] of contract) {
      if (isLater(name)) assert.ok(!ours.has(name), `${name} is built: take it out of not-yet-built.ts`);
      else assert.equal(ours.get(name), expected, name);
    }
    for (const name of notYetBuilt) assert.ok(contract.has(name), `${name} is not in the contract`);
  },
);
