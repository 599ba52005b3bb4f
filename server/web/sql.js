// SQL as coloured elements: each piece of the text becomes a text node, none is parsed as markup.
// It knows words, not grammar; the text content is the SQL unchanged.

import { element } from './element.js';

const KEYWORDS = new Set(
  `ALL AND ANY AS ASC BETWEEN BY CASE CAST CROSS DESC DISTINCT ELSE END EXCEPT EXISTS FALSE FETCH FIRST
  FROM FULL GROUP HAVING ILIKE IN INNER INTERSECT INTERVAL IS JOIN LAST LATERAL LEFT LIKE LIMIT NATURAL
  NOT NULL NULLS OFFSET ON OR ORDER OUTER OVER PARTITION QUALIFY RECURSIVE RIGHT ROWS SELECT THEN TOP
  TRUE UNION USING VALUES WHEN WHERE WINDOW WITH`.split(/\s+/),
);
const CLAUSES = new Set(
  'SELECT FROM WHERE GROUP HAVING QUALIFY WINDOW ORDER LIMIT OFFSET UNION INTERSECT EXCEPT'.split(' '),
);
const JOINS = new Set('CROSS FULL INNER JOIN LEFT NATURAL OUTER RIGHT'.split(' '));
const TOKEN =
  /(?<quoted>'(?:[^']|'')*'?)|(?<name>"[^"]*"?|`[^`]*`?)|(?<number>\b\d[\d.]*)|(?<word>[\p{L}_][\p{L}\p{N}_$]*)|(?<rest>\s+|[^])/gu;
const ONE_LINE = 60;
const MAX_COLOURED = 20_000;

/** `sql` as a fragment; where it is long, each clause gets a line of its own. */
export function sqlFragment(sql) {
  const fragment = document.createDocumentFragment();
  if (sql.length > MAX_COLOURED) {
    fragment.append(sql);
    return fragment;
  }
  const parts = sql.length > ONE_LINE && !sql.includes('\n') ? clauses(tokens(sql)) : [tokens(sql)];
  for (const part of parts) fragment.append(element('span', { class: 'clause' }, part.map(coloured)));
  return fragment;
}

function tokens(sql) {
  return [...sql.matchAll(TOKEN)].map((match) => {
    const [kind, text] = Object.entries(match.groups).find(([, value]) => value !== undefined);
    const isKeyword = kind === 'word' && KEYWORDS.has(text.toUpperCase());
    return { kind: isKeyword ? 'keyword' : kind, text };
  });
}

function clauses(all) {
  const parts = [[]];
  let depth = 0;
  let previous = '';
  all.forEach((token, index) => {
    const word = token.kind === 'keyword' ? token.text.toUpperCase() : '';
    const isCall = all[index + 1]?.text === '(' && JOINS.has(word);
    const starts = CLAUSES.has(word) || (JOINS.has(word) && !JOINS.has(previous) && !isCall);
    if (token.text === '(') depth += 1;
    if (token.text === ')') depth -= 1;
    if (starts && depth === 0 && index > 0) parts.push([]);
    parts.at(-1).push(token);
    if (token.text.trim()) previous = word;
  });
  return parts;
}

function coloured({ kind, text }) {
  if (kind === 'keyword') return element('b', {}, text);
  if (kind === 'quoted' || kind === 'number') return element('span', { class: 'literal' }, text);
  return text;
}
