// The words of the page in both languages, and what everything uses.

const WORDS = {
  en: {
    skip: "Skip to the charts", runs: "Runs", all: "Show all", none: "Show none", theme: "Light or dark colours",
    empty: "No run yet", emptySub: "A run appears here as soon as it writes its first step. For example:",
    dials: "How curves are drawn", smoothing: "Smoothing", log: "Logarithmic", across: "Across", step: "steps",
    time: "time", tokens: "tokens", more: "More figures", samples: "Samples", whose: "Samples of which run",
    keys: "Keyboard: Tab to a chart, then ← → to read it point by point, Home and End for its ends, Esc to leave.",
    live: "live", done: "finished", stopped: "silent", connected: "connected", lost: "connection lost, trying again",
    table: "Table", run: "Run", first: "first", last: "last", least: "min", most: "max", at: "Step", left: "left",
    asked: "Asked", noData: "nothing yet", reading: "reading…",
    n: { loss: "Training loss", val: "Validation", learning_rate: "Learning rate", grad_norm: "Gradient norm",
      tokens_per_second: "Tokens per second", mfu: "Utilisation (MFU)", memory_bytes: "Memory", skipped: "Skipped steps",
      seconds: "Time", step_time: "Time of a step", num_tokens: "Tokens seen", mean_token_accuracy: "Token accuracy",
      lr_factor: "Learning-rate factor", reward: "Reward", reward_std: "Reward, standard deviation", entropy: "Entropy" },
    chart: (title, facts) => `${title}. ${facts}`, fact: (run, last, least, most) => `${run}: last ${last}, from ${least} to ${most}.`,
  },
  ko: {
    skip: "그래프로 건너뛰기", runs: "학습 실행", all: "모두 보기", none: "모두 숨기기", theme: "밝은 색 또는 어두운 색",
    empty: "아직 실행이 없습니다", emptySub: "학습이 첫 단계를 기록하면 여기에 바로 나타납니다. 예를 들면:",
    dials: "곡선 표시 방법", smoothing: "평활", log: "로그 축", across: "가로축", step: "단계",
    time: "시간", tokens: "토큰", more: "그 밖의 수치", samples: "생성 예", whose: "어느 실행의 예인지",
    keys: "키보드: Tab으로 그래프에 간 뒤 ← → 로 한 점씩 읽고, Home과 End로 양 끝, Esc로 나갑니다.",
    live: "진행 중", done: "끝남", stopped: "조용함", connected: "연결됨", lost: "연결이 끊겨 다시 시도합니다",
    table: "표", run: "실행", first: "처음", last: "최근", least: "최소", most: "최대", at: "단계", left: "남음",
    asked: "질문", noData: "아직 없음", reading: "읽는 중…",
    n: { loss: "학습 손실", val: "검증", learning_rate: "학습률", grad_norm: "기울기 크기(norm)",
      tokens_per_second: "초당 토큰", mfu: "연산 활용률(MFU)", memory_bytes: "메모리", skipped: "건너뛴 단계",
      seconds: "시간", step_time: "단계당 시간", num_tokens: "본 토큰", mean_token_accuracy: "토큰 정확도",
      lr_factor: "학습률 배수", reward: "보상", reward_std: "보상의 표준편차", entropy: "엔트로피" },
    chart: (title, facts) => `${title}. ${facts}`, fact: (run, last, least, most) => `${run}: 최근 ${last}, 범위 ${least}에서 ${most}.`,
  },
};

const FACTS = JSON.parse(document.getElementById("facts").textContent);
const $ = id => document.getElementById(id);
let words = WORDS.en;

// Settings stay in this browser; where it keeps nothing, they last as long as the page.
const kept = (() => { try { return JSON.parse(localStorage.getItem("hanok-board")) || {}; } catch { return {}; } })();
function keep(name, value) {
  kept[name] = value;
  try { localStorage.setItem("hanok-board", JSON.stringify(kept)); } catch { /* a private window */ }
}

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function say(code) {
  words = WORDS[code];
  document.documentElement.lang = code;
  document.title = `${words.runs} · hanok`;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = words[node.dataset.t];
  for (const node of document.querySelectorAll("[data-t-label]")) node.setAttribute("aria-label", words[node.dataset.tLabel]);
  $("lang").textContent = code === "ko" ? "English" : "한국어";
  $("lang").lang = code === "ko" ? "en" : "ko";
}
const titleOf = name => words.n[name] || name;
