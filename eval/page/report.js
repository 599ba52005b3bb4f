// The examples: which of them match the filters, and what each one shows when it is opened.
// Text of the record is only ever set as text. The address keeps the filters, so every link of the
// page to some examples is a plain link.

const PAGE = 25;
const FACETS = ['db', 'hardness', 'shape', 'class', 'cause', 'flag', 'change'];
const NAMES = ['q', 'verdict', ...FACETS, 'only'];
const MARKS = { right: '✓', wrong: '✕', unjudged: '–' };
const VERDICTS = { right: 'Right', wrong: 'Wrong', unjudged: 'Not judged' };
const LUCKY = 'lucky_match';

const data = JSON.parse(byId('data').textContent);
const examples = data.items.map((item) => ({ ...item, text: searchText(item) }));
const labels = new Map(Object.entries(data.labels));
const schemas = new Map(Object.entries(data.databases));
const form = byId('filters');
let matching = examples;
let page = 0;

function byId(id) {
  return document.getElementById(id);
}

/** `element('p', {class: 'help'}, 'text', child)`; a null child is left out. */
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.flat().filter((child) => child != null));
  return node;
}

function named(value) {
  return labels.get(value) ?? value;
}

function figure(n) {
  return n.toLocaleString('en');
}

function counted(n, noun) {
  return `${figure(n)} ${noun}${n === 1 ? '' : 's'}`;
}

function sqlOf(pieces) {
  return pieces.flat().join('');
}

function searchText(item) {
  const texts = [item.id, item.question, sqlOf(item.predicted), sqlOf(item.gold), item.written, ...item.golds];
  return texts.join('\n').toLowerCase().replace(/[^\S]+/g, ' ');
}

// Filters

function wantedNow() {
  const wanted = {};
  for (const [name, value] of new FormData(form)) if (value) wanted[name] = value;
  return wanted;
}

/** A test of one example: true where it matches all that is wanted, but for the facet `but`. */
function matcher(wanted, but = '') {
  const words = (wanted.q ?? '').toLowerCase().split(/\s+/).filter(Boolean);
  const facets = FACETS.filter((name) => wanted[name] && name !== but);
  return (item) =>
    (!wanted.verdict || item.verdict === wanted.verdict) &&
    (!wanted.only || item.id === wanted.only) &&
    facets.every((name) => item[name].includes(wanted[name])) &&
    words.every((word) => item.text.includes(word));
}

/** Say beside each choice how many examples it would leave. */
function countChoices(wanted) {
  for (const select of form.querySelectorAll('select')) {
    const counts = new Map();
    for (const item of examples.filter(matcher(wanted, select.name))) {
      for (const value of item[select.name]) counts.set(value, (counts.get(value) ?? 0) + 1);
    }
    for (const option of select.options) {
      if (option.value) option.textContent = `${option.dataset.name} (${figure(counts.get(option.value) ?? 0)})`;
    }
  }
}

function apply() {
  const wanted = wantedNow();
  matching = examples.filter(matcher(wanted));
  page = 0;
  countChoices(wanted);
  byId('clear').hidden = Object.keys(wanted).length === 0;
  byId('count').textContent = `${figure(matching.length)} of ${counted(examples.length, 'example')}${unseenWants(wanted)}`;
  show();
  if (matching.length === 1) byId('list').querySelector('details').open = true;
}

/** What is wanted by a link and has no control of its own. */
function unseenWants({ cause, only }) {
  const wants = [cause && `wrong by: ${named(cause)}`, only && `only ${only}`].filter(Boolean);
  return wants.length ? ` (${wants.join(', ')})` : '';
}

function readAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (location.hash.length > 1 && !NAMES.some((name) => asked.has(name))) return false;
  for (const name of NAMES) choose(form.elements.namedItem(name), asked.get(name) ?? '');
  return NAMES.some((name) => asked.has(name));
}

/** A value that the control does not have leaves it at "any". */
function choose(control, value) {
  if (!control) return;
  const radios = control instanceof RadioNodeList ? [...control] : [];
  const choices = [...radios, ...(control.options ?? [])];
  const isKnown = choices.length === 0 || choices.some((choice) => choice.value === value);
  const chosen = isKnown ? value : '';
  for (const radio of radios) radio.checked = radio.value === chosen;
  if (radios.length === 0) control.value = chosen;
}

function writeAddress() {
  const asked = new URLSearchParams(wantedNow()).toString();
  history.replaceState(null, '', asked ? `#${asked}` : '#examples');
}

// The list

function show() {
  const first = page * PAGE;
  const part = matching.slice(first, first + PAGE);
  byId('list').replaceChildren(...part.map(row));
  byId('list').start = first + 1;
  byId('pager').hidden = matching.length <= PAGE;
  byId('pages').textContent = `${figure(first + 1)}–${figure(first + part.length)} of ${figure(matching.length)}`;
  byId('previous').disabled = page === 0;
  byId('next').disabled = first + PAGE >= matching.length;
}

function turn(pages) {
  page += pages;
  show();
  byId('list').querySelector('summary').focus();
  byId('list').scrollIntoView({ block: 'start' });
}

function row(item) {
  const details = element(
    'details',
    { class: 'example' },
    element(
      'summary',
      {},
      verdictMark(item),
      element('h3', {}, element('bdi', {}, item.question)),
      element('span', { class: 'about' }, unseen('Database and hardness: '), [...item.db, ...item.hardness.map(named)].join(' · ')),
      cause(item),
    ),
  );
  details.addEventListener('toggle', () => {
    if (details.open && details.children.length === 1) details.append(body(item));
  });
  return element('li', {}, details);
}

