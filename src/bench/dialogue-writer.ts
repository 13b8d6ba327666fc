/** Writes small talk of any length in our own words: what it says matters little, that lengths and words differ does. */
import type { SeededRandom } from './seeded-random.ts';

type Words = readonly [string, ...string[]];

const slots: Readonly<Record<string, Words>> = {
  thing: [
    'the blue folder',
    'a new lamp',
    'the train tickets',
    'my old bicycle',
    'the soup',
    'that report',
    'the tent',
  ],
  place: ['the market', 'the library', 'platform nine', 'the garden', 'our office', 'the harbour', 'the bakery'],
  time: ['at noon', 'after six', 'on Friday', 'early tomorrow', 'in half an hour', 'next week', 'before it rains'],
  person: ['Marta', 'the plumber', 'my brother', 'our neighbour', 'Mr. Okafor', 'the new colleague', 'Lin'],
  deed: [
    'call them back',
    'pick it up',
    'write a list',
    'ask for a discount',
    'start over',
    'bring a friend',
    'wait here',
  ],
  price: ['12 euros', 'about 40 dollars', 'nothing at all', 'more than last year', '7.50', 'half of it'],
};

const lines: Words = [
  'Have you seen {thing}? I left it near {place}.',
  'No, but {person} was at {place} {time}.',
  'Could you {deed} {time}? I have no hands free.',
  'Sure, I can {deed}, if {person} does not mind.',
  'How much was {thing}?',
  'It cost {price}, and {person} paid for it.',
  'I would rather meet {time} than {time}.',
  'Then let us meet at {place} {time}.',
  '{person} said that {thing} is broken again.',
  'Not again! We should {deed} and tell {person}.',
  'Do you still want {thing}, or shall I give it to {person}?',
  'Keep it. I only wanted to see {place}.',
  'The weather looks bad. Will you still go to {place}?',
  'Yes, {person} has waited for this since last year.',
  'Why did you not {deed}?',
  'Because {thing} was gone and {place} was closed.',
  'All right.',
  'Thank you, that helps a lot!',
];

function fill(line: string, random: SeededRandom): string {
  return line.replace(/\{(\w+)\}/g, (hole, name: string) => {
    const words = slots[name];
    return words === undefined ? hole : random.pick(words);
  });
}

/** Returns `turnCount` turns of two speakers, a line each. */
export function writeDialogue(random: SeededRandom, turnCount: number): string {
  const turns = Array.from({ length: turnCount }, (_, index) => {
    const text = fill(random.pick(lines), random);
    return `#Person${(index % 2) + 1}#: ${text.charAt(0).toUpperCase()}${text.slice(1)}`;
  });
  return turns.join('\n');
}
