// One prompt at several preferences, in one batch: streamed next to each other, with the words marked that changed.

import { speed, SUPERSEDED } from "./answer.js";
import { make, percent, weighed } from "./preference.js";
import { legend, scored } from "./rewards.js";
import { Refused, stream } from "./talk.js";

// The line between two objectives in `count` steps; for more objectives their corners, mixes of two, and the middle.
export function points(n, count) {
  if (count === 0) return [];
  if (n === 2) return Array.from({ length: count }, (_, i) => [i / (count - 1), 1 - i / (count - 1)]);
  const corners = Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => Number(i === j)));
  const middle = Array(n).fill(1 / n);
  if (n > 3) return [...corners, middle];
  const edges = corners.map((corner, i) => corner.map((weight, j) => (weight + corners[(i + 1) % n][j]) / 2));
  return [corners[0], edges[0], corners[1], edges[1], corners[2], edges[2], middle];
}

// Makes a card for each of the points; `chosen(weights)` is called when one is taken.
export function layOut(strip, objectives, all, chosen) {
  strip.replaceChildren(...all.map((weights) => {
    const title = objectives.length === 2 ? `${percent(weights[0])} ${objectives[0]}` : weighed(objectives, weights);
    const take = make("button", { type: "button", className: "take", title: "Move the preference here" }, title);
    take.addEventListener("click", () => chosen(weights));
    return make("li", {}, take, make("p", { className: "answer" }));
  }));
}

// Words of `text` that are not in `before`, by a longest common subsequence.
export function changed(before, text) {
  const [old, now] = [before, text].map((value) => value.split(/(?<=\s)/));
  const same = old.length * now.length > 250000 ? null : common(old, now);
  return now.map((word, i) => [word, same !== null && !same.has(i)]);
}

function common(old, now) {
  const key = (word) => word.trim().toLowerCase();
  const lengths = Array.from({ length: old.length + 1 }, () => new Uint16Array(now.length + 1));
  for (let i = old.length - 1; i >= 0; i -= 1) {
    for (let j = now.length - 1; j >= 0; j -= 1) {
      lengths[i][j] = key(old[i]) === key(now[j]) ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  const kept = new Set();
  for (let i = 0, j = 0; i < old.length && j < now.length;) {
    if (key(old[i]) === key(now[j])) {
      kept.add(j);
      [i, j] = [i + 1, j + 1];
    } else if (lengths[i + 1][j] >= lengths[i][j + 1]) i += 1;
    else j += 1;
  }
  return kept;
}

// With several seeds the strip shows the answer of the first, and the scores are means. `rewards`: whether the server
// can score. Raises only an error that asks for a token; the note under the strip tells of all others.
export async function sweep(strip, note, request, rewards, signal) {
  const outs = [...strip.querySelectorAll(".answer")];
  const groups = outs.map(() => Array(request.n).fill(""));
  for (const old of strip.querySelectorAll(".scores")) old.remove();
  const started = performance.now();
  let first = null;
  for (const out of outs) {
    out.textContent = "";
    out.className = "answer busy";
  }
  note.textContent = "";
  note.classList.remove("wrong");
  try {
    for await (const piece of stream(request, signal)) {
      if (piece.text) {
        first ??= performance.now();
        const [place, seed] = [Math.floor(piece.index / request.n), piece.index % request.n];
        groups[place][seed] += piece.text;
        if (seed === 0) outs[place].append(piece.text);
      } else {
        const texts = outs.map((out) => out.textContent);
        outs.slice(1).forEach((out, i) => mark(out, texts[i], texts[i + 1]));
        const different = new Set(texts).size;
        note.textContent = `${different} different ${different === 1 ? "answer" : "answers"} at ${texts.length} preferences from the same seed; the words that changed from one to the next are marked. ${speed(piece.usage.completion_tokens, started, first)}.`;
        const notes = rewards ? await scored(request.messages, groups, signal) : [];
        notes.forEach((lines, i) => outs[i].after(...lines));
        if (rewards) note.append(legend(request.n));
      }
    }
  } catch (error) {
    if (signal.aborted) return;
    if (error.status === 401) throw error;
    note.textContent = error instanceof Refused ? error.message : "The answers broke off: the connection was lost.";
    note.classList.add("wrong");
  } finally {
    if (signal.reason !== SUPERSEDED) for (const out of outs) out.classList.remove("busy");
  }
}

function mark(out, before, text) {
  if (before === text) {
    out.classList.add("same");
    return;
  }
  out.replaceChildren(...changed(before, text).map(([word, fresh]) => (fresh ? make("mark", {}, word) : word)));
}
