// The page: which view the address names, its form, and the questions that are asked again and again.
import { count, h, name, span, update } from './dom.js';
import { link, views } from './views.js';

const interval = 4000; // IPVS brings its counts up to date every two seconds
const longest = 15000;
const element = id => document.getElementById(id);

let shown; // the view, its parameters, and whether it has been drawn
let timer, paused = false, asking; // an AbortController while answers are awaited
let answered; // when the last answer came

// route returns the view and the parameters that the address names.
function route() {
  const [, view, query] = /^#\/([a-z]*)\??(.*)$/.exec(location.hash) ?? [, '', ''];
  const known = Object.hasOwn(views, view) ? view : '';
  return { view: known, params: Object.fromEntries(new URLSearchParams(query)) };
}

// ask asks kube-ipvs. The addresses are relative: the page may be below another path.
const asker = signal => async (resource, query) => {
  const params = new URLSearchParams(Object.entries(query).filter(([, v]) => v !== undefined && v !== '' && v !== false));
  const answer = await fetch(`v1alpha1/${resource}?${params}`, { signal, cache: 'no-store', credentials: 'omit' });
  const text = await answer.text();
  if (answer.ok) return JSON.parse(text);
  let message = text.trim() || answer.statusText;
  try { message = JSON.parse(text).message; } catch { /* it is no Status: the text is the message */ }
  throw Object.assign(new Error(message), { code: answer.status });
};

// health shows the state of the node, which every view has.
function health(list) {
  const n = list.items[0], trouble = n.layers.reduce((sum, l) => sum + l.failing, 0) + (n.problems?.length ?? 0);
  update(element('node'), list.node);
  for (const [id, number] of [['drains', n.numbers.Draining], ['unserved', n.numbers.Unserved]]) update(element(id), number && count(number));
  update(element('health'), h('a', { href: link('node'), class: `state ${!n.ready ? 'NotServed' : trouble ? 'Limited' : 'Served'}` }, !n.ready ? '✕ Not ready' : trouble ? '◐ Ready, with problems' : '● Ready'),
    n.waiting > 0 && h('span', { class: 'state Pending' }, `… ${count(n.waiting)} not programmed yet`));
}

async function refresh() {
  clearTimeout(timer);
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking, now = shown, view = views[now.view], begin = performance.now();
  try {
    const ask = asker(signal), about = await ask('overview', {});
    const data = await view.load(ask, now.params, about.items[0]);
    if (signal.aborted) return;
    health(about);
    update(element('lead'), view.lead?.(data, now.params));
    update(element('view'), view.draw(data, now.params));
    problem('');
    answered = Date.now();
  } catch (err) {
    if (signal.aborted) return;
    if (err.code === 404 || err.code === 400) update(element('view'));
    problem(err.code ? err.message : `kube-ipvs does not answer: ${err.message}`);
  }
  element('view').setAttribute('aria-busy', 'false');
  tick();
  // Dear answers are asked for less often.
  const pause = Math.min(Math.max(interval, 10 * (performance.now() - begin)), longest);
  if (!paused && !document.hidden && !view.once) timer = setTimeout(refresh, pause);
}

function problem(text) {
  const alert = element('alert');
  alert.hidden = !text;
  update(alert, text && name(text));
  element('view').classList.toggle('stale', Boolean(text));
}

// tick tells how old the view is.
function tick() {
  const age = answered && (Date.now() - answered) / 1000;
  update(element('updated'), answered ? (age < 1.5 ? 'Updated just now' : `Updated ${span(Math.round(age))} ago`) : 'Asking …', paused && ', paused');
}

// The forms: made once for a view, so that typing is not disturbed.
const filters = { '': 'All states', Troubled: 'Not as requested', Served: 'Served', Limited: 'Limited', Rejecting: 'Rejecting', Dropping: 'Dropping', Pending: 'Pending', NotServed: 'Not served', Unserved: 'With a frontend that is not served', Draining: 'With draining endpoints' };

