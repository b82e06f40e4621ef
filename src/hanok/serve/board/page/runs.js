// The list of runs with their figures, and what a model said.

const cards = new Map();

function card(run, changed) {
  const item = make("li", "run"), label = make("label"), box = make("input");
  box.type = "checkbox";
  box.addEventListener("change", () => { run.shown = box.checked; changed(); });
  const parts = { item, box, name: make("span", "name", run.name), badge: make("span"), facts: make("span", "facts"), bar: make("progress"), run };
  label.append(box, parts.name, parts.badge, parts.facts, parts.bar);
  item.append(label);
  return parts;
}

function listRuns(changed) {
  const order = { live: 0, stopped: 1, done: 2 };
  const sorted = [...runs.values()].sort((a, b) => order[a.state] - order[b.state] || (a.name < b.name ? -1 : 1));
  for (const [name, parts] of cards) {
    if (runs.get(name) !== parts.run) {
      parts.item.remove();
      cards.delete(name);
    }
  }
  for (const run of sorted) {
    if (!cards.has(run.name)) cards.set(run.name, card(run, changed));
    fill(cards.get(run.name), run);
  }
  const items = sorted.map(run => cards.get(run.name).item), list = $("runs");
  // Moved only where the order changed: whoever is on a box with the keyboard stays there.
  items.forEach((item, at) => { if (list.children[at] !== item) list.insertBefore(item, list.children[at] || null); });
  $("all").textContent = sorted.every(run => run.shown) ? words.none : words.all;
}

function fill({ item, box, badge, facts, bar }, run) {
  const { step, max_steps: all, loss, memory_bytes: memory, skipped, tokens_per_second: speed, mfu } = run.last;
  item.className = `run c${run.colour % 7}${run.shown ? "" : " off"}`;
  box.checked = run.shown;
  badge.className = `badge ${run.state}`;
  badge.textContent = words[run.state];
  const left = run.left();
  const texts = [
    step === undefined ? words.noData : `${words.at} ${step.toLocaleString()}${all ? ` / ${all.toLocaleString()}` : ""}`,
    loss === undefined ? "" : `loss ${short(loss)}`, speed ? `${short(speed)} tok/s` : "", mfu ? `MFU ${percent(mfu)}` : "",
    memory ? bytes(memory) : "", skipped ? `${words.n.skipped} ${skipped}` : "", left === null ? "" : `${clock(left)} ${words.left}`,
  ];
  const text = texts.filter(Boolean).map(part => part.replaceAll(" ", "\u00a0")).join("\u00a0· ");
  if (facts.textContent !== text) facts.textContent = text;
  bar.hidden = !all;
  if (all) {
    bar.max = all;
    bar.value = step;
    bar.setAttribute("aria-label", `${run.name} ${percent(step / all)}`);
  }
}

const text = value => (typeof value === "string" ? value : JSON.stringify(value));
function spoken(value) {
  return Array.isArray(value) ? value.map(turn => text(turn?.content ?? turn)).join("\n") : text(value);
}

function listSamples() {
  const speaking = [...runs.values()].filter(run => run.samples.length);
  $("samples").hidden = !speaking.length;
  if (!speaking.length) return;
  const select = $("speaker"), names = speaking.map(run => run.name);
  if ([...select.options].map(option => option.value).join("\n") !== names.join("\n")) {
    const chosen = select.value;
    select.replaceChildren(...names.map(name => { const option = make("option", "", name); option.value = name; return option; }));
    if (names.includes(chosen)) select.value = chosen;
  }
  const run = runs.get(select.value);
  const key = `${run.name} ${run.samples.length} ${JSON.stringify(run.samples.at(-1))} ${document.documentElement.lang}`;
  if ($("said").dataset.key === key) return;
  $("said").dataset.key = key;
  $("said").replaceChildren(...run.samples.slice(-12).reverse().map(sampleNode));
}

function sampleNode(sample) {
  const node = make("li", "sample"), top = make("div", "top");
  const { step, prompt, completion, text: whole, ...rest } = sample;
  top.append(make("span", "", `${words.at} ${step ?? "–"}`));
  for (const [name, value] of Object.entries(rest)) {
    if (["number", "string"].includes(typeof value)) top.append(make("span", "", `${name} ${typeof value === "number" ? short(value) : value}`));
  }
  node.append(top);
  if (prompt !== undefined) node.append(make("p", "asked", spoken(prompt)));
  const said = completion ?? whole;
  if (said !== undefined) node.append(make("p", "", spoken(said)));
  return node;
}
