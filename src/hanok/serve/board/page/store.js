// The runs as the server tells them.

const MOST = 16000; // points of a run; beyond, every other one of the older half goes
const runs = new Map();
let ready = false;

// A loss may be missing where it was no number; the point is then left out of the curve, not drawn as zero.
class Run {
  constructor(name) {
    this.name = name;
    this.shown = true;
    this.colour = free();
    this.clear();
  }

  clear() {
    this.records = [];
    this.samples = [];
    this.names = new Set();
    this.last = {};
  }

  add(records, samples) {
    for (const record of records) {
      // A validation has no time of its own: it belongs to the step before it.
      for (const axis of ["seconds", "num_tokens"]) if (record[axis] === undefined) record[axis] = this.last[axis] ?? 0;
      this.records.push(record);
      for (const name in record) {
        if (record[name] !== null) {
          this.names.add(name);
          this.last[name] = record[name];
        }
      }
      if (record.loss !== undefined) this.step = record;
    }
    if (this.records.length > MOST) {
      const half = this.records.length >> 1;
      this.records = this.records.filter((record, at) => at >= half || at % 2 === 0 || record.loss == null);
    }
    this.samples = this.samples.concat(samples).slice(-200);
    this.cache = new Map();
  }

  // [x, y] of a figure; the cache lives until the next record.
  series(name, across) {
    const key = `${name} ${across}`;
    if (!this.cache.has(key)) {
      const x = [], y = [];
      for (const record of this.records) {
        const value = record[name];
        if (value === undefined || value === null) continue;
        x.push(record[across] ?? record.step);
        y.push(value);
      }
      this.cache.set(key, [x, y]);
    }
    return this.cache.get(key);
  }

  // Seconds to go, from the usual time of the last steps; null where the number of steps is not known.
  left() {
    const { step, max_steps: all } = this.last;
    const times = this.records.slice(-60).map(record => record.step_time).filter(value => value > 0).sort((a, b) => a - b);
    if (!all || !times.length || this.state !== "live") return null;
    return times[times.length >> 1] * (all - step);
  }
}

function free() {
  const taken = [...runs.values()].map(run => run.colour);
  let colour = 0;
  while (taken.includes(colour)) colour++;
  return colour;
}

function take(event) {
  if (event.ready) {
    ready = true;
  } else if (event.gone !== undefined) {
    runs.delete(event.gone);
  } else {
    let run = runs.get(event.run);
    if (!run) runs.set(event.run, run = new Run(event.run));
    if (event.reset) run.clear();
    run.state = event.state;
    run.add(event.records, event.samples);
  }
}

// A new connection tells everything anew, so that nothing is missing and nothing is there twice.
function listen(changed, connection) {
  const stream = new EventSource("events");
  let fresh = new Set();
  stream.onopen = () => { fresh = new Set(); connection(true); };
  stream.onerror = () => connection(false);
  stream.onmessage = message => {
    const event = JSON.parse(message.data);
    if (event.run !== undefined) fresh.add(event.run);
    if (event.ready) for (const name of [...runs.keys()]) if (!fresh.has(name)) runs.delete(name);
    take(event);
    changed();
  };
}
const shown = () => [...runs.values()].filter(run => run.shown);
