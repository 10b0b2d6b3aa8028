// The views: each asks for answers of kube-ipvs (see sync/status) and draws them. They change nothing.
import { ago, bytes, count, h, lines, name, since, span, table } from './dom.js';
import { add, bar, plot, rates } from './plot.js';

export const rows = 50; // of a page

// link returns the address of a view with its parameters; empty ones are left out.
export function link(view, params = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, v]) => v !== '' && v !== undefined && v !== null && v !== 0));
  return `#/${view}${query.size ? `?${query}` : ''}`;
}

const service = x => h('a', { href: link('service', { namespace: x.namespace, service: x.service }) },
  h('span', { class: 'dim' }, name(x.namespace), '/'), name(x.service));

const marks = { Served: '●', Limited: '◐', Rejecting: '○', Dropping: '○', Pending: '…', NotServed: '✕' };
const words = { NotServed: 'Not served' };

const state = (x, reason = true) => [
  h('span', { class: `state ${x.state}` }, h('span', { 'aria-hidden': 'true' }, marks[x.state] ?? '?', ' '), words[x.state] ?? x.state),
  reason && x.reason && h('span', { class: 'reason' }, ' ', name(x.reason))];

const ratio = (part, all) => part === all ? count(all) : `${count(part)} of ${count(all)}`;
const active = x => x.active === undefined ? '' : count(x.active);
const either = (text, other = '–') => text ? name(text) : other;

const decimal = n => n < 10 ? n.toFixed(1) : count(Math.round(n));

const inBytes = l => l.inBytes, outBytes = l => l.outBytes;
const traffic = samples => rates(samples, l => l.inBytes + l.outBytes);

// uncounted returns the sentence of an answer without traffic, or nothing.
const uncounted = list => list.uncounted && h('p', { class: 'dim' }, list.uncounted);

// rate returns the traffic of an item as a small plot, with its last value.
function rate(key, time, x) {
  if (x.inBytes === undefined) return '';
  const values = traffic(add(key, time, x));
  if (!values.length) return h('span', { class: 'dim' }, '…');
  const now = `${bytes(values.at(-1))}/s`;
  return h('span', { class: 'spark' }, plot(values, `Traffic: ${now}`, 96, 22), h('span', {}, now));
}

// pages returns links to the pages beside this one.
function pages(view, params, list, what) {
  const first = Number(params.skip ?? 0), total = list.total ?? 0, more = first + rows < total;
  if (!total) return [];
  const part = total > rows ? `${count(Math.min(first + 1, total))}–${count(Math.min(first + rows, total))} of ${count(total)} ${what}` : `${count(total)} ${what}`;
  return h('nav', { class: 'pages', 'aria-label': 'Pages' }, h('span', {}, part),
    first > 0 && h('a', { href: link(view, { ...params, skip: Math.max(first - rows, 0) }), rel: 'prev' }, '← Previous'),
    more && h('a', { href: link(view, { ...params, skip: first + rows }), rel: 'next' }, 'Next →'));
}

const serviceColumns = time => [
  { title: 'Service', cell: service },
  { title: 'State', cell: x => state(x) },
  { title: 'Frontends', number: true, cell: x => ratio(x.served, x.frontends) },
  { title: 'Endpoints', number: true, cell: x => ratio(x.ready, x.endpoints) },
  { title: 'Draining', number: true, optional: true, cell: x => x.draining ? count(x.draining) : '' },
  { title: 'Connections', number: true, cell: active },
  { title: 'Traffic', number: true, optional: true, cell: x => rate(`service ${x.namespace}/${x.service}`, time, x) },
];

