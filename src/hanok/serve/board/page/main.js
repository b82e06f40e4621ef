// What is drawn, and when.

const one = name => run => (run.names.has(name) ? [name] : []);
const validation = name => name.startsWith("val/") || name.startsWith("valid/");
const CHARTS = [
  new Chart("loss", one("loss"), { smooth: true, log: true, wide: true }),
  new Chart("val", run => [...run.names].filter(name => validation(name)), { log: true, points: true, wide: true }),
  new Chart("learning_rate", one("learning_rate")),
  new Chart("grad_norm", one("grad_norm"), { smooth: true, log: true }),
  new Chart("tokens_per_second", one("tokens_per_second"), { smooth: true }),
  new Chart("mfu", one("mfu"), { smooth: true }),
  new Chart("memory_bytes", one("memory_bytes")),
  new Chart("skipped", one("skipped"), { whole: true }),
];
const USED = new Set([...CHARTS.map(chart => chart.key), "step", "max_steps", "seconds", "num_tokens"]);
const others = new Map();
const dials = { smoothing: kept.smoothing ?? 0.6, log: kept.log ?? false, across: kept.across ?? "step" };

function drawAll() {
  if (ready) $("empty").hidden = runs.size > 0;
  $("dials").hidden = runs.size === 0;
  for (const chart of CHARTS) chart.update(dials);
  const names = new Set(shown().flatMap(run => [...run.names]).filter(name => !USED.has(name) && !validation(name)));
  for (const name of [...names].sort()) {
    if (!others.has(name)) {
      others.set(name, new Chart(name, one(name), { smooth: true }));
      $("others").append(others.get(name).node);
    }
  }
  $("more").hidden = names.size === 0;
  if ($("more").open) for (const chart of others.values()) chart.update(dials);
  listRuns(again);
  listSamples();
}

// However fast records come, at most one drawing in a quarter of a second, and none while the page is hidden.
let waiting = false;
function again() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    if (ready) drawAll();
    setTimeout(() => { if (waiting) { waiting = false; if (dirty) { dirty = false; again(); } } }, 250);
  });
}
let dirty = false;
function changed() {
  if (waiting) dirty = true;
  else again();
}
function now() {
  if (ready) drawAll();
}

function connection(up) {
  $("dot").className = `dot ${up ? "live" : "down"}`;
  $("state").dataset.t = up ? "connected" : "lost";
  $("state").textContent = words[$("state").dataset.t];
}

for (const chart of CHARTS) {
  $("charts").append(chart.node);
  chart.node.hidden = true;
}
$("roots").textContent = FACTS.roots.join(", ");
if (kept.theme) document.documentElement.dataset.theme = kept.theme;
say(kept.lang || ((navigator.language || "en").startsWith("ko") ? "ko" : "en"));
$("state").textContent = words.reading;
$("smoothing").value = dials.smoothing;
$("smoothed").textContent = Number(dials.smoothing).toFixed(2);
$("log").checked = dials.log;
$("across").value = dials.across;
$("dials").hidden = true;

$("dials").addEventListener("submit", event => event.preventDefault());
$("dials").addEventListener("input", () => {
  Object.assign(dials, { smoothing: Number($("smoothing").value), log: $("log").checked, across: $("across").value });
  $("smoothed").textContent = dials.smoothing.toFixed(2);
  for (const name in dials) keep(name, dials[name]);
  for (const chart of [...CHARTS, ...others.values()]) chart.cursor = null;
  now();
});
$("all").addEventListener("click", () => {
  const every = [...runs.values()].every(run => run.shown);
  for (const run of runs.values()) run.shown = !every;
  now();
});
$("lang").addEventListener("click", () => {
  keep("lang", document.documentElement.lang === "ko" ? "en" : "ko");
  say(kept.lang);
  now();
});
$("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark"
    || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  keep("theme", dark ? "light" : "dark");
  document.documentElement.dataset.theme = kept.theme;
});
$("more").addEventListener("toggle", now);
$("speaker").addEventListener("change", now);
addEventListener("resize", changed);
listen(changed, connection);
