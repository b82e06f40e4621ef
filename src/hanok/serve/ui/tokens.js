// Token probabilities: each token coloured by how sure the model was, with its rivals on hover or tap.

const utf8 = bytes => {
  try { return new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(bytes)); } catch { return null; }
};

// Tokens may end in the middle of a character (most Korean syllables are three bytes): join those until they read.
function readable(entries) {
  const groups = [];
  let open = [];
  for (const entry of entries) {
    open.push(entry);
    const text = utf8(open.flatMap(one => one.bytes));
    if (text !== null || open.length > 4) {
      groups.push({ text: text ?? "\u2423", entries: open, logprob: open.reduce((sum, one) => sum + one.logprob, 0) });
      open = [];
    }
  }
  return groups;
}

function shade(probability) {
  if (probability > 0.9) return "p0";
  if (probability > 0.6) return "p1";
  if (probability > 0.3) return "p2";
  return probability > 0.1 ? "p3" : "p4";
}

function tokenView(entries) {
  const root = el("div", { class: "tokens" });
  for (const group of readable(entries)) {
    const span = el("span", { class: `tok ${shade(Math.exp(group.logprob))}`, tabindex: "-1" }, group.text);
    for (const name of ["mouseenter", "focus", "click"]) span.addEventListener(name, () => showTip(span, group));
    for (const name of ["mouseleave", "blur"]) span.addEventListener(name, hideTip);
    root.append(span);
  }
  return root;
}

const percent = logprob => `${(100 * Math.exp(logprob)).toFixed(Math.exp(logprob) < 0.0995 ? 2 : 1)} %`;

// A token's bytes as text; what is only a part of a character becomes a shaded block.
function visible(bytes) {
  const text = new TextDecoder().decode(new Uint8Array(bytes)).replace(/\ufffd+/g, "\u2592");
  return text.replace(/ /g, "\u00b7").replace(/\n/g, "\u23ce").replace(/\t/g, "\u21e5") || "\u2205";
}

function tipRow({ bytes, logprob }, chosen, first) {
  const bar = el("i", { class: "tip-bar" });
  bar.style.width = `${100 * Math.exp(logprob)}%`;
  return el("div", { class: `tip-row${chosen ? " chosen" : ""}${first ? " first" : ""}` }, bar,
    el("span", {}, visible(bytes)), el("span", {}, percent(logprob)));
}

function showTip(span, group) {
  const tip = $("tip");
  tip.replaceChildren();
  for (const entry of group.entries) {
    const rivals = entry.top_logprobs || [];
    const known = rivals.some(one => String(one.bytes) === String(entry.bytes));
    const rows = known ? rivals : [entry, ...rivals];
    tip.append(...rows.map((one, at) => tipRow(one, String(one.bytes) === String(entry.bytes), at === 0)));
  }
  tip.hidden = false;
  const place = span.getBoundingClientRect();
  const left = Math.max(8, Math.min(place.left, innerWidth - tip.offsetWidth - 8));
  const below = place.bottom + 8 + tip.offsetHeight < innerHeight;
  tip.style.left = `${left}px`;
  tip.style.top = `${below ? place.bottom + 8 : Math.max(8, place.top - tip.offsetHeight - 8)}px`;
}

function hideTip() {
  $("tip").hidden = true;
}
