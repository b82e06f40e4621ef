// Talking to the server: the model's facts, and one streamed answer at a time.

let context = 0; // tokens that the model can hold

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
    context = (await response.json()).data[0].max_model_len;
    say("ready", "");
    gauge();
  } catch (error) {
    say("down", error instanceof ServerError ? error.message : t("down"));
    setTimeout(greet, 3000);
  }
  return null;
}

function requestBody(messages) {
  const body = { model: FACTS.model, messages, stream: true, stream_options: { include_usage: true } };
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

// Stream one answer; `hear` gets {text, logprobs, reason, usage} as they come.
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
      logprobs: choice?.logprobs?.content || [],
      reason: choice?.finish_reason,
      usage: event.usage,
    });
  }
}
