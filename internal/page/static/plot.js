// Plots of numbers that are asked for again and again. Their past is kept by this page alone, from its opening on.
import { s } from './dom.js';

const kept = 60; // samples of a series
const most = 1000; // series; the one that was not added to for longest goes first

const all = new Map(); // of a key: [{time, load}]

// add notes the load of an item at a time, and returns its samples.
export function add(key, time, load) {
  const samples = all.get(key) ?? [];
  all.delete(key);
  all.set(key, samples);
  if (!(Date.parse(time) - Date.parse(samples.at(-1)?.time) < 1000)) samples.push({ time, load }); // two lists may have the same item
  if (samples.length > kept) samples.shift();
  if (all.size > most) all.delete(all.keys().next().value);
  return samples;
}

// rates returns the increases of a counter in a second, without times when it was not there, and without the first one afterwards, which
// may have all that was not counted meanwhile. Nor is there one where it became less: it is a sum, and one of its parts went or began anew.
export function rates(samples, counter) {
  const out = [], values = samples.map(x => counter(x.load)), isThere = i => i < 0 || Number.isFinite(values[i]);
  for (let i = 1; i < samples.length; i++) {
    const [a, b] = [samples[i - 1], samples[i]], [was, now] = [values[i - 1], values[i]];
    if (!isThere(i - 2) || !isThere(i - 1) || !isThere(i) || now < was) continue;
    out.push((now - was) / Math.max((Date.parse(b.time) - Date.parse(a.time)) / 1000, 0.001));
  }
  return out;
}

// plot returns a line of values over time, the last one at the right; label is its text for those who do not see it.
export function plot(values, label, width = 240, height = 56) {
  const top = Math.max(...values, 1e-9), step = width / Math.max(values.length - 1, 14); // a short past is not stretched over all
  const x = i => (width - (values.length - 1 - i) * step).toFixed(1), y = v => (height - 2 - v / top * (height - 6)).toFixed(1);
  const line = values.map((v, i) => `${i ? 'L' : 'M'}${x(i)} ${y(v)}`).join('');
  return s('svg', { class: 'plot', viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-label': label, preserveAspectRatio: 'none' },
    s('path', { class: 'base', d: `M0 ${height - 2}H${width}` }),
    values.length > 1 && s('path', { class: 'area', d: `${line}L${width} ${height - 2}L${x(0)} ${height - 2}Z` }),
    values.length > 0 && s('path', { class: 'line', d: values.length > 1 ? line : `M${x(0) - step / 2} ${y(values[0])}H${width}` }));
}

// bar returns a part of a whole.
export function bar(part, whole, label) {
  const width = whole > 0 ? Math.min(part / whole, 1) * 100 : 0;
  return s('svg', { class: 'bar', viewBox: '0 0 100 8', width: 100, height: 8, role: 'img', 'aria-label': label, preserveAspectRatio: 'none' },
    s('rect', { class: 'base', width: 100, height: 8 }), s('rect', { class: 'part', width: width.toFixed(1), height: 8 }));
}
