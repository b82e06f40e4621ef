// Numbers as people read them, ticks, smoothing, and as many points as a screen can show.

const PREFIX = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
function short(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 10000) {
    const [unit, letter] = PREFIX.find(([least]) => size >= least);
    return `${trim((value / unit).toPrecision(3))} ${letter}`;
  }
  if (size < 0.001) return value.toExponential(1).replace("e-", "e−");
  return trim(size >= 1000 ? value.toFixed(0) : value.toPrecision(4));
}
const trim = text => (text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text);
const bytes = value => (value >= 2 ** 30 ? `${trim((value / 2 ** 30).toPrecision(3))} GiB` : `${Math.round(value / 2 ** 20)} MiB`);
const percent = value => `${trim((100 * value).toPrecision(3))} %`;
function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return (parts[0] ? parts : parts.slice(1)).map((part, at) => (at ? String(part).padStart(2, "0") : part)).join(":");
}
const FORMATS = { memory_bytes: bytes, mfu: percent, seconds: clock, mean_token_accuracy: percent };
const formatOf = name => FORMATS[name] || short;

// Round values between two ends: about `most` of them, and two at least.
function ticks(low, high, most) {
  const out = [];
  for (let parts = most; out.length < 2 && parts < most + 4; parts++) {
    const rough = (high - low) / parts;
    const unit = 10 ** Math.floor(Math.log10(rough));
    const step = unit * ([1, 2, 5].find(factor => factor * unit >= rough * 0.999) || 10);
    out.length = 0;
    for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) out.push(at * step);
  }
  return out;
}

function byteTicks(low, high, most) {
  const unit = high >= 2 ** 30 ? 2 ** 30 : 2 ** 20;
  return ticks(low / unit, high / unit, most).map(value => value * unit);
}

function logTicks(low, high, most) {
  const out = [];
  for (const factors of [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]]) {
    out.length = 0;
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const factor of factors) {
        const value = factor * 10 ** power;
        if (value >= low * 0.999 && value <= high * 1.001) out.push(value);
      }
    }
    if (out.length <= most) break;
  }
  if (out.length > most) return out.filter((_, at) => at % Math.ceil(out.length / most) === 0);
  return out.length >= 2 ? out : ticks(low, high, most).filter(value => value > 0);
}

// The exponential moving average, corrected for its start as Adam's is.
function smooth(y, share) {
  if (share === 0) return y;
  let total = 0, weight = 0;
  return y.map(value => {
    total = share * total + (1 - share) * value;
    weight = share * weight + (1 - share);
    return total / weight;
  });
}

// The lowest and the highest point of each column, in their order: a spike one step wide stays visible.
function thin(points, width) {
  if (points.length <= 2 * width) return points;
  const out = [], first = points[0][0], span = points[points.length - 1][0] - first || 1;
  for (let at = 0; at < points.length;) {
    const column = Math.floor(((points[at][0] - first) / span) * width);
    let low = at, high = at, end = at;
    while (end < points.length && Math.floor(((points[end][0] - first) / span) * width) === column) {
      if (points[end][1] < points[low][1]) low = end;
      if (points[end][1] > points[high][1]) high = end;
      end++;
    }
    out.push(points[Math.min(low, high)]);
    if (low !== high) out.push(points[Math.max(low, high)]);
    at = end;
  }
  return out;
}
