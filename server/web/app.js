// The page: reads the choices, asks the server, shows what came back. Keeps everything in memory.

import { answerNodes, answerSummary } from './answer.js';
import { ApiError, call } from './api.js';
import { element } from './element.js';
import { ddlTables, exampleNodes, exampleQuestions, historyNode, outcomeOf, tableNodes } from './panels.js';

const PASTE = ''; // the value of the last choice; no database has an empty name
const MAX_HISTORY = 30;
const TICK_MS = 100;
const WIDE = '(min-width: 64rem)';

const $ = (id) => document.getElementById(id);
const state = { databases: [], key: '', running: null, history: [] };

async function load() {
  clearAlert();
  const options = { key: state.key };
  const [databases, models] = await Promise.allSettled([call('/databases', options), call('/v1/models', options)]);
  state.databases = databases.value?.databases ?? [];
  showDatabases(databases.value?.default);
  showModels(models.value?.data ?? []);
  const failure = databases.reason ?? models.reason;
  if (failure) showError(failure, load);
}

function showDatabases(chosen) {
  const known = state.databases.map(({ name }) => element('option', { value: name, selected: name === chosen }, name));
  $('database').replaceChildren(
    known.length ? element('optgroup', { label: 'On this server' }, known) : '',
    element('optgroup', { label: 'Your own' }, element('option', { value: PASTE }, 'Paste DDL…')),
  );
  showSchema();
}

function showModels(models) {
  const aliases = models.map(({ id }) => id).filter((id) => !id.includes('@'));
  const chosen = aliases.find((id) => id !== 'base') ?? aliases[0];
  const options = aliases.map((id) => element('option', { value: id, selected: id === chosen }, id));
  $('model').replaceChildren(...(options.length ? options : [element('option', { value: '' }, 'server default')]));
}

function chosenDatabase() {
  return state.databases.find(({ name }) => name === $('database').value);
}

function showSchema() {
  const database = chosenDatabase();
  $('ddl-field').hidden = Boolean(database);
  $('paste-ddl').hidden = !database;
  $('schema-name').textContent = database ? `${database.name}, ${database.dialect}` : 'from your DDL';
  $('tables').replaceChildren(...(database
    ? tableNodes(database.tables)
    : [element('p', { class: 'help' }, 'The query will use the tables that you paste under the question.')]));
  $('dialect').options[0].textContent = database ? 'as the database' : 'server default';
  showExamples();
}

function showExamples() {
  const database = chosenDatabase();
  const tables = database ? database.tables : ddlTables($('ddl').value);
  $('examples').replaceChildren(...exampleNodes(exampleQuestions(database?.name, tables), (text) => {
    $('question').value = text;
    ask(currentQuery());
  }));
}

function currentQuery() {
  const database = chosenDatabase();
  const query = { natural_language_query: $('question').value.trim() };
  if (database) query.database = database.name;
  else query.ddl = $('ddl').value;
  if ($('dialect').value) query.dialect = $('dialect').value;
  if ($('model').value) query.model = $('model').value;
  return query;
}

function missing(query) {
  if (!query.natural_language_query) return ['question', 'Write a question first', 'For example, choose one below the box.'];
  if (query.ddl !== undefined && !query.ddl.trim()) {
    return ['ddl', 'Paste your tables first', 'One or more CREATE TABLE statements, or choose a database.'];
  }
  return null;
}

async function ask(query) {
  const lack = missing(query);
  if (lack) return showMissing(...lack);
  state.running?.abort();
  const controller = new AbortController();
  state.running = controller;
  const elapsed = showBusy();
  try {
    const answer = await call('/generate-sql', { body: query, key: state.key, signal: controller.signal });
    if (state.running === controller) showAnswer(answer, query, elapsed());
  } catch (error) {
    if (state.running === controller) showFailure(error, query, elapsed());
  } finally {
    if (state.running === controller) showIdle();
  }
}

function showBusy() {
  const start = performance.now();
  const elapsed = () => (performance.now() - start) / 1000;
  clearAlert();
  $('empty').hidden = true;
  $('elapsed').textContent = '0.0 s';
  clearInterval(state.ticking);
  state.ticking = setInterval(() => {
    $('elapsed').textContent = `${elapsed().toFixed(1)} s`;
  }, TICK_MS);
  setBusy(true);
  announce('Asking.');
  return elapsed;
}

function showIdle() {
  clearInterval(state.ticking);
  state.running = null;
  setBusy(false);
}

