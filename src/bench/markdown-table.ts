/** Tables of results in Markdown. */

/** The first column is text, the others are numbers. */
export function numberTable(header: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const rule = header.map((_, index) => (index === 0 ? '---' : '--:'));
  return [header, rule, ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** Where and with what something was measured. */
export function factTable(title: string, facts: readonly (readonly [string, string])[]): string {
  return [`| ${title} | |`, '| --- | --- |', ...facts.map(([name, value]) => `| ${name} | ${value} |`)].join('\n');
}
