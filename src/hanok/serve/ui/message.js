// One message on the page: its text, what can be done with it, and its place among its versions.

function bodyOf(node) {
  const body = el("div", { class: "body" });
  if (node.role === "tool") body.append(el("details", { class: "tool" }, el("summary", {}, t("resultOf")(node.name || "")), el("pre", { tabindex: "0" }, node.content)));
  else if (node.role === "user") body.textContent = node.content;
  else fillAnswer(body, node);
  return body;
}

function fillAnswer(body, node) {
  const spelt = parted(node.content);
  const thought = node.thought || spelt.thought;
  const text = node.thought ? node.content : spelt.answer;
  const open = node.thought ? !node.content && !node.calls : spelt.open;
  const unfolded = body.querySelector("details")?.open;
  const parts = [];
  const coloured = settings.probabilities && node.logprobs?.length;
  if (thought && !coloured) {
    const going = open && node.live;
    const fold = el("details", { class: going ? "think open" : "think" },
      el("summary", {}, going ? t("thinking") : t("thought")), el("div", {}, thought));
    fold.open = unfolded ?? false;
    parts.push(fold);
  }
  if (coloured) parts.push(tokenView(node.logprobs));
  else if (text) parts.push(markdown(text));
  else if (node.live && !thought) parts.push(el("span", { class: "waiting" }, el("i"), el("i"), el("i")));
  else if (!node.live && !node.wrong && !thought && !node.calls) parts.push(el("p", { class: "empty" }, t("noAnswer")));
  if (node.calls) parts.push(...callsOf(node));
  if (node.wrong) parts.push(el("p", { class: "wrong" }, node.wrong));
  body.replaceChildren(...parts);
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

// The tools that a message calls, and, where it is the last one, a box for what each gave back.
function callsOf(node) {
  const waiting = !node.live && chat.leaf === node.id;
  const boxes = [];
  const cards = node.calls.map(call => {
    const card = el("div", { class: "tool" }, el("b", {}, t("called")(call.name)), el("pre", { tabindex: "0" }, pretty(call.arguments)));
    if (waiting) {
      boxes.push(el("textarea", { class: "edit", rows: "2", placeholder: t("result"), "aria-label": t("resultOf")(call.name) }));
      card.append(boxes[boxes.length - 1]);
    }
    return card;
  });
  if (!waiting) return cards;
  const send = () => { if (!busy()) submitResults(node, boxes.map(box => box.value)); };
  boxes.forEach(box => sendOnEnter(box, send));
  return [...cards, el("div", { class: "edit-foot" }, el("button", { class: "solid", type: "button", onclick: send }, t("sendResult")))];
}

function branchOf(node) {
  const all = siblings(node);
  if (all.length < 2) return null;
  const at = all.indexOf(node);
  const go = step => { switchTo(all[at + step]); draw(); };
  const left = iconButton("left", t("previous"), () => go(-1));
  const right = iconButton("right", t("next"), () => go(1));
  left.disabled = busy() || at === 0;
  right.disabled = busy() || at === all.length - 1;
  return el("span", { class: "branch" }, left, `${at + 1} / ${all.length}`, right);
}

function statsOf(node) {
  const parts = [];
  if (node.count) parts.push(t("tokens")(node.count));
  if (node.rate) parts.push(t("rate")(node.rate));
  if (node.reason === "length") parts.push(t("length"));
  if (node.reason === "stopped") parts.push(t("stopped"));
  return parts.length ? el("span", { class: "stats" }, parts.join(" · ")) : null;
}

function actsOf(node) {
  const acts = el("div", { class: "acts" });
  if (node.live) return acts;
  const copy = iconButton("copy", t("copy"), () => copyText(node.content, copy));
  if (node.content) acts.append(copy);
  if (node.role === "user") {
    const edit = iconButton("edit", t("edit"), () => editMessage(node));
    edit.disabled = busy();
    acts.append(edit);
  } else if (node.role === "assistant") {
    const again = iconButton("again", t("again"), () => regenerate(node));
    again.disabled = busy();
    acts.append(again);
  }
  const branch = branchOf(node);
  if (branch) {
    acts.append(branch);
    acts.classList.add("stay");
  }
  const stats = statsOf(node);
  if (stats) acts.append(stats);
  return acts;
}

function view(node) {
  const label = t({ user: "you", tool: "toolResult" }[node.role] || "assistant");
  return el("article", { class: `turn ${node.role}`, "data-node": node.id, "aria-label": label }, bodyOf(node), actsOf(node));
}

// Turn a message of one's own into a box; sending it starts a new branch and keeps the old one.
function editMessage(node) {
  const turn = document.querySelector(`[data-node="${node.id}"]`);
  const area = el("textarea", { class: "edit", rows: "3", "aria-label": t("edit") });
  area.value = node.content;
  const send = () => {
    if (area.value.trim() && !busy()) submit(area.value, node.parent);
  };
  const foot = el("div", { class: "edit-foot" },
    el("button", { class: "quiet", type: "button", onclick: draw }, t("cancel")),
    el("button", { class: "solid", type: "button", onclick: send }, t("save")));
  turn.classList.add("editing");
  turn.querySelector(".body").replaceChildren(area, foot);
  turn.querySelector(".acts").replaceChildren();
  area.addEventListener("keydown", event => { if (event.key === "Escape") { event.stopPropagation(); draw(); } });
  sendOnEnter(area, send);
  area.focus();
  area.setSelectionRange(area.value.length, area.value.length);
}
