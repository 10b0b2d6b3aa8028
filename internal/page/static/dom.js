// Elements, made without any markup: text is text, whoever wrote it.

function fill(e, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== undefined && value !== false) e.setAttribute(name, value === true ? '' : value);
  }
  e.append(...children.flat(Infinity).filter(c => c !== undefined && c !== null && c !== false));
  return e;
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

export const s = (tag, attributes, ...children) => fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

// name isolates a text of others: its direction does not concern the text around it.
export const name = text => h('bdi', {}, text);

// update makes the children of an element equal to others, and keeps the elements that stay: with them focus, selection and scrolling.
export function update(e, ...children) {
  morph(e, fill(document.createDocumentFragment(), {}, children));
}

function morph(e, to) {
  const wanted = [...to.childNodes];
  wanted.forEach((now, i) => {
    const was = e.childNodes[i];
    if (!was) e.append(now);
    else if (was.nodeName !== now.nodeName || was.id !== now.id) was.replaceWith(now);
    else if (was.nodeType === Node.TEXT_NODE) { if (was.data !== now.data) was.data = now.data; }
    else {
      for (const { name } of [...was.attributes]) if (!now.hasAttribute(name) && name !== 'open') was.removeAttribute(name); // the reader opened it
      for (const { name, value } of now.attributes) if (was.getAttribute(name) !== value) was.setAttribute(name, value);
      morph(was, now);
    }
  });
  while (e.childNodes.length > wanted.length) e.lastChild.remove();
}

// table returns a table. Columns are {title, cell(item), number, optional}; an optional one is left out if all its cells are empty. On a
// narrow screen each row is a card with the titles in front of its cells; roles are explicit, as they are lost with the layout.
export function table(caption, columns, items) {
  const cells = items.map(item => columns.map(c => [c.cell(item)].flat(Infinity).filter(x => x !== undefined && x !== false && x !== '')));
  const shown = columns.map((c, i) => ({ ...c, i })).filter(({ optional, i }) => !optional || cells.some(row => row[i].length));
  const heads = shown.map(c => h('th', { scope: 'col', role: 'columnheader', class: c.number && 'number' }, c.title));
  const rows = cells.map(row => h('tr', { role: 'row' }, shown.map(({ i, number, title }) => h(i ? 'td' : 'th', {
    role: i ? 'cell' : 'rowheader', scope: !i && 'row', class: `${number ? 'number' : ''}${row[i].length ? '' : ' empty'}`, 'data-title': title,
  }, h('span', {}, row[i])))));
  return h('div', { class: 'scroll' }, h('table', { role: 'table' },
    h('caption', {}, caption), h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, heads)), h('tbody', { role: 'rowgroup' }, rows)));
}

export const count = n => Number(n).toLocaleString('en');

// bytes returns a number of bytes with a unit.
export function bytes(n) {
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (n < 1024) return `${n < 10 && unit !== 'B' ? n.toFixed(1) : Math.round(n)} ${unit}`;
    n /= 1024;
  }
  return `${n.toFixed(1)} TiB`;
}

// span returns a time in seconds in words.
export function span(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10 && !Number.isInteger(seconds)) return `${seconds.toFixed(1)} s`;
  const total = Math.round(seconds), [m, sec] = [Math.floor(total / 60), total % 60];
  if (total < 60) return `${total} s`;
  if (m < 60) return `${m} min ${sec} s`;
  if (m < 48 * 60) return `${Math.floor(m / 60)} h ${m % 60} min`;
  return `${Math.floor(m / 1440)} days`;
}

// ago returns how long before one time of an answer another was.
export function ago(then, now) {
  const seconds = since(then, now);
  return seconds < 1 ? 'just now' : `${span(Math.max(Math.round(seconds), 1))} ago`;
}

// lines returns a text of several lines as its first one, which opens the others.
export function lines(text) {
  const [first, ...rest] = text.split('\n');
  return rest.length ? h('details', {}, h('summary', {}, name(first)), rest.map(line => h('div', {}, name(line)))) : name(first);
}

// since returns the seconds from one time of an answer to another.
export const since = (then, now) => (Date.parse(now) - Date.parse(then)) / 1000;