/** The mark with a name, and a word beside it where it says less than it seems to. */
function verdictMark(item) {
  const name = item.lucky ? `${VERDICTS[item.verdict]}, but ${named(LUCKY).toLowerCase()}` : VERDICTS[item.verdict];
  return element('span', { class: `verdict ${item.verdict}`, role: 'img', 'aria-label': name, title: name }, MARKS[item.verdict]);
}

function cause(item) {
  const lucky = item.lucky ? element('span', { class: 'tag' }, 'lucky') : null;
  const main = item.class.slice(0, 1).map((name) => [unseen('Error class: '), named(name)]);
  return element('span', { class: 'cause' }, lucky, lucky && main.length ? ' ' : null, main.flat());
}

function unseen(text) {
  return element('span', { class: 'unseen' }, text);
}

// One example

function body(item) {
  return element(
    'div',
    { class: 'body' },
    tags(item),
    failure(item),
    element('div', { class: 'pair' }, query('Predicted SQL', item.predicted, 'del'), query('Gold SQL', item.gold, 'ins')),
    folded('Predicted SQL as it was written', [item.written]),
    folded(`Gold SQL, ${item.golds.length === 1 ? 'another way' : `${item.golds.length} other ways`}`, item.golds),
    answers(item.answers),
    scores(item),
    folded(`Schema of ${item.db[0]}`, [schemas.get(item.db[0])]),
  );
}

function tags(item) {
  const values = [...item.change, ...item.class, ...item.flag, ...item.shape];
  const address = new URLSearchParams({ only: item.id });
  return element(
    'p',
    { class: 'tags' },
    element('a', { href: `#${address}` }, element('bdi', {}, item.id)),
    values.map((value) => element('span', { class: 'tag' }, named(value))),
  );
}

function failure(item) {
  if (item.error) return element('p', { class: 'failure' }, element('b', {}, 'The request failed. '), item.error);
  if (!item.execution_error) return null;
  return element('p', { class: 'failure' }, element('b', {}, 'The predicted query fails. '), item.execution_error);
}

function query(title, pieces, mark) {
  const runs = pieces.map((piece) => (Array.isArray(piece) ? element(mark, {}, piece) : piece));
  const text = runs.length ? runs : [element('i', { class: 'muted' }, 'nothing')];
  return element('div', {}, element('h4', {}, title), block(title, text));
}

/** A closed block for each text; nothing where there is none. */
function folded(title, texts) {
  const blocks = texts.filter(Boolean).map((text) => block(title, text));
  return blocks.length ? element('details', { class: 'more' }, element('summary', {}, title), blocks) : null;
}

function block(title, content) {
  return element('pre', { tabindex: '0', role: 'group', 'aria-label': title }, element('code', {}, content));
}

function answers([first, second]) {
  if (second === undefined) return element('div', {}, grid('Both answers', first));
  return element('div', { class: 'pair' }, grid('Predicted answer', first), grid('Gold answer', second));
}

function grid(title, table) {
  if (!table) return element('div', {}, element('h4', {}, title), element('p', { class: 'muted' }, 'none'));
  const held = table.rows.length;
  const extent = held < table.n ? `${figure(held)} of ${counted(table.n, 'row')}` : counted(table.n, 'row');
  const align = (at) => (table.numeric[at] ? { class: 'number' } : {});
  const head = table.columns.map((name, at) => element('th', { scope: 'col', ...align(at) }, name));
  const rows = table.rows.map((cells) => element('tr', {}, cells.map((cell, at) => element('td', align(at), shownCell(cell)))));
  const whole = element('table', { class: 'answer' }, element('thead', {}, element('tr', {}, head)), element('tbody', {}, rows));
  return element(
    'div',
    {},
    element('h4', {}, title, ' ', element('span', { class: 'muted' }, extent)),
    element('div', { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': `${title}, ${extent}` }, whole),
  );
}

function shownCell(cell) {
  if (cell === null) return element('i', { class: 'muted' }, 'NULL');
  return cell === '' ? element('i', { class: 'muted' }, 'empty') : cell;
}

function scores(item) {
  const told = item.scores.map((score, at) => [data.measures[at], scoreText(score)]);
  const facts = [...told, ...item.facts].map(([name, value]) => element('div', {}, element('dt', {}, name), element('dd', {}, value)));
  return element('dl', { class: 'scores' }, facts);
}

function scoreText(score) {
  if (score === null) return '–';
  return score === 1 ? '✓ 1' : score === 0 ? '✕ 0' : score.toFixed(3);
}

form.addEventListener('input', () => {
  choose(form.elements.only, '');
  apply();
  writeAddress();
});
form.addEventListener('submit', (event) => event.preventDefault());
form.addEventListener('reset', (event) => {
  event.preventDefault();
  for (const name of NAMES) choose(form.elements.namedItem(name), '');
  apply();
  writeAddress();
  form.elements.q.focus();
});
byId('previous').addEventListener('click', () => turn(-1));
byId('next').addEventListener('click', () => turn(1));
window.addEventListener('hashchange', () => {
  if (!readAddress()) return;
  apply();
  byId('examples').scrollIntoView();
  byId('examples-title').focus({ preventScroll: true });
});

byId('needs-script').hidden = true;
form.hidden = false;
document.querySelector('.found').hidden = false;
const isAsked = readAddress();
apply();
if (isAsked) byId('examples').scrollIntoView();