// tiles are the numbers of Services by state, as links to them.
function tiles(node, only) {
  const tile = (title, n, filter, kind) => h('a', { class: `tile ${n ? kind : 'none'}`, href: link('', { only: filter }), 'aria-current': only === filter ? 'true' : undefined },
    h('span', { class: 'figure' }, count(n)), ' ', h('span', {}, title));
  const n = filter => node.numbers[filter] ?? 0;
  return h('div', { class: 'tiles' },
    tile('Services', node.services, '', 'plain'), tile('served', n('Served'), 'Served', 'Served'), tile('limited', n('Limited'), 'Limited', 'Limited'),
    tile('rejecting', n('Rejecting'), 'Rejecting', 'Rejecting'), tile('dropping', n('Dropping'), 'Dropping', 'Dropping'),
    tile('pending', n('Pending'), 'Pending', 'Pending'), tile('not served', n('NotServed'), 'NotServed', 'NotServed'),
    tile('draining', n('Draining'), 'Draining', 'Pending'));
}

const services = {
  title: () => 'Services',
  form: 'search',
  async load(ask, params, node) {
    const query = { limit: rows, loads: true, ...params };
    const plain = !params.search && !params.only && !params.skip;
    const [list, troubled] = await Promise.all([ask('services', query),
      plain && node.services > rows && node.numbers.Troubled ? ask('services', { limit: 5, loads: true, only: 'Troubled' }) : undefined]);
    return { node, list, troubled };
  },
  lead: ({ node }, params) => tiles(node, params.only ?? ''),
  draw({ list, troubled }, params) {
    const chosen = params.search || params.only;
    return [uncounted(list), troubled?.items.length && h('section', {}, table('Not as requested', serviceColumns(troubled.time), troubled.items),
        h('p', {}, h('a', { href: link('', { only: 'Troubled' }) }, `All ${count(troubled.total)} that are not as requested`))),
      list.items.length ? table(chosen ? 'Services found' : 'All Services', serviceColumns(list.time), list.items)
        : h('p', { class: 'nothing' }, chosen ? 'No Service is like that.' : 'This node serves no Services.'),
      pages('', params, list, 'Services')];
  },
};

const frontendColumns = (time, withService) => [
  ...(withService ? [{ title: 'Service', cell: service }] : []),
  { title: 'Frontend', cell: x => h('code', {}, x.address) },
  { title: 'Kind', cell: x => x.kind },
  { title: 'Port', optional: true, cell: x => either(x.port, '') },
  { title: 'State', cell: x => [state(x), x.owner && [' → ', owner(x.owner)]] },
  ...(withService ? [] : [
    { title: 'Policy', cell: x => [x.policy, x.affinity && `, affinity ${x.affinity}`] },
    { title: 'Sources', cell: x => x.sourceRanges ? `${x.source}; only ${x.sourceRanges.slice(0, 5).join(', ')}${x.sourceRanges.length > 5 ? ', …' : ''}` : x.source },
    { title: 'Connections', number: true, cell: active },
    { title: 'Traffic', number: true, optional: true, cell: x => rate(`frontend ${x.namespace}/${x.service} ${x.address}`, time, x) }]),
  { title: 'Way', cell: x => h('a', { href: link('explain', { to: x.address }), 'aria-label': `Explain ${x.address}` }, 'Explain') },
];

function owner(text) {
  const at = text.indexOf('/');
  return service({ namespace: text.slice(0, at), service: text.slice(at + 1) });
}

const endpointColumns = time => [
  { title: 'Endpoint', cell: x => h('code', {}, x.address) },
  { title: 'Pod', optional: true, cell: x => either(x.pod, '') },
  { title: 'Node', optional: true, cell: x => either(x.node, '') },
  { title: 'State', cell: x => state(x) },
  { title: 'Weight', number: true, cell: x => x.weight === undefined ? '' : count(x.weight) },
  { title: 'Connections', number: true, cell: active },
  { title: 'Traffic', number: true, optional: true, cell: x => rate(`endpoint ${x.namespace}/${x.service} ${x.address} ${x.port}`, time, x) },
];

function drainColumns(time, withService) {
  return [
    ...(withService ? [{ title: 'Service', cell: service }] : []),
    { title: 'Endpoint', cell: x => h('code', {}, x.address) },
    { title: 'Pod', optional: true, cell: x => either(x.pod, '') },
    { title: 'Frontend', cell: x => h('code', {}, x.frontend) },
    { title: 'Connections', number: true, cell: active },
    { title: 'Reason', cell: x => name(x.reason) },
    { title: 'Time left', number: true, cell: x => x.ends ? span(Math.max(since(time, x.ends), 0)) : 'as long as it is listed' },
  ];
}

