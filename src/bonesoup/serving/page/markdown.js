// The Markdown that chat models write, as elements: paragraphs, headings, lists, quotes, code, emphasis and links.
// Text never passes through an HTML parser, and links lead only to http and https.

import { make } from "./preference.js";

const INLINE = /(`+)(.+?)\1|\*\*(?=\S)(.+?)(?<=\S)\*\*(?!\*)|\*(?=\S)([^*]+?)(?<=\S)\*|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)/gs;
const BULLET = /^\s{0,3}[-*+]\s+(.*)$/;
const NUMBER = /^\s{0,3}\d{1,9}[.)]\s+(.*)$/;
const QUOTE = /^\s{0,3}>\s?(.*)$/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const FENCE = /^\s{0,3}```/;

function inline(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    const [whole, , code, strong, emphasis, label, href] = match;
    nodes.push(text.slice(end, match.index));
    if (code !== undefined) nodes.push(make("code", {}, code));
    else if (strong !== undefined) nodes.push(make("strong", {}, ...inline(strong)));
    else if (emphasis !== undefined) nodes.push(make("em", {}, ...inline(emphasis)));
    else nodes.push(make("a", { href, rel: "noopener noreferrer", target: "_blank" }, ...inline(label)));
    end = match.index + whole.length;
  }
  return [...nodes, text.slice(end)].filter((node) => node !== "");
}

const opens = (line) => [BULLET, NUMBER, QUOTE, HEADING, FENCE].some((pattern) => pattern.test(line));

// What the pattern captures of the lines from `start` on, and the line after them; an indented line continues the last.
function run(lines, start, pattern) {
  const captured = [];
  let end = start;
  for (; end < lines.length; end += 1) {
    const match = pattern.exec(lines[end]);
    if (match) captured.push(match[1]);
    else if (/^\s+\S/.test(lines[end]) && !opens(lines[end])) captured.push(`${captured.pop()}\n${lines[end].trim()}`);
    else break;
  }
  return [captured, end];
}

function blocks(text) {
  const lines = text.split("\n");
  const nodes = [];
  for (let i = 0; i < lines.length;) {
    const line = lines[i];
    if (FENCE.test(line)) {
      const close = lines.findIndex((other, at) => at > i && FENCE.test(other));
      const end = close < 0 ? lines.length : close;
      nodes.push(make("pre", { tabIndex: 0 }, make("code", {}, lines.slice(i + 1, end).join("\n"))));
      i = end + 1;
    } else if (HEADING.test(line)) {
      // The page has headings of its own: one in an answer must not enter its outline.
      nodes.push(make("p", { className: "heading" }, ...inline(HEADING.exec(line)[2])));
      i += 1;
    } else if (QUOTE.test(line)) {
      const [quoted, end] = run(lines, i, QUOTE);
      nodes.push(make("blockquote", {}, ...markdown(quoted.join("\n"))));
      i = end;
    } else if (BULLET.test(line) || NUMBER.test(line)) {
      const pattern = BULLET.test(line) ? BULLET : NUMBER;
      const [items, end] = run(lines, i, pattern);
      const first = pattern === NUMBER ? { start: parseInt(line, 10) } : {};
      nodes.push(make(pattern === NUMBER ? "ol" : "ul", first, ...items.map((item) => make("li", {}, ...inline(item)))));
      i = end;
    } else if (!line.trim()) {
      i += 1;
    } else {
      let end = i + 1;
      while (end < lines.length && lines[end].trim() && !opens(lines[end])) end += 1;
      nodes.push(make("p", {}, ...inline(lines.slice(i, end).join("\n"))));
      i = end;
    }
  }
  return nodes;
}

// Nodes to append; a text of one paragraph needs no element around it.
export function markdown(text) {
  const nodes = blocks(text);
  return nodes.length === 1 && nodes[0].matches("p:not(.heading)") ? [...nodes[0].childNodes] : nodes;
}
