/** Tables for a terminal that are Markdown too. */

/** Columns of equal width; `leftColumns` of them are texts, the others numbers, which stand at the right. */
export function textTable(rows: readonly (readonly string[])[], leftColumns: number): string {
  const cells = rows.map((row) => row.map(plain));
  const widths = (cells[0] ?? []).map((_, column) => Math.max(3, ...cells.map((row) => row[column]?.length ?? 0)));
  const rule = widths.map((width, column) => (column < leftColumns ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  const [header = [], ...body] = cells;
  return [header, rule, ...body]
    .map((row) => {
      const padded = row.map((cell, column) => {
        const width = widths[column] ?? 0;
        return column < leftColumns ? cell.padEnd(width) : cell.padStart(width);
      });
      return `| ${padded.join(' | ')} |`;
    })
    .join('\n');
}

/** A text of others as it may stand in a line: nothing in it moves a terminal's cursor. */
export function printable(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, ' ');
}

function plain(cell: string): string {
  return printable(cell).replaceAll('|', '\\|');
}
