// Talking to the server: the model's facts, and one streamed answer at a time.

let context = 0; // tokens that the model can hold
let models = []; // what the server has
let model = remembered("hanok.model") || FACTS.model;

const keyOf = () => { try { return sessionStorage.getItem("hanok.key") || ""; } catch { return ""; } };
const headers = () => ({ "Content-Type": "application/json", ...(keyOf() ? { Authorization: `Bearer ${keyOf()}` } : {}) });

class ServerError extends Error {}

async function refusal(response) {
  const body = await response.json().catch(() => ({}));
  const error = body.error || {};
  if (response.status === 401) return new ServerError(t("needKey"));
  if (response.status === 429) return new ServerError(t("busyServer")(response.headers.get("retry-after") || 1));
  if (error.code === "context_length_exceeded") return new ServerError(t("contextFull"));
  return new ServerError(error.message || `HTTP ${response.status}`);
}

// Ask once what is served; while the model loads, ask again until it is there.
async function greet() {
  if (FACTS.needsKey && !keyOf()) return say("down", "");
  try {
    const health = await fetch("health");
    if (health.status === 503) {
      say("busy", t("loading"));
      return setTimeout(greet, 700);
    }
    const response = await fetch("v1/models", { headers: headers() });
    if (!response.ok) throw await refusal(response);
    setModels((await response.json()).data);
    say("ready", "");
    gauge();
  } catch (error) {
    say("down", error instanceof ServerError ? error.message : t("down"));
    setTimeout(greet, 3000);
  }
  return null;
}

// Several models make a choice in the bar; one is only named there.
function setModels(cards) {
  models = cards;
  if (!cards.some(card => card.id === model)) model = cards[0].id;
  context = cards.find(card => card.id === model).max_model_len;
  $("models").replaceChildren(...cards.map(card => el("option", { value: card.id, selected: card.id === model }, card.id)));
  $("models").hidden = cards.length < 2;
  $("model").hidden = cards.length > 1;
}

// The tools of the settings as the server takes them: whole entries, or functions alone.
function toolsOf(text) {
  if (!text.trim()) return [];
  try {
    const list = [JSON.parse(text)].flat();
    if (!list.every(one => one && typeof (one.function || one).name === "string")) throw new TypeError("no names");
    return list.map(one => (one.function ? one : { type: "function", function: one }));
  } catch {
    throw new ServerError(t("badTools"));
  }
}

// A message as the server takes it: thoughts stay here, calls and their results go along.
function sendable({ role, content, calls, call }) {
  if (role === "tool") return { role, tool_call_id: call, content };
  const made = calls?.map(({ id, name, arguments: given }) => ({ id, type: "function", function: { name, arguments: given } }));
  return made?.length ? { role, content, tool_calls: made } : { role, content };
}

function requestBody(messages) {
  const body = { model, messages, stream: true, stream_options: { include_usage: true } };
  const tools = toolsOf(settings.tools);
  if (tools.length) body.tools = tools;
  if (settings.system.trim()) body.messages = [{ role: "system", content: settings.system }, ...messages];
  body.temperature = Number(settings.temperature);
  body.top_p = Number(settings.topP);
  if (settings.maxTokens !== "") body.max_tokens = Math.max(1, Math.round(Number(settings.maxTokens)));
  if (settings.seed !== "") body.seed = Math.round(Number(settings.seed));
  if (settings.probabilities) Object.assign(body, { logprobs: true, top_logprobs: 5 });
  return body;
}

// Yield the JSON of each event; a stream that ends without [DONE] was cut.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new TypeError("the stream was cut");
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (!part.startsWith("data: ")) continue;
      if (part === "data: [DONE]") return;
      yield JSON.parse(part.slice(6));
    }
  }
}

// Stream one answer; `hear` gets {text, thought, calls, logprobs, reason, usage} as they come.
async function answer(messages, signal, hear) {
  const response = await fetch("v1/chat/completions", {
    method: "POST", headers: headers(), body: JSON.stringify(requestBody(messages)), signal,
  });
  if (!response.ok) throw await refusal(response);
  for await (const event of events(response)) {
    if (event.error) throw new ServerError(event.error.message);
    const choice = event.choices[0];
    hear({
      text: choice?.delta.content || "",
      thought: choice?.delta.reasoning_content || "",
      calls: choice?.delta.tool_calls || [],
      logprobs: choice?.logprobs?.content || [],
      reason: choice?.finish_reason,
      usage: event.usage,
    });
  }
}