// figures are the plots of one Service.
function figures(item, time) {
  const samples = add(`service ${item.namespace}/${item.service}`, time, item), past = span(since(samples[0].time, time));
  const figure = (title, values, text) => {
    const now = values.length ? text(values.at(-1)) : '…', peak = values.length ? `at most ${text(Math.max(...values))}${values.length > 1 ? ` in ${past}` : ''}` : 'from the second answer on';
    return h('figure', {}, h('figcaption', {}, title, ' ', h('strong', {}, now)), plot(values, `${title}: now ${now}, ${peak}`), h('p', { class: 'dim' }, peak));
  };
  return h('div', { class: 'figures' },
    figure('Connections', samples.map(x => x.load.active), count),
    item.inBytes !== undefined && [figure('New connections', rates(samples, l => l.connections), v => `${decimal(v)}/s`),
    figure('From clients', rates(samples, inBytes), v => `${bytes(v)}/s`),
    figure('To clients', rates(samples, outBytes), v => `${bytes(v)}/s`)]);
}

const one = {
  title: params => `${params.namespace ?? 'default'}/${params.service}`,
  async load(ask, params) {
    const query = { namespace: params.namespace, service: params.service, loads: true };
    const [services, frontends, endpoints, drains] = await Promise.all([
      ask('services', query), ask('frontends', { ...query, limit: rows }), ask('endpoints', { ...query, limit: rows, skip: params.skip }), ask('drains', { ...query, limit: rows })]);
    return { services, frontends, endpoints, drains };
  },
  draw({ services, frontends, endpoints, drains }, params) {
    const item = services.items[0], time = services.time;
    const rest = (list, what) => list.total > list.items.length && h('p', { class: 'dim' }, `The first ${rows} of ${count(list.total)} ${what}.`);
    return [
      h('p', { class: 'lead' }, state(item)),
      h('p', {}, `${ratio(item.served, item.frontends)} frontends, ${ratio(item.ready, item.endpoints)} endpoints get new connections here`, item.created && `, ${span(since(item.created, time))} old`, '. ',
        h('a', { href: link('explain', { namespace: params.namespace, service: params.service }) }, 'Explain')),
      item.problems && h('section', { class: 'problems' }, h('h2', {}, 'Problems'), h('ul', {}, item.problems.slice(0, 20).map(p => h('li', {}, name(p))))),
      figures(item, time), uncounted(services),
      frontends.items.length && table('Frontends', frontendColumns(time, false), frontends.items), rest(frontends, 'frontends'),
      endpoints.items.length ? [table('Endpoints', endpointColumns(time), endpoints.items), pages('service', params, endpoints, 'endpoints')] : h('p', { class: 'nothing' }, 'It has no endpoints.'),
      drains.items.length && table('Draining endpoints', drainColumns(time, false), drains.items), rest(drains, 'draining endpoints')];
  },
};

// listed is a view of one list with pages.
const listed = (view, title, lead, caption, resource, query, columns, nothing) => ({
  title: () => title,
  load: (ask, params) => ask(resource, { limit: rows, loads: true, ...query, skip: params.skip }),
  draw: (list, params) => [h('p', {}, lead),
    list.items.length ? table(caption, columns(list.time), list.items) : h('p', { class: 'nothing' }, nothing),
    pages(view, params, list, 'Services')],
});

const drains = listed('drains', 'Drains', 'Endpoints that get no new connections, and keep those that they have. When no slice lists one any more, the drain limit ends them.',
  'Draining endpoints', 'drains', { only: 'Draining' }, time => drainColumns(time, true), 'No endpoint drains.');

const unserved = listed('unserved', 'Conflicts', 'Frontends that are not served: another Service or program has the address, the kernel refused it, or its family does not work here.',
  'Frontends', 'frontends', { only: 'Unserved' }, time => frontendColumns(time, true), 'Every frontend is served.');