const field = (id, label, control, hint) => h('div', { class: 'field' }, h('label', { for: id }, label), control, hint && h('p', { id: `${id}-hint`, class: 'dim' }, hint));

function searchForm(view) {
  const search = h('input', { id: 'search', type: 'search', autocomplete: 'off', spellcheck: 'false', maxlength: 300, placeholder: view === '' ? 'name, namespace/name or address' : 'name or namespace/name' });
  const only = view === '' && h('select', { id: 'only' }, Object.entries(filters).map(([value, text]) => h('option', { value }, text)));
  const form = h('form', { role: 'search' }, field('search', 'Search', search), only && field('only', 'State', only), h('button', {}, 'Search'));
  const go = () => replace(link(view, { search: search.value.trim(), only: only ? only.value : undefined }));
  let typing;
  search.addEventListener('input', () => { clearTimeout(typing); typing = setTimeout(go, 250); });
  only && only.addEventListener('change', go);
  form.addEventListener('submit', event => { event.preventDefault(); clearTimeout(typing); go(); });
  return form;
}

function explainForm() {
  const to = h('input', { id: 'to', required: true, autocomplete: 'off', spellcheck: 'false', maxlength: 100, placeholder: '10.96.0.10:53/udp', 'aria-describedby': 'to-hint' });
  const from = h('input', { id: 'from', autocomplete: 'off', spellcheck: 'false', maxlength: 60, placeholder: '10.244.1.11', 'aria-describedby': 'from-hint' });
  const form = h('form', {}, field('to', 'To', to, 'ADDRESS:PORT, with /udp or /sctp if it is not TCP'), field('from', 'From', from, 'an IP address; empty: a pod, this node and outside'), h('button', {}, 'Explain'));
  form.addEventListener('submit', event => {
    event.preventDefault();
    const hash = link('explain', { to: to.value.trim(), from: from.value.trim() });
    if (hash === location.hash) refresh(); else location.hash = hash;
  });
  return form;
}

const forms = { search: searchForm, explain: explainForm };

// replace changes the address without a step in the browser's history: each key that is typed would be one.
function replace(hash) {
  history.replaceState(null, '', hash);
  show({ typed: true });
}

// show shows the view that the address names. The form has its parameters already, if these were typed there.
function show({ typed = false } = {}) {
  const before = shown, now = route(), view = views[now.view], form = view.form && forms[view.form];
  shown = now;
  const sameView = before && before.view === now.view, inForm = element('form').contains(document.activeElement);
  const title = view.title(now.params);
  document.title = `${title} – kube-ipvs`;
  update(element('heading'), name(title));
  if (!sameView) element('form').replaceChildren(...(form ? [form(now.view)] : []));
  if (!typed) for (const control of element('form').querySelectorAll('input, select')) control.value = now.params[control.id] ?? '';
  if (!sameView) {
    update(element('lead'));
    update(element('view'), h('p', { class: 'dim' }, 'Asking …'));
    problem('');
  }
  element('view').setAttribute('aria-busy', 'true');
  for (const a of document.querySelectorAll('header nav a')) {
    const current = a.getAttribute('href') === `#/${now.view === 'service' ? '' : now.view}`;
    if (current) a.setAttribute('aria-current', 'page'); else a.removeAttribute('aria-current');
  }
  if (before && !typed && !inForm && (!sameView || JSON.stringify(before.params) !== JSON.stringify(now.params))) {
    element('heading').focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  refresh();
}

element('skip').addEventListener('click', event => { event.preventDefault(); element('main').focus(); });
element('pause').addEventListener('click', () => {
  paused = !paused;
  element('pause').setAttribute('aria-pressed', String(paused));
  if (paused) clearTimeout(timer); else refresh();
  tick();
});
document.addEventListener('keydown', event => {
  if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) return;
  const search = element('search');
  if (search) { event.preventDefault(); search.focus(); }
});
document.addEventListener('visibilitychange', () => { if (!document.hidden && !paused) refresh(); });
addEventListener('hashchange', () => show());
setInterval(tick, 1000);
show();
