// One answer of /generate-sql as elements: verdict, SQL, confidence, violations, details.

import { curlCommand } from './api.js';
import { element } from './element.js';
import { sqlFragment } from './sql.js';

/** The children of the answer's section. `copy(text, button)` is called by the copy buttons. */
export function answerNodes(answer, { query, withKey, seconds, copy }) {
  const sql = answer.sql_query ?? '';
  return [
    element('div', { class: 'card answer' },
      element('div', { class: 'answer-head' },
        element('h2', { id: 'answer-title' }, answer.abstained ? 'No answer' : 'Answer'),
        badge(answer),
        sql ? copyButton('Copy SQL', sql, copy) : null,
      ),
      element('p', { class: 'asked-question' }, query.natural_language_query),
      sql ? sqlBlock(sql) : element('p', { class: 'help' }, 'The model wrote no SQL.'),
      confidence(answer),
      answer.truncated ? element('p', { class: 'notice' }, 'Cut off: the model reached its token limit before the end.') : null,
      violations(answer.violations ?? []),
      ...notes(answer.notes ?? []),
      suggestions(answer.suggestions ?? []),
      details(answer, seconds),
      curl(curlCommand(query, withKey), copy),
    ),
  ];
}

/** One sentence for a screen reader. */
export function answerSummary(answer) {
  const verdict = answer.valid ? 'valid' : 'not valid';
  return `Answer ready: the SQL is ${verdict}, confidence ${score(answer.confidence)}.`;
}

export function score(value) {
  if (typeof value !== 'number') return 'not known';
  return value > 0 && value < 0.01 ? 'below 0.01' : value.toFixed(2);
}

function badge({ valid }) {
  return element('span', { class: `badge ${valid ? 'good' : 'bad'}` }, valid ? 'Valid' : 'Not valid');
}

function copyButton(label, text, copy) {
  return element('button', { type: 'button', class: 'quiet', click: (event) => copy(text, event.currentTarget) }, label);
}

function sqlBlock(sql) {
  return element('pre', { class: 'sql', tabindex: '0', role: 'region', 'aria-label': 'SQL' },
    element('code', { id: 'sql' }, sqlFragment(sql)));
}

function confidence({ confidence: value, calibrated }) {
  const known = typeof value === 'number';
  const fill = element('span', { class: 'meter-fill' });
  fill.style.inlineSize = `${100 * Math.min(1, Math.max(0, known ? value : 0))}%`;
  const bar = element('span', {
    class: 'meter', role: 'meter', 'aria-label': 'Confidence', 'aria-valuemin': '0', 'aria-valuemax': '1',
    'aria-valuenow': known ? value : 0,
  }, fill);
  return element('p', { class: 'confidence' },
    element('span', { class: 'confidence-label' }, 'Confidence'),
    element('strong', { id: 'confidence' }, score(value)),
    bar,
    element('span', { class: 'muted' }, calibrated ? 'calibrated' : 'raw, not calibrated'));
}

function violations(list) {
  if (!list.length) return null;
  return element('div', { class: 'violations' },
    element('h3', {}, list.length === 1 ? 'Why it did not pass the check' : `Why it did not pass the check: ${list.length} reasons`),
    element('ul', { id: 'violations' }, list.map(violation)));
}

function violation({ code, message, suggestions: close = [] }) {
  const asked = close.length ? message.indexOf('; did you mean') : -1;
  return element('li', {},
    element('span', { class: 'violation-text' }, asked < 0 ? message : message.slice(0, asked)),
    element('code', { class: 'tag' }, code),
    close.length ? element('p', { class: 'close' }, 'Did you mean ', alternatives(close), '?') : null);
}

function alternatives(names) {
  return names.flatMap((name, index) => [index ? ' or ' : '', element('code', {}, name)]);
}

function suggestions(list) {
  if (!list.length) return null;
  return element('details', { class: 'more', id: 'suggestions' },
    element('summary', {}, list.length === 1 ? 'One suggestion' : `${list.length} suggestions`),
    element('ul', {}, list.map(suggestion)));
}

function suggestion({ message, rewrite, verdict }) {
  return element('li', {},
    message,
    rewrite ? element('pre', { class: 'sql', tabindex: '0', role: 'region', 'aria-label': 'Rewritten SQL' }, element('code', {}, sqlFragment(rewrite))) : null,
    rewrite ? element('p', { class: 'help' }, `The rewritten query: ${verdict}.`) : null);
}

function notes(list) {
  return list.map((text) => element('p', { class: 'notice' }, text));
}

const DECODINGS = {
  free: 'as the model wrote it',
  constrained: "under the schema's grammar",
  continued: 'with wrong names replaced',
  sampled: 'the sample that most agree on',
};

function decodingText({ decoding, repaired, agreement }) {
  const parts = [DECODINGS[decoding] ?? decoding, repaired ? 'repaired' : null];
  if (typeof agreement === 'number') parts.push(`${Math.round(100 * agreement)} % of the samples agree`);
  return parts.filter(Boolean).join(', ');
}

function details(answer, seconds) {
  const { usage = {}, timings_ms: timings = {} } = answer;
  const rows = [
    ['Model', element('code', {}, answer.model ?? '')],
    ['Dialect', answer.dialect],
    ['Decoded', decodingText(answer)],
    ['Tables', (answer.tables ?? []).join(', ')],
    ['Columns', (answer.columns ?? []).join(', ')],
    ['Tokens', `${usage.prompt_tokens ?? '?'} prompt + ${usage.completion_tokens ?? '?'} completion = ${usage.total_tokens ?? '?'}`],
    ...Object.entries(timings).map(([stage, ms]) => [`Time: ${stage.replaceAll('_', ' ')}`, `${Number(ms).toFixed(1)} ms`]),
    ['Time: seen by this page', `${(1000 * seconds).toFixed(0)} ms`],
    ['Request id', element('code', {}, answer.request_id ?? '')],
  ];
  return element('details', { class: 'more', id: 'details' },
    element('summary', {}, 'Model, tokens and timings'),
    element('dl', {}, rows.filter(([, value]) => value).map(row)));
}

function row([name, value]) {
  return element('div', {}, element('dt', {}, name), element('dd', {}, value));
}

function curl(command, copy) {
  return element('details', { class: 'more', id: 'curl' },
    element('summary', {}, 'The same request with curl'),
    element('pre', { class: 'shell', tabindex: '0', role: 'region', 'aria-label': 'curl command' }, element('code', {}, command)),
    copyButton('Copy command', command, copy));
}