const busiest = {
  title: () => 'Traffic',
  form: 'search',
  load: (ask, params) => ask('rates', { limit: rows, search: params.search, skip: params.skip }),
  draw(list, params) {
    if (list.uncounted) {
      return [uncounted(list), list.items.length > 0 && table('Services with connections', [
        { title: 'Service', cell: service }, { title: 'Connections', number: true, cell: active }], list.items), pages('traffic', params, list, 'Services')];
    }
    const most = Math.max(...list.items.map(x => x.inBytesPerSecond + x.outBytesPerSecond), 1);
    return [h('p', {}, 'The busiest Services first, between the last two times that the counters of IPVS were read.'),
      list.items.length ? table('Busiest Services', [
        { title: 'Service', cell: service },
        { title: 'Connections', number: true, cell: active },
        { title: 'New a second', number: true, cell: x => decimal(x.connectionsPerSecond) },
        { title: 'From clients', number: true, cell: x => `${bytes(x.inBytesPerSecond)}/s` },
        { title: 'To clients', number: true, cell: x => `${bytes(x.outBytesPerSecond)}/s` },
        { title: 'Share', cell: x => bar(x.inBytesPerSecond + x.outBytesPerSecond, most, 'beside the busiest') },
      ], list.items) : h('p', { class: 'nothing' }, 'No rates yet: they need two readings, four seconds apart.'),
      pages('traffic', params, list, 'Services')];
  },
};

const syncColumns = time => [
  { title: 'When', cell: x => ago(x.began, time) },
  { title: 'Took', number: true, cell: x => span(x.seconds) },
  { title: 'Services', number: true, optional: true, cell: x => x.services ? count(x.services) : '' },
  { title: 'Result', cell: x => [
    x.error ? h('span', { class: 'state NotServed' }, '✕ failed', x.times > 1 && ` ${count(x.times)} times`) : h('span', { class: 'state Served' }, '● programmed'),
    x.error && h('span', { class: 'reason' }, ' ', lines(x.error)),
    x.repaired && h('span', { class: 'reason' }, ` repaired: ${x.repaired.join(', ')}`)] },
];

const node = {
  title: () => 'Node',
  load: ask => ask('overview', {}),
  draw(list) {
    const n = list.items[0], time = list.time, room = n.conntrack;
    const refused = n.layers.filter(l => l.failing || l.error);
    return [
      h('p', { class: 'lead' }, h('span', { class: `state ${n.ready ? 'Served' : 'NotServed'}` }, n.ready ? '● Ready' : '✕ Not ready'), n.reason && h('span', { class: 'reason' }, ' ', name(n.reason))),
      h('p', {}, n.synced ? `Everything was last programmed ${ago(n.synced, time)}. ` : 'Not everything was programmed yet. ',
        n.waits ? `A change has waited for ${span(Math.max(since(n.waits, time), 0))}.` : 'No change waits.'),
      h('p', {}, `kube-ipvs ${n.version}, mode ${n.mode}, VIP mode ${n.vipMode}, started ${ago(n.started, time)}. Drain limit: ${n.drainLimit}.`),
      room && h('p', {}, `Connection tracking: ${count(room.entries)} of ${count(room.limit)} entries `, bar(room.entries, room.limit, 'entries in use')),
      n.problems && h('section', { class: 'problems' }, h('h2', {}, 'Problems of this node'), h('ul', {}, n.problems.map(p => h('li', {}, name(p))))),
      h('h2', {}, 'Refused by the kernel'),
      refused.length ? table('Kinds of objects with refused changes', [
        { title: 'Objects', cell: l => l.name }, { title: 'Refused', number: true, cell: l => count(l.failing) }, { title: 'First errors', cell: l => lines(l.error ?? '') }], refused)
        : h('p', { class: 'nothing' }, 'Nothing.'),
      h('h2', {}, 'External changes'),
      n.externalChanges.length ? table('Changes that others made to objects of kube-ipvs', [
        { title: 'Component', cell: c => c.component }, { title: 'Found', number: true, cell: c => count(c.found) }, { title: 'Repaired', number: true, cell: c => count(c.repaired) },
        { title: 'Last', cell: c => ago(c.last, time) }], n.externalChanges) : h('p', { class: 'nothing' }, 'None since kube-ipvs started.'),
      h('h2', {}, 'Syncs'),
      n.notable.length && table('Failed, or repaired something', syncColumns(time), n.notable),
      n.recent.length ? table('The last ones with work', syncColumns(time), n.recent) : h('p', { class: 'nothing' }, 'None yet.'),
      h('h2', {}, 'Kernel objects'),
      table('By kind', [
        { title: 'Objects', cell: l => l.name }, { title: 'Present', number: true, cell: l => count(l.present) },
        { title: 'Pending', number: true, cell: l => l.pending ? count(l.pending) : '' }, { title: 'Refused', number: true, cell: l => l.failing ? count(l.failing) : '' }], n.layers.filter(l => l.present || l.pending || l.failing))];
  },
};

