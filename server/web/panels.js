// What stands around the question: tables of the chosen database, example questions, history.

import { score } from './answer.js';
import { element } from './element.js';

const OPEN_UP_TO_COLUMNS = 60;
const MAX_TABLE_EXAMPLES = 3;
const SHOP = [
  ['users', 'Show me all users who signed up last month'],
  ['products', 'Three cheapest products with their prices'],
  ['orders', 'How many orders came in this year so far?'],
  ['reviews', 'Average star rating of the reviews written last month'],
];

/** A list item per table that unfolds its columns. */
export function tableNodes(tables) {
  const columns = tables.reduce((sum, table) => sum + table.columns.length, 0);
  return tables.map((table) => element('details', { class: 'table', open: columns <= OPEN_UP_TO_COLUMNS },
    element('summary', {}, element('code', {}, table.name), element('span', { class: 'muted' }, countOf(table.columns.length))),
    element('ul', { class: 'column-names' }, table.columns.map((name) => element('li', {}, element('code', {}, name))))));
}

function countOf(columns) {
  return columns === 1 ? '1 column' : `${columns} columns`;
}

/** Questions to start with: curated for the shop, made from the table names elsewhere. */
export function exampleQuestions(database, tables) {
  const names = new Set(tables.map((table) => table.name));
  const curated = database === 'shop' ? SHOP.filter(([table]) => names.has(table)).map(([, text]) => text) : [];
  return curated.length ? curated : [...new Set(genericQuestions(tables))];
}

function genericQuestions(tables) {
  const questions = tables.slice(0, MAX_TABLE_EXAMPLES).map(({ name }) => `How many rows of ${name} are there?`);
  const named = tables.find((table) => table.columns.includes('name'));
  const dated = tables.map((table) => [table.name, table.columns.find((column) => /date/i.test(column))]).find(([, column]) => column);
  if (named) questions.splice(1, 0, `List the name of all ${named.name}, in alphabetical order`);
  if (dated) questions.push(`Show the five latest ${dated[0]} by ${dated[1]}`);
  return questions.slice(0, MAX_TABLE_EXAMPLES + 1);
}

/** Table names in pasted DDL, good enough for example questions; the server reads it properly. */
export function ddlTables(ddl) {
  const found = ddl.matchAll(/\bcreate\s+table\s+(?:if\s+not\s+exists\s+)?["`[]?([\p{L}_][\p{L}\p{N}_]*)/giu);
  return [...found].map(([, name]) => ({ name, columns: [] }));
}

export function exampleNodes(questions, ask) {
  return questions.map((text) => element('button', { type: 'button', class: 'chip', click: () => ask(text) }, text));
}

/** One past question; a click asks it again with the same choices. */
export function historyNode({ query, outcome }, askAgain) {
  const where = query.database ?? 'pasted DDL';
  return element('li', {}, element('button', { type: 'button', click: () => askAgain(query) },
    element('span', { class: 'unseen' }, 'Ask again: '),
    element('span', { class: 'past-question' }, query.natural_language_query),
    element('span', { class: 'muted' }, [where, query.model, query.dialect, outcome].filter(Boolean).join(' · '))));
}

export function outcomeOf(answer) {
  return `${answer.valid ? 'valid' : 'not valid'}, ${score(answer.confidence)}`;
}
