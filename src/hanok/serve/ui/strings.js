// The words of the page in both languages, and small helpers that everything uses.

const WORDS = {
  en: {
    skip: "Skip to the message box", conversations: "Conversations", conversation: "Conversation", newChat: "New chat",
    report: "Training report", import: "Import", export: "Export all", close: "Close", settings: "Settings",
    theme: "Colours: automatic, light, dark", help: "Keyboard shortcuts", speed: "Tokens per second",
    welcome: "What would you like to ask?",
    welcomeSub: "The model runs on the machine that serves this page. What you type goes nowhere else.",
    placeholder: "Write a message", message: "Message", send: "Send", stop: "Stop", toEnd: "To the end",
    hintKeys: "Enter sends, Shift+Enter starts a new line.", hintWrong: "Small models make mistakes.",
    system: "System prompt", systemHint: "How should the model behave?", temperature: "Temperature", topP: "Top p",
    maxTokens: "Longest answer", toContext: "up to the context", seed: "Seed", random: "random",
    probabilities: "Token probabilities", probabilitiesHint: "Colours each token by how sure the model was; hover for the alternatives.",
    key: "API key", reset: "Reset", done: "Done", newLine: "New line", editLast: "Edit the last message",
    focusBox: "Go to the message box", copy: "Copy", copied: "Copied", edit: "Edit", again: "Regenerate",
    previous: "Previous version", next: "Next version", remove: "Delete", save: "Send again", cancel: "Cancel",
    thinking: "Thinking…", thought: "Thoughts", you: "You", assistant: "Assistant", untitled: "New chat",
    loading: "loading the model…", down: "not reachable", ready: "", answering: "answering", finished: "The answer is complete.",
    noAnswer: "The model ended its answer at once.", stopped: "stopped", length: "cut at the limit",
    tokens: n => `${n} ${n === 1 ? "token" : "tokens"}`, rate: n => `${n} tok/s`,
    gauge: (used, all) => `${used} of ${all} tokens of context used`,
    networkError: "The server cannot be reached. Is it still running?",
    needKey: "This server needs its API key: open the settings and enter it.",
    busyServer: s => `The server is busy. Try again in ${s} s.`,
    contextFull: "The conversation no longer fits into the model's context. Start a new chat or shorten it.",
    tools: "Tools", toolsHint: "JSON list of functions that the model may call", called: name => `Call of ${name}`,
    resultOf: name => `Result of ${name}`, result: "What it gave back", sendResult: "Send", toolResult: "Result",
    badTools: "The tools in the settings are no JSON list of functions.", model: "Model",
    badFile: "That file is not an export of conversations.", storeFull: "The browser's storage is full: this chat is not saved.",
    confirmRemove: "Delete this conversation?",
    chips: ["Tell me a short story", "What is 7 + 5?", "한옥이 무엇인지 알려 줘", "Explain what a token is"],
  },
  ko: {
    skip: "메시지 입력란으로 건너뛰기", conversations: "대화 목록", conversation: "대화", newChat: "새 대화",
    report: "학습 보고서", import: "가져오기", export: "모두 내보내기", close: "닫기", settings: "설정",
    theme: "색상: 자동, 밝게, 어둡게", help: "단축키", speed: "초당 토큰 수",
    welcome: "무엇이든 물어보세요",
    welcomeSub: "모델은 이 페이지를 연 컴퓨터에서 돌아갑니다. 입력한 내용은 다른 곳으로 가지 않습니다.",
    placeholder: "메시지를 입력하세요", message: "메시지", send: "보내기", stop: "멈추기", toEnd: "맨 아래로",
    hintKeys: "Enter로 보내고 Shift+Enter로 줄을 바꿉니다.", hintWrong: "작은 모델은 틀릴 수 있습니다.",
    system: "시스템 프롬프트", systemHint: "모델이 어떻게 답하면 좋을까요?", temperature: "온도(temperature)", topP: "Top p",
    maxTokens: "답의 최대 길이", toContext: "문맥이 허용하는 만큼", seed: "시드(seed)", random: "무작위",
    probabilities: "토큰 확률", probabilitiesHint: "모델이 얼마나 확신했는지 토큰마다 색으로 보여 줍니다. 마우스를 올리면 다른 후보가 보입니다.",
    key: "API 키", reset: "초기화", done: "완료", newLine: "줄 바꿈", editLast: "마지막 메시지 고치기",
    focusBox: "입력란으로 이동", copy: "복사", copied: "복사했습니다", edit: "고치기", again: "다시 생성",
    previous: "이전 답", next: "다음 답", remove: "삭제", save: "다시 보내기", cancel: "취소",
    thinking: "생각하는 중…", thought: "생각 과정", you: "나", assistant: "모델", untitled: "새 대화",
    loading: "모델을 불러오는 중…", down: "연결되지 않음", ready: "", answering: "답하는 중", finished: "답이 끝났습니다.",
    noAnswer: "모델이 아무 말 없이 답을 끝냈습니다.", stopped: "멈춤", length: "길이 제한에서 끊김",
    tokens: n => `토큰 ${n}개`, rate: n => `초당 ${n}토큰`,
    gauge: (used, all) => `문맥 ${all}토큰 가운데 ${used}토큰을 썼습니다`,
    networkError: "서버에 연결할 수 없습니다. 서버가 켜져 있는지 확인하세요.",
    needKey: "이 서버를 쓰려면 API 키가 필요합니다. 설정에서 키를 입력하세요.",
    busyServer: s => `서버가 바쁩니다. ${s}초 뒤에 다시 시도하세요.`,
    contextFull: "대화가 모델의 문맥보다 길어졌습니다. 새 대화를 시작하거나 내용을 줄이세요.",
    tools: "도구", toolsHint: "모델이 부를 수 있는 함수의 JSON 목록", called: name => `${name} 호출`,
    resultOf: name => `${name}의 결과`, result: "도구가 돌려준 값", sendResult: "보내기", toolResult: "결과",
    badTools: "설정에 적은 도구가 함수의 JSON 목록이 아닙니다.", model: "모델",
    badFile: "대화를 내보낸 파일이 아닙니다.", storeFull: "브라우저 저장 공간이 가득 차서 이 대화를 저장하지 못했습니다.",
    confirmRemove: "이 대화를 삭제할까요?",
    chips: ["짧은 이야기를 하나 들려줘", "7 + 5는 얼마야?", "한옥이 무엇인지 알려 줘", "Explain what a token is"],
  },
};

const FACTS = JSON.parse(document.getElementById("facts").textContent);
const $ = id => document.getElementById(id);

let language = remembered("hanok.language") || (/^ko\b/i.test(navigator.language) ? "ko" : "en");
const t = key => WORDS[language][key];

// Private windows may refuse storage: then the page simply forgets.
function remembered(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

function remember(key, value) {
  try { localStorage.setItem(key, value); return true; } catch { return false; }
}

// Build an element: el("p", {class: "x", onclick: f}, "text", child).
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter(child => child != null));
  return node;
}

function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

function iconButton(name, label, act) {
  return el("button", { class: "icon", type: "button", "aria-label": label, title: label, onclick: act }, icon(name));
}

// Put the words of the chosen language into everything that names one.
function translate() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-t-placeholder]")) node.placeholder = t(node.dataset.tPlaceholder);
  for (const node of document.querySelectorAll("[data-t-label]")) {
    node.setAttribute("aria-label", t(node.dataset.tLabel));
    if (node.tagName === "BUTTON") node.title = t(node.dataset.tLabel);
  }
  $("lang").textContent = language === "ko" ? "English" : "한국어";
  $("lang").lang = language === "ko" ? "en" : "ko";
}
