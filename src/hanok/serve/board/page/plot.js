// One chart: SVG curves of one figure (or of several of one family) over all runs that are shown.

const NS = "http://www.w3.org/2000/svg";
const DASHES = ["", "7 4", "2 4", "9 3 2 3"];
function draw(parent, tag, attributes, text) {
  const node = document.createElementNS(NS, tag);
  for (const name in attributes) node.setAttribute(name, attributes[name]);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

class Chart {
  // `names(run)`: which of a run's figures belong here. `options`: smooth, log, points, wide, whole.
  constructor(key, names, options = {}) {
    Object.assign(this, { key, names, options, cursor: null, curves: [] });
    this.format = formatOf(key);
    this.node = make("figure", options.wide ? "chart wide" : "chart");
    this.node.dataset.key = key;
    const caption = make("figcaption");
    this.title = make("h3");
    caption.append(this.title);
    this.svg = document.createElementNS(NS, "svg");
    this.svg.setAttribute("class", "plot");
    this.svg.setAttribute("role", "img");
    this.svg.setAttribute("tabindex", "0");
    this.read = make("div", "read");
    this.read.setAttribute("aria-live", "polite");
    this.details = make("details");
    this.summary = make("summary");
    this.table = make("div", "table");
    this.details.append(this.summary, this.table);
    this.details.addEventListener("toggle", () => this.tabulate());
    this.node.append(caption, this.svg, this.read, this.details);
    this.svg.addEventListener("pointermove", event => this.point(event));
    this.svg.addEventListener("pointerdown", event => this.point(event));
    this.svg.addEventListener("pointerleave", event => event.pointerType === "mouse" && this.move(null));
    this.svg.addEventListener("keydown", event => this.key_(event));
    this.svg.addEventListener("blur", () => this.move(null));
  }

  collect(dials) {
    this.curves = [];
    for (const run of shown()) {
      this.names(run).forEach((name, place) => {
        let [x, y] = run.series(name, dials.across);
        if (this.logarithmic(dials)) {
          const keepers = y.map(value => value > 0);
          x = x.filter((_, at) => keepers[at]);
          y = y.filter((_, at) => keepers[at]);
        }
        if (!y.length) return;
        const fine = this.options.smooth && dials.smoothing > 0;
        const label = name === this.key ? run.name : `${run.name} ${name}`;
        this.curves.push({ run, name, label, place, x, raw: y, y: fine ? smooth(y, dials.smoothing) : y, fine });
      });
    }
    return this.curves.length > 0;
  }

  logarithmic(dials) { return Boolean(this.options.log && dials.log); }

  update(dials) {
    this.node.hidden = !this.collect(dials);
    if (this.node.hidden) return;
    this.title.textContent = titleOf(this.key);
    this.summary.textContent = words.table;
    this.dials = dials;
    this.paint();
    this.tabulate();
    const facts = this.curves.map(curve => words.fact(curve.label, ...this.facts(curve).slice(1)));
    this.svg.setAttribute("aria-label", words.chart(titleOf(this.key), facts.join(" ")));
  }

  facts({ raw }) {
    let low = Infinity, high = -Infinity;
    for (const value of raw) { low = Math.min(low, value); high = Math.max(high, value); }
    return [raw[0], raw[raw.length - 1], low, high].map(this.format);
  }

  // The range of what is drawn. A spike or the first steps of a faint raw curve do not squeeze the smooth one.
  range() {
    let left = Infinity, right = -Infinity, low = Infinity, high = -Infinity;
    for (const { x, y, raw, fine } of this.curves) {
      left = Math.min(left, x[0]);
      right = Math.max(right, x[x.length - 1]);
      for (const value of y) { low = Math.min(low, value); high = Math.max(high, value); }
      if (fine) {
        const sorted = [...raw].sort((a, b) => a - b);
        low = Math.min(low, sorted[Math.floor(0.01 * sorted.length)]);
        high = Math.max(high, sorted[Math.floor(0.99 * (sorted.length - 1))]);
      }
    }
    if (this.options.whole) { low = Math.min(0, low); high = Math.max(1, high); }
    // What differs by rounding alone (a constant, averaged) is one value.
    if (high - low <= 1e-9 * Math.max(Math.abs(low), Math.abs(high))) {
      const pad = Math.abs(low) * 0.1 || 1;
      low -= pad;
      high += pad;
    }
    if (left === right) { left -= left > 0 ? 1 : 0; right += 1; }
    return { left, right, low, high };
  }

  paint() {
    const width = this.svg.clientWidth || 360, height = this.svg.clientHeight || 210;
    const { left, right, low, high } = this.range();
    const log = this.logarithmic(this.dials);
    const up = log ? Math.log : value => value;
    const margin = (up(high) - up(low)) * 0.04;
    const marks = log ? logTicks(low, high, 7) : (this.key === "memory_bytes" ? byteTicks : ticks)(low, high, 5);
    const labels = marks.map(this.format);
    const inset = 10 + 6.4 * Math.max(3, ...labels.map(label => label.length));
    const box = { left: inset, right: width - 8, top: 10, bottom: height - 22 };
    const px = value => box.left + ((value - left) / (right - left)) * (box.right - box.left);
    const py = value => box.bottom - ((up(value) - up(low) + margin) / (up(high) - up(low) + 2 * margin)) * (box.bottom - box.top);
    Object.assign(this, { box, px, py });
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren();
    marks.forEach((value, at) => {
      if (!this.options.whole || Number.isInteger(value)) {
        draw(this.svg, "line", { class: "grid", x1: box.left, x2: box.right, y1: py(value), y2: py(value) });
        draw(this.svg, "text", { x: box.left - 6, y: py(value) + 4, "text-anchor": "end" }, labels[at]);
      }
    });
    const across = this.dials.across === "seconds" ? clock : short;
    for (const value of ticks(left, right, Math.max(2, Math.floor(width / 95)))) {
      const edge = px(value) > box.right - 14 ? "end" : "middle";
      draw(this.svg, "text", { x: Math.min(px(value), width - 2), y: height - 5, "text-anchor": edge }, across(value));
    }
    const clip = `clip-${this.key.replace(/[^a-z0-9]/gi, "-")}`;
    draw(draw(this.svg, "clipPath", { id: clip }), "rect", { x: box.left, y: box.top - 6, width: box.right - box.left, height: box.bottom - box.top + 12 });
    const inside = draw(this.svg, "g", { "clip-path": `url(#${clip})` });
    for (const curve of this.curves) if (curve.fine) this.curve(inside, curve, curve.raw, "curve raw");
    for (const curve of this.curves) this.curve(inside, curve, curve.y, "curve");
    this.pins = draw(this.svg, "g", {});
    this.pin();
  }

  curve(parent, { run, x, place }, y, className) {
    const points = thin(x.map((value, at) => [this.px(value), this.py(y[at])]), Math.ceil(this.box.right - this.box.left));
    const dash = DASHES[(Math.floor(run.colour / 7) + place) % DASHES.length];
    const path = points.map(([a, b], at) => `${at ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("");
    draw(parent, "path", { class: `${className} c${run.colour % 7}`, d: path, "stroke-dasharray": dash });
    if (points.length === 1 || (this.options.points && points.length < 40)) {
      for (const [a, b] of points) draw(parent, "circle", { class: `dot2 c${run.colour % 7}`, cx: a, cy: b, r: 2.6 });
    }
  }

  // Where the reader is: a place on the horizontal axis, or null for the newest point of each curve.
  move(cursor) {
    if (this.cursor === cursor) return;
    this.cursor = cursor;
    this.pin();
  }

  point(event) {
    const left = this.svg.getBoundingClientRect().left;
    const place = Math.max(this.box.left, Math.min(this.box.right, event.clientX - left));
    let best = null;
    for (const { x } of this.curves) {
      for (const value of [x[nearest(x, v => this.px(v) < place)], x[Math.max(0, nearest(x, v => this.px(v) < place) - 1)]]) {
        if (best === null || Math.abs(this.px(value) - place) < Math.abs(this.px(best) - place)) best = value;
      }
    }
    this.move(best);
  }

  key_(event) {
    const all = [...new Set(this.curves.flatMap(curve => curve.x))].sort((a, b) => a - b);
    const at = this.cursor === null ? all.length - 1 : nearest(all, value => value < this.cursor);
    const jump = event.shiftKey ? Math.max(1, Math.round(all.length / 20)) : 1;
    const to = { ArrowLeft: at - jump, ArrowRight: at + jump, Home: 0, End: all.length - 1 }[event.key];
    if (event.key === "Escape") this.move(null);
    else if (to === undefined) return;
    else this.move(all[Math.max(0, Math.min(all.length - 1, to))]);
    event.preventDefault();
  }

  pin() {
    this.pins.replaceChildren();
    this.read.replaceChildren();
    const at = this.cursor;
    if (at !== null) {
      draw(this.pins, "line", { class: "rule", x1: this.px(at), x2: this.px(at), y1: this.box.top, y2: this.box.bottom });
      const where = this.dials.across === "seconds" ? clock(at) : short(at);
      this.read.append(make("span", "", `${this.dials.across === "step" ? words.at : titleOf(this.dials.across)} ${where}`));
    }
    for (const { run, label, x, y } of this.curves) {
      let place = at === null ? x.length - 1 : nearest(x, value => value < at);
      if (place > 0 && at !== null && (place === x.length || Math.abs(x[place - 1] - at) < Math.abs(x[place] - at))) place--;
      const outside = at !== null && (at < x[0] || at > x[x.length - 1]); // not begun yet, or ended before
      const item = make("span", `c${run.colour % 7}`);
      item.append(make("i"), this.curves.length > 1 ? `${label} ` : "", make("b", "", outside ? "–" : this.format(y[place])));
      item.title = label;
      this.read.append(item);
      if (at !== null && !outside) draw(this.pins, "circle", { class: `dot1 c${run.colour % 7}`, cx: this.px(x[place]), cy: this.py(y[place]), r: 3.5 });
    }
  }

  tabulate() {
    if (!this.details.open) return;
    const table = make("table"), head = make("tr");
    for (const word of ["run", "first", "last", "least", "most"]) head.append(make("th", "", words[word]));
    table.append(head);
    for (const curve of this.curves) {
      const row = make("tr"), name = make("th", "", curve.label);
      name.scope = "row";
      row.append(name, ...this.facts(curve).map(value => make("td", "", value)));
      table.append(row);
    }
    this.table.replaceChildren(table);
  }
}

// The first place of an ordered list where `before` no longer holds, at most its last.
function nearest(list, before) {
  let low = 0, high = list.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (before(list[middle])) low = middle + 1;
    else high = middle;
  }
  return low;
}
