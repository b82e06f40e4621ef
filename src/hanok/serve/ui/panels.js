// Sidebar, settings, theme, language, shortcuts.

function drawChats() {
  const rows = chats.filter(item => item.leaf !== null).map(item => {
    const open = el("button", { type: "button", "aria-current": item === chat ? "true" : false,
      onclick: () => { stop(); openChat(item.id); closeDrawer(); draw(); } }, el("span", {}, item.title || t("untitled")));
    const remove = iconButton("bin", t("remove"), () => {
      if (!confirm(t("confirmRemove"))) return;
      if (item === chat) stop();
      removeChat(item.id);
      if (item === chat) openChat(chats[0]?.id);
      draw();
    });
    return el("div", { class: item === chat ? "chat-row here" : "chat-row" }, open, remove);
  });
  $("chats").replaceChildren(...rows);
}

function drawChips() {
  const texts = FACTS.examples.length ? FACTS.examples : t("chips");
  $("chips").replaceChildren(...texts.map(text =>
    el("button", { class: "chip", type: "button", onclick: () => submit(text, chat.leaf) }, text)));
}

const closeDrawer = () => $("app").classList.remove("drawer");

function newChat() {
  stop();
  openChat(null);
  closeDrawer();
  draw();
  $("box").focus();
}

const FIELDS = ["system", "temperature", "topP", "maxTokens", "seed", "tools"];

function showSettings() {
  for (const name of FIELDS) $(`set-${name}`).value = settings[name];
  $("set-probabilities").checked = settings.probabilities;
  $("set-key").value = keyOf();
  for (const name of ["temperature", "topP"]) $(`out-${name}`).textContent = Number(settings[name]).toFixed(2);
}

function setUpSettings() {
  const changed = () => {
    for (const name of FIELDS) settings[name] = $(`set-${name}`).value;
    const before = settings.probabilities;
    settings.probabilities = $("set-probabilities").checked;
    remember("hanok.settings", JSON.stringify(settings));
    showSettings();
    if (before !== settings.probabilities && !busy()) draw();
  };
  for (const name of FIELDS) $(`set-${name}`).addEventListener("input", changed);
  $("set-probabilities").addEventListener("change", changed);
  $("set-key").addEventListener("change", () => {
    try { sessionStorage.setItem("hanok.key", $("set-key").value.trim()); } catch { /* then it is forgotten */ }
    notice("");
    greet();
  });
  $("key-row").hidden = !FACTS.needsKey;
  $("reset").addEventListener("click", () => { settings = { ...DEFAULTS }; showSettings(); changed(); draw(); });
  $("settings-open").addEventListener("click", () => { showSettings(); $("settings").showModal(); });
  $("help-open").addEventListener("click", () => $("help").showModal());
  for (const panel of [$("settings"), $("help")]) {
    panel.addEventListener("click", event => { if (event.target === panel) panel.close(); });
  }
}

const THEMES = ["auto", "light", "dark"];

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  remember("hanok.theme", name);
}

function setUpBar() {
  setTheme(THEMES.includes(remembered("hanok.theme")) ? remembered("hanok.theme") : "auto");
  $("theme").addEventListener("click", () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const order = dark ? ["auto", "light", "dark"] : ["auto", "dark", "light"]; // the first click always shows
    setTheme(order[(order.indexOf(document.documentElement.dataset.theme) + 1) % 3]);
  });
  $("lang").addEventListener("click", () => {
    language = language === "ko" ? "en" : "ko";
    remember("hanok.language", language);
    translate();
    draw();
  });
  $("models").addEventListener("change", () => {
    model = $("models").value;
    remember("hanok.model", model);
    setModels(models);
    gauge();
  });
  $("side-open").addEventListener("click", () => { $("app").classList.add("drawer"); $("new").focus(); });
  $("side-close").addEventListener("click", closeDrawer);
  $("veil").addEventListener("click", closeDrawer);
  $("new").addEventListener("click", newChat);
  $("report").hidden = !FACTS.report;
  $("export").addEventListener("click", exportChats);
  $("import").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", async () => {
    const [file] = $("file").files;
    $("file").value = "";
    if (!file) return;
    stop();
    notice(importChats(await file.text()) ? "" : t("badFile"));
    closeDrawer();
    draw();
  });
}

function setUpShortcuts() {
  for (const node of document.querySelectorAll(".mod")) {
    node.textContent = /Mac|iP(hone|ad)/.test(navigator.platform) ? "⌘" : "Ctrl";
  }
  document.addEventListener("keydown", event => {
    const typing = /^(INPUT|TEXTAREA)$/.test(document.activeElement?.tagName || "");
    const mod = event.ctrlKey || event.metaKey;
    if (event.isComposing) return;
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) { hideTip(); closeDrawer(); stop(); }
    else if (mod && event.shiftKey && event.key.toLowerCase() === "o") { event.preventDefault(); newChat(); }
    else if (mod && event.key === ",") { event.preventDefault(); $("settings-open").click(); }
    else if (event.key === "/" && !typing && !mod) { event.preventDefault(); $("box").focus(); }
    else if (event.key === "?" && !typing && !mod) { event.preventDefault(); $("help-open").click(); }
  });
}
