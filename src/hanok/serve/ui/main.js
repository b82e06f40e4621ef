// The conversation as it goes on: asking, streaming, stopping, drawing.

let running = null; // {node, control} while an answer comes in
let used = 0; // tokens of context that the last exchange took

const busy = () => running !== null;

function say(kind, text) {
  $("dot").className = `dot ${kind}`;
  $("state").textContent = text;
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

function gauge() {
  $("gauge").hidden = !context || !used;
  if (!context) return;
  const share = Math.min(1, used / context);
  $("fill").style.width = `${100 * share}%`;
  $("count").textContent = `${used} / ${context}`;
  $("gauge").classList.toggle("tight", share > 0.85);
  $("gauge").title = t("gauge")(used, context);
}

function draw() {
  const path = pathTo(chat.leaf);
  $("log").replaceChildren(...path.map(view));
  $("welcome").hidden = path.length > 0;
  const last = path.filter(node => node.total).pop();
  used = last ? last.total : 0;
  $("speed").hidden = !running;
  drawChats();
  drawChips();
  gauge();
  showSend();
  toEnd();
}

const atEnd = () => $("scroll").scrollHeight - $("scroll").scrollTop - $("scroll").clientHeight < 60;

function toEnd() {
  $("scroll").scrollTop = $("scroll").scrollHeight;
  $("jump").hidden = true;
}

// Put a message under a parent and ask for its answer.
function submit(text, parent) {
  notice("");
  const mine = addNode(parent, "user", text);
  ask(mine);
}

function regenerate(node) {
  notice("");
  chat.leaf = node.parent;
  ask(chat.nodes[node.parent]);
}

// Put what tools gave back under the message that called them, and let the model go on.
function submitResults(node, texts) {
  notice("");
  let last = node;
  node.calls.forEach((call, at) => {
    last = addNode(last.id, "tool", texts[at]);
    Object.assign(last, { call: call.id, name: call.name });
  });
  ask(last);
}

function stop() {
  running?.control.abort();
}

async function ask(mine) {
  if (busy()) return;
  const home = chat;
  keep();
  // An answer that failed before its first word is not a turn of the conversation.
  const told = node => node.content || node.calls?.length || node.role === "tool";
  const messages = pathTo(mine.id).filter(told).map(sendable);
  const node = addNode(mine.id, "assistant", "");
  node.live = true;
  node.logprobs = [];
  running = { node, control: new AbortController() };
  say("busy", t("answering"));
  draw();
  const pen = new Pen(node);
  try {
    await answer(messages, running.control.signal, part => pen.hear(part));
  } catch (error) {
    if (error.name === "AbortError") node.reason = "stopped";
    else node.wrong = error instanceof ServerError ? error.message : t("networkError");
  }
  pen.close();
  delete node.live;
  if (!node.logprobs.length) delete node.logprobs;
  running = null;
  say("ready", "");
  $("said").textContent = node.wrong || t("finished");
  if (!keep()) notice(t("storeFull"));
  const stays = chat === home && !atEnd();
  const place = $("scroll").scrollTop;
  draw();
  if (stays) $("scroll").scrollTop = place;
}

// Writes what arrives into its message, at most once per frame, and keeps time.
class Pen {
  constructor(node) {
    this.node = node;
    this.frame = 0;
    this.pieces = 0;
    this.first = 0;
    this.last = 0;
    $("log").setAttribute("aria-busy", "true");
  }

  hear({ text, thought, calls, logprobs, reason, usage }) {
    const { node } = this;
    const now = performance.now();
    node.content += text;
    if (thought) node.thought = (node.thought || "") + thought;
    for (const { id, function: made } of calls) {
      node.calls = [...(node.calls || []), { id, name: made.name, arguments: made.arguments }];
    }
    node.logprobs.push(...logprobs);
    if (text || thought || logprobs.length) {
      this.first ||= now;
      this.last = now;
      this.pieces += Math.max(1, logprobs.length);
    }
    if (reason) node.reason = reason;
    if (usage) {
      node.count = usage.completion_tokens;
      node.total = usage.total_tokens;
    }
    this.frame ||= requestAnimationFrame(() => this.show());
  }

  rate() {
    const seconds = (this.last - this.first) / 1000;
    const pieces = this.node.count || this.pieces;
    return seconds > 0.05 && pieces > 2 ? Math.round((pieces - 1) / seconds) : 0;
  }

  show() {
    this.frame = 0;
    const body = document.querySelector(`[data-node="${this.node.id}"] .body`);
    if (body) {
      const end = atEnd();
      fillAnswer(body, this.node);
      if (end) toEnd();
    }
    const rate = this.rate();
    $("speed").hidden = !rate;
    if (rate) $("speed").textContent = t("rate")(rate);
  }

  close() {
    cancelAnimationFrame(this.frame);
    this.node.count ||= this.pieces;
    this.node.rate = this.rate();
    $("log").removeAttribute("aria-busy");
  }
}

$("scroll").addEventListener("scroll", () => { hideTip(); $("jump").hidden = atEnd(); }, { passive: true });
$("jump").addEventListener("click", toEnd);
translate();
setUpBar();
setUpSettings();
setUpShortcuts();
setUpComposer();
openChat(chats[0]?.id);
draw();
grow();
greet();
$("box").focus();