function setBusy(busy) {
  const focused = document.activeElement;
  $('busy').hidden = !busy;
  $('cancel').hidden = !busy;
  $('submit').hidden = busy;
  $('question-help').hidden = busy;
  $('answer').setAttribute('aria-busy', busy);
  if (focused === $('submit') && busy) $('cancel').focus();
  if (focused === $('cancel') && !busy) $('submit').focus();
}

function showAnswer(answer, query, seconds) {
  $('answer').hidden = false;
  const open = [...$('answer').querySelectorAll('details[open]')].map(({ id }) => id);
  $('answer').replaceChildren(...answerNodes(answer, { query, withKey: Boolean(state.key), seconds, copy }));
  for (const id of open) $(id).open = true;
  $('answer').scrollIntoView({ block: 'nearest' });
  remember(query, outcomeOf(answer));
  announce(answerSummary(answer));
}

function showFailure(error, query, seconds) {
  $('answer').hidden = true;
  if (error.name === 'AbortError') {
    remember(query, 'cancelled');
    announce('');
    $('alert').replaceChildren(element('p', { class: 'notice' }, `Cancelled after ${seconds.toFixed(1)} s.`));
    return;
  }
  remember(query, 'failed');
  showError(error);
}

function showMissing(id, message, hint) {
  showError(new ApiError({ message, hint }));
  $(id).setAttribute('aria-invalid', 'true');
  $(id).focus();
}

function showError(error, retry) {
  const known = error instanceof ApiError;
  const hint = known ? error.hint : 'This is a fault of the page; reload it.';
  announce('');
  $('alert').replaceChildren(element('div', { class: 'error' },
    element('p', { class: 'error-message' }, error.message),
    hint ? element('p', { class: 'error-hint' }, hint) : null,
    error.retryAfter ? element('p', {}, `Try again in ${error.retryAfter} s.`) : null,
    known && error.requestId ? element('p', { class: 'error-id' }, 'Request id ', element('code', {}, error.requestId)) : null,
    retry ? element('button', { type: 'button', class: 'quiet', click: () => retry() }, 'Try again') : null));
  if (error.status === 401) askForKey();
}

function clearAlert() {
  $('alert').replaceChildren();
  for (const id of ['question', 'ddl']) $(id).removeAttribute('aria-invalid');
}

function askForKey() {
  $('key-field').hidden = false;
  $('key').focus();
}

function useKey() {
  state.key = $('key').value.trim();
  load();
}

function announce(text) {
  $('status').textContent = text;
}

function remember(query, outcome) {
  const id = JSON.stringify(query);
  const others = state.history.filter((entry) => JSON.stringify(entry.query) !== id);
  state.history = [{ query, outcome }, ...others].slice(0, MAX_HISTORY);
  $('history').hidden = false;
  $('asked').replaceChildren(...state.history.map((entry) => historyNode(entry, askAgain)));
}

function askAgain(query) {
  $('question').value = query.natural_language_query;
  $('database').value = query.database ?? PASTE;
  if (query.ddl !== undefined) $('ddl').value = query.ddl;
  $('dialect').value = query.dialect ?? '';
  if (query.model) $('model').value = query.model;
  showSchema();
  $('question').focus();
  ask(query);
}

async function copy(text, button) {
  const label = (button.dataset.label ??= button.textContent);
  const done = await writeClipboard(text);
  announce(done ? 'Copied.' : 'Copying was refused by the browser.');
  button.textContent = done ? 'Copied' : 'Not copied';
  setTimeout(() => { button.textContent = label; }, 1500);
}

async function writeClipboard(text) {
  // Plain http has no clipboard API except on localhost, hence the old way as well.
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = element('textarea', { class: 'unseen', 'aria-hidden': 'true' });
    const focused = document.activeElement;
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    focused?.focus();
    return done;
  }
}

function pasteDdl() {
  $('database').value = PASTE;
  showSchema();
  $('ddl').focus();
}

function onQuestionKey(event) {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask(currentQuery());
}

function listen() {
  $('ask').addEventListener('submit', (event) => {
    event.preventDefault();
    ask(currentQuery());
  });
  $('question').addEventListener('keydown', onQuestionKey);
  $('cancel').addEventListener('click', () => state.running?.abort());
  $('database').addEventListener('change', showSchema);
  $('ddl').addEventListener('input', showExamples);
  $('paste-ddl').addEventListener('click', pasteDdl);
  $('use-key').addEventListener('click', useKey);
  $('key').addEventListener('keydown', (event) => {
    if (event.key === 'Enter') { event.preventDefault(); useKey(); }
  });
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') state.running?.abort();
  });
}

$('schema').open = matchMedia(WIDE).matches;
listen();
await load();
