// The box: Enter sends exactly once, whatever an input method is doing; it grows with its text.

const HANGUL = /[\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff]$/;

// Korean is typed through an input method that is still composing the last syllable when Enter comes. The browser
// then tells of Enter inside the composition, ends the composition, and (some of them) tells of Enter once more.
// Sending at the first would lose or repeat the last syllable; ignoring it would ask for a second Enter. So: take note
// at the first, send when the composition has ended, and let the repeated one pass. In Japanese or Chinese the same
// Enter only picks a candidate, so there nothing is sent.
function sendOnEnter(box, send) {
  let composing = false;
  let wanted = false; // Enter came inside a composition
  let settled = false; // the Enter that is still held down has been dealt with
  let composed = ""; // what the last composition left

  box.addEventListener("compositionstart", () => { composing = true; });
  box.addEventListener("compositionend", event => {
    composing = false;
    composed = event.data || box.value;
    if (!wanted) return;
    wanted = false;
    if (!HANGUL.test(composed)) return;
    settled = true;
    setTimeout(send, 0); // the composed text is in the box only after this event
  });
  box.addEventListener("keydown", event => {
    if (event.key !== "Enter" || event.shiftKey || event.altKey) return;
    if (event.isComposing || composing) {
      wanted = true;
      return;
    }
    event.preventDefault();
    if (settled || event.repeat) return;
    if (event.keyCode === 229 && !HANGUL.test(composed)) return; // Safari tells of a candidate's Enter afterwards
    settled = true;
    send();
  });
  box.addEventListener("keyup", event => { if (event.key === "Enter") settled = false; });
  box.addEventListener("input", () => { if (!composing) settled = false; });
  box.addEventListener("blur", () => { composing = wanted = settled = false; });
}

function grow() {
  const box = $("box");
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
  showSend();
}

function showSend() {
  const button = $("send");
  const label = busy() ? t("stop") : t("send");
  $("send-icon").setAttribute("href", busy() ? "#i-stop" : "#i-send");
  button.setAttribute("aria-label", label);
  button.title = label;
  button.disabled = !busy() && !$("box").value.trim();
}

function sendBox() {
  const text = $("box").value;
  if (!text.trim() || busy()) return;
  $("box").value = "";
  grow();
  submit(text, chat.leaf);
}

function setUpComposer() {
  sendOnEnter($("box"), sendBox);
  $("box").addEventListener("input", grow);
  $("composer").addEventListener("submit", event => {
    event.preventDefault();
    if (busy()) stop();
    else sendBox();
  });
  $("box").addEventListener("keydown", event => {
    if (event.key !== "ArrowUp" || $("box").value || event.isComposing || busy()) return;
    const mine = pathTo(chat.leaf).filter(node => node.role === "user").pop();
    if (!mine) return;
    event.preventDefault();
    editMessage(mine);
  });
}