const origins = { pod: 'a pod', node: 'this node', outside: 'outside' };

function outcome(w) {
  const ends = w.endpoints ?? [];
  if (w.outcome !== 'delivered' || !ends.length) return w.outcome;
  const chance = ends[0].chance && `, each ${ends[0].chance}`, kept = ends.filter(x => x.source === 'kept').length;
  return `delivered to one of ${count(ends.length)} endpoints${chance ?? ''}, source ${kept === ends.length ? 'kept' : kept ? 'kept or masqueraded' : 'masqueraded'}`;
}

const kinds = { delivered: 'Served', refused: 'Rejecting', dropped: 'Dropping', 'not served': 'NotServed' };

const way = w => h('section', { class: 'way' },
  h('h3', {}, `From ${w.from ? `${w.from} (${origins[w.origin] ?? w.origin})` : origins[w.origin] ?? w.origin}: `, h('span', { class: `state ${kinds[w.outcome] ?? ''}` }, outcome(w))),
  h('ol', {}, (w.steps ?? []).map(step => h('li', {}, name(step.text), step.command && h('code', { class: 'command' }, step.command)))),
  w.endpoints && table('May get the connection', [
    { title: 'Endpoint', cell: x => h('code', {}, x.address) }, { title: 'Pod', optional: true, cell: x => either(x.pod, '') }, { title: 'Node', optional: true, cell: x => either(x.node, '') },
    { title: 'Chance', optional: true, cell: x => x.chance ?? '' }, { title: 'Source', cell: x => x.source }], w.endpoints.slice(0, rows)));

const explain = {
  title: () => 'Explain',
  form: 'explain',
  load: async (ask, params) => params.to || params.service ? ask('explain', { limit: 10, ...params }) : undefined,
  once: true,
  draw(list) {
    if (!list) return h('p', {}, 'Tells what becomes of the first packet of a connection to an address, step by step, with the command that shows each step in the kernel.');
    return [list.items.map(x => h('article', {}, h('h2', {}, h('code', {}, x.address)),
      h('p', {}, x.service ? [`${x.kind} of `, owner(x.service), ' ', state(x)] : 'No Service has it.'),
      x.ways?.map(way) ?? [],
      x.others && table('Get no new connections', [
        { title: 'Endpoint', cell: o => h('code', {}, o.address) }, { title: 'Pod', optional: true, cell: o => either(o.pod, '') }, { title: 'Node', optional: true, cell: o => either(o.node, '') }, { title: 'Reason', cell: o => name(o.reason) }], x.others.slice(0, rows)),
      x.problems && h('ul', { class: 'problems' }, x.problems.slice(0, 20).map(p => h('li', {}, name(p)))))),
    list.total > list.items.length && h('p', { class: 'dim' }, `The first ${list.items.length} of ${count(list.total)} frontends.`),
    h('p', { class: 'dim' }, 'As kube-ipvs has programmed it. Network policies and rules of others come on top.')];
  },
};

export const views = { '': services, service: one, traffic: busiest, drains, unserved, node, explain };
