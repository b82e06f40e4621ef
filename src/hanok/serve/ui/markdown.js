// Markdown as models write it, built from nodes: no text ever becomes HTML.

const INLINE = /(`+)([^`]|[^`].*?[^`])\1(?!`)|\*\*(?=\S)(.+?)\*\*|(?<![*\w])\*(?=[^\s*])([^*\n]+?)\*(?!\w)|\[([^\]\n]+)\]\((https?:\/\/[^\s)]+)\)/;

function inline(text, into) {
  for (let match = INLINE.exec(text); match; match = INLINE.exec(text)) {
    into.append(text.slice(0, match.index));
    const [whole, , code, bold, slanted, label, target] = match;
    if (code !== undefined) into.append(el("code", {}, code.trim() || code));
    else if (bold !== undefined) into.append(inline(bold, el("strong")));
    else if (slanted !== undefined) into.append(inline(slanted, el("em")));
    else into.append(el("a", { href: target, target: "_blank", rel: "noopener noreferrer" }, label));
    text = text.slice(match.index + whole.length);
  }
  into.append(text);
  return into;
}

function codeBlock(lines, name) {
  const text = lines.join("\n");
  const copy = iconButton("copy", t("copy"), () => copyText(text, copy));
  return el("div", { class: "code" }, el("div", { class: "code-head" }, name || "text", copy),
    el("pre", { tabindex: "0" }, el("code", {}, text)));
}

function list(lines) {
  const ordered = /^\s*\d/.test(lines[0]);
  const root = el(ordered ? "ol" : "ul", ordered ? { start: parseInt(lines[0], 10) } : {});
  for (const line of lines) {
    const [, mark, rest] = /^\s*([-*+]|\d+[.)])\s+(.*)$/.exec(line) || [];
    if (mark) root.append(inline(rest, el("li")));
    else if (root.lastChild) inline("\n" + line.trim(), root.lastChild);
  }
  return root;
}

const cells = line => line.trim().replace(/^\||\|$/g, "").split("|").map(cell => cell.trim());

function table(lines) {
  const head = el("tr", {}, ...cells(lines[0]).map(cell => inline(cell, el("th"))));
  const rows = lines.slice(2).map(line => el("tr", {}, ...cells(line).map(cell => inline(cell, el("td")))));
  return el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows));
}

// The kinds of block: how one begins, and how far it goes on.
const BLOCKS = [
  { begins: /^#{1,6}\s/, goes: () => false, build: ([line]) => inline(line.replace(/^#+\s+/, ""), el("h3")) },
  { begins: /^\s*([-*+]|\d+[.)])\s+/, goes: line => /^\s*([-*+]|\d+[.)])\s+|^\s{2,}\S/.test(line), build: list },
  { begins: /^>/, goes: line => /^>/.test(line),
    build: lines => inline(lines.map(line => line.replace(/^>\s?/, "")).join("\n"), el("blockquote")) },
  { begins: /^\|.*\|\s*$/, goes: line => /^\|/.test(line),
    build: lines => (/^[|\s:-]+$/.test(lines[1] || "") ? table(lines) : paragraph(lines)) },
];

function paragraph(lines) {
  const node = el("p");
  lines.forEach((line, at) => { if (at) node.append(el("br")); inline(line, node); });
  return node;
}

function markdown(text) {
  const out = document.createDocumentFragment();
  const lines = text.split("\n");
  let at = 0;
  const take = goes => {
    const from = at++;
    while (at < lines.length && goes(lines[at])) at++;
    return lines.slice(from, at);
  };
  while (at < lines.length) {
    const fence = /^\s*(```+|~~~+)\s*([\w+#.-]*)/.exec(lines[at]);
    const block = BLOCKS.find(kind => kind.begins.test(lines[at]));
    if (!lines[at].trim()) at++;
    else if (fence) {
      const body = take(line => !line.trim().startsWith(fence[1])).slice(1);
      at++; // the closing fence; a stream may not have come to it yet
      out.append(codeBlock(body, fence[2]));
    } else if (block) out.append(block.build(take(block.goes)));
    else {
      out.append(paragraph(take(line => line.trim() && !/^\s*(```|~~~)/.test(line)
        && !BLOCKS.some(kind => kind.begins.test(line)))));
    }
  }
  return out;
}

// Part an answer into its thoughts (<think>...</think> at the start) and the answer itself.
function parted(text) {
  const match = /^\s*<think>([\s\S]*?)(<\/think>|$)/.exec(text);
  if (!match) return { thought: "", answer: text, open: false };
  return { thought: match[1].trim(), answer: text.slice(match[0].length).trimStart(), open: !match[2] };
}

async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // pages that are not on https or localhost have no clipboard: the old way
    const area = el("textarea", { class: "hidden" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.replaceChildren(icon("check"));
  $("said").textContent = t("copied");
  setTimeout(() => button.replaceChildren(icon("copy")), 1200);
}
