// Asking: the sweep, and the answers at the preference and at what it is compared with.

import { answer, empty, SUPERSEDED } from "./answer.js";
import { note } from "./browser.js";
import { messages, reply } from "./conversation.js";
import { failed, tell } from "./notice.js";
import { make, mapping, weighed } from "./preference.js";
import { $, asked, named, state, swept } from "./state.js";
import { layOut as layOutSweep, points, sweep } from "./sweep.js";
import { json } from "./talk.js";

// Milliseconds without another movement after which the answers follow the preference.
const REST = 300;
let running = null;
let sweeping = null;
let timer;

const cards = () => $("answers").children;

function sampling() {
  return {
    messages: messages(),
    seed: Number($("seed").value),
    temperature: Number($("temperature").value),
    max_tokens: Number($("tokens").value),
  };
}

// The body of a request for the answer on the left (0) or on the right (1).
export function body(side) {
  const { model, weights } = asked(side);
  return { model, preference: mapping(state.soup.objectives, weights), ...sampling() };
}

// The sweep and the answers at once.
export async function send() {
  clearTimeout(timer);
  note();
  await Promise.all([strip(), answers()]);
}

// The same question with the next seed.
export function regenerate() {
  if (!$("ask").reportValidity()) return;
  $("seed").value = Number($("seed").value) + 1;
  send();
}

async function strip() {
  const { soup } = state;
  sweeping?.abort(SUPERSEDED);
  const all = points(soup.objectives.length, swept());
  $("sweep").hidden = all.length === 0;
  if (!all.length) return;
  sweeping = new AbortController();
  const n = soup.rewards ? Number($("seeds").value) : 1;
  const preferences = all.map((weights) => mapping(soup.objectives, weights));
  const request = { model: soup.models[soup.methods[0]], preferences, n, ...sampling() };
  await sweep($("strip"), $("swept"), request, soup.rewards, sweeping.signal).catch(failed);
}

async function answers() {
  running?.abort(SUPERSEDED);
  const mine = (running = new AbortController());
  titles(true);
  $("stop").hidden = false;
  $("another").hidden = true;
  await Promise.all((state.beside === "none" ? [0] : [0, 1]).map((side) => one(side, mine.signal).catch(failed)));
  if (running !== mine) return;
  running = null;
  if (document.activeElement === $("stop")) $("send").focus();
  $("stop").hidden = true;
  $("another").hidden = false;
  await replaced();
}

async function one(side, signal) {
  const [card, request] = [cards()[side], body(side)];
  const text = await answer(card, request, state.soup.rewards, signal);
  if (!text) return;
  const button = card.querySelector(".reply");
  button.hidden = false;
  button.onclick = () => {
    reply(request.messages, text);
    clear();
  };
}

// A server that follows a champion may have taken another version since this page was loaded.
async function replaced() {
  const { soup } = state;
  const now = await json("/health").catch(() => soup);
  if (now.version !== soup.version) tell(`The server now answers with version ${now.version} of ${soup.name}. Reload the page to see it.`);
}

export function stop() {
  clearTimeout(timer);
  running?.abort();
  sweeping?.abort();
}

// The answers follow a preference that was moved, once it rests.
export function follow() {
  clearTimeout(timer);
  if (!running && !cards()[0].querySelector(".answer").textContent) return;
  if ($("ask").checkValidity()) timer = setTimeout(answers, REST);
}

// An answer keeps the title it was asked under until it is asked again.
export function titles(again = false) {
  cards()[1].hidden = state.beside === "none";
  $("second").hidden = state.beside !== "second";
  for (const side of [0, 1]) {
    const card = cards()[side];
    if (!again && card.querySelector(".answer").textContent) continue;
    const { method, weights } = asked(side);
    const at = method === "sft" ? "any preference" : weighed(state.soup.objectives, weights);
    card.className = `card ${side === 1 && state.beside === "second" ? "second" : method}`;
    $(`who-${side}`).replaceChildren(named(method), make("span", {}, at));
  }
}

// The answer on the right was for another comparison.
export function compared() {
  empty(cards()[1]);
  if (running) answers();
}

// Another conversation: nothing has been asked in it yet.
export function clear() {
  clearTimeout(timer);
  for (const asking of [running, sweeping]) asking?.abort(SUPERSEDED);
  running = sweeping = null;
  for (const card of cards()) empty(card);
  $("swept").textContent = "";
  for (const button of ["stop", "another"]) $(button).hidden = true;
  layOutStrip();
  titles();
}

let chosen;
export function layOutStrip() {
  const all = points(state.soup.objectives.length, swept());
  $("sweep").hidden = all.length === 0;
  layOutSweep($("strip"), state.soup.objectives, all, chosen);
}

// `take(weights)` is called when a preference of the strip is taken.
export function layOut(take) {
  chosen = take;
  const n = state.soup.objectives.length;
  const counts = n === 2 ? [5, 7, 11] : [points(n, 1).length];
  for (const count of [...counts, 0]) $("points").append(make("option", { value: count }, count ? `${count} preferences` : "off"));
  $("seeds").parentElement.hidden = !state.soup.rewards;
}
