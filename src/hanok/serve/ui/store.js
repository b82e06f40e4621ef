// Conversations: each is a tree of messages, so that editing or regenerating never loses what was there.

const SHELF = "hanok.conversations";
const DEFAULTS = { system: "", temperature: 0.5, topP: 1, maxTokens: "", seed: "", tools: "", probabilities: false };

const newId = () => Date.now().toString(36) + Math.random().toString(36).slice(2, 8);

let settings = { ...DEFAULTS, ...parsed(remembered("hanok.settings")) };
let chats = valid(parsed(remembered(SHELF)).chats) || [];
let chat = null; // the conversation that is open

function parsed(text) {
  try { return JSON.parse(text) || {}; } catch { return {}; }
}

// Of what a file says about a message, keep what the page can show.
function cleaned({ id, parent, role, content, at, reason, logprobs, ...rest }) {
  const node = { id, parent, role, content, at: Number(at) || 0 };
  for (const name of ["count", "total", "rate"]) if (Number.isFinite(rest[name])) node[name] = rest[name];
  if (typeof reason === "string") node.reason = reason;
  for (const name of ["wrong", "thought", "call", "name"]) if (typeof rest[name] === "string") node[name] = rest[name];
  const whole = one => one && ["id", "name", "arguments"].every(name => typeof one[name] === "string");
  if (Array.isArray(rest.calls) && rest.calls.every(whole)) {
    node.calls = rest.calls.map(({ id, name, arguments: given }) => ({ id, name, arguments: given }));
  }
  const sound = one => one && Array.isArray(one.bytes) && Number.isFinite(one.logprob);
  if (Array.isArray(logprobs) && logprobs.every(one => sound(one) && (one.top_logprobs || []).every(sound))) {
    node.logprobs = logprobs;
  }
  return node;
}

// A chat is {id, title, leaf, nodes: {id: {id, parent, role, content, at, ...}}}; anything else is refused.
function valid(list) {
  if (!Array.isArray(list)) return null;
  const sound = list.every(item => item && typeof item.id === "string" && typeof item.title === "string"
    && item.nodes && typeof item.nodes === "object"
    && (item.leaf === null || item.leaf in item.nodes)
    && Object.entries(item.nodes).every(([id, node]) => node && node.id === id && typeof node.content === "string"
      && ["user", "assistant", "tool"].includes(node.role) && (node.parent === null || node.parent in item.nodes)));
  if (!sound) return null;
  return list.map(({ id, title, leaf, nodes }) => ({ id, title, leaf,
    nodes: Object.fromEntries(Object.entries(nodes).map(([key, node]) => [key, cleaned(node)])) }));
}

function keep() {
  const kept = chats.filter(item => item.leaf !== null);
  return remember(SHELF, JSON.stringify({ version: 1, chats: kept }));
}

function openChat(id) {
  chat = chats.find(item => item.id === id) || null;
  if (!chat) {
    chat = { id: newId(), title: "", leaf: null, nodes: {} };
    chats = [chat, ...chats.filter(item => item.leaf !== null)];
  }
  return chat;
}

function removeChat(id) {
  chats = chats.filter(item => item.id !== id);
  keep();
}

function addNode(parent, role, content) {
  const node = { id: newId(), parent, role, content, at: Date.now() };
  chat.nodes[node.id] = node;
  chat.leaf = node.id;
  if (!chat.title && role === "user") chat.title = content.trim().split("\n")[0].slice(0, 60);
  return node;
}

// The messages from the first one down to a node, without loops even if an imported file has one.
function pathTo(id, from = chat) {
  const path = [];
  const seen = new Set();
  for (let node = from.nodes[id]; node && !seen.has(node.id); node = from.nodes[node.parent]) {
    seen.add(node.id);
    path.unshift(node);
  }
  return path;
}

function childrenOf(id) {
  return Object.values(chat.nodes).filter(node => node.parent === id).sort((a, b) => a.at - b.at);
}

const siblings = node => childrenOf(node.parent).filter(other => other.role === node.role);

// Show another version of a message, and below it the newest continuation.
function switchTo(node) {
  let leaf = node;
  for (let below = childrenOf(leaf.id); below.length; below = childrenOf(leaf.id)) leaf = below[below.length - 1];
  chat.leaf = leaf.id;
  keep();
}

function exportChats() {
  const kept = chats.filter(item => item.leaf !== null);
  const blob = new Blob([JSON.stringify({ version: 1, chats: kept }, null, 2)], { type: "application/json" });
  const link = el("a", { href: URL.createObjectURL(blob), download: "hanok-conversations.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Add the conversations of a file; ones that are here already come in as copies.
function importChats(text) {
  const list = valid(parsed(text).chats);
  if (!list || !list.length) return false;
  const known = new Set(chats.map(item => item.id));
  chats = [...list.map(item => (known.has(item.id) ? { ...item, id: newId() } : item)), ...chats];
  openChat(chats[0].id);
  keep();
  return true;
}
