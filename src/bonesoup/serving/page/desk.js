// The mixing desk: a preference, what to expect of it, and answers at it beside another's.

import { answer } from "./answer.js";
import { legend, NAMES, planes, table } from "./front.js";
import { bars, sum, why } from "./mix.js";
import { layOut as layOutOutcome } from "./outcome.js";
import { control, make, parse, text, weighed } from "./preference.js";
import { layOut as layOutSweep, points, sweep } from "./sweep.js";
import { call, curl, json, python, Refused } from "./talk.js";

const $ = (id) => document.getElementById(id);
const state = { weights: [], second: [], beside: "" };
const FIELDS = ["prompt", "points", "seeds", "seed", "temperature", "tokens"];
// Milliseconds without another movement after which the answers follow the preference.
const REST = 300;
let soup;
let show, showSecond;
let draw = () => {};
let running = null;
let sweeping = null;
let again;

function tell(message) {
  $("notice").textContent = message;
  $("notice").hidden = !message;
}

// A missing token is asked for; anything else is said.
function failed(error) {
  if (error instanceof Refused && error.status === 401) {
    tell(sessionStorage.getItem("token") ? "The server refused this token." : "");
    sessionStorage.removeItem("token");
    $("gate").hidden = false;
    $("token").focus();
    return;
  }
  tell(error.message);
}

// The view in the address, so that it can be shared; browsers refuse more than a hundred changes in half a minute.
let soon;
let written = 0;
function remember() {
  clearTimeout(soon);
  soon = setTimeout(() => {
    written = performance.now();
    const kept = new URLSearchParams({ at: text(soup.objectives, state.weights), beside: state.beside });
    if (state.beside === "second") kept.set("second", text(soup.objectives, state.second));
    for (const field of FIELDS) if ($(field).value) kept.set(field, $(field).value);
    history.replaceState(null, "", `#${kept}`);
  }, Math.max(0, written + 350 - performance.now()));
}

function recall() {
  const kept = new URLSearchParams(location.hash.slice(1));
  const usual = soup.objectives.map((name) => soup.default[name]);
  state.weights = parse(soup.objectives, kept.get("at") ?? "") ?? usual;
  state.second = parse(soup.objectives, kept.get("second") ?? "") ?? usual;
  const [first, ...others] = [...$("beside").options].map((option) => option.value);
  state.beside = others.includes(kept.get("beside")) ? kept.get("beside") : first;
  $("beside").value = state.beside;
  for (const field of FIELDS) if (kept.has(field)) $(field).value = kept.get(field);
  for (const list of [$("points"), $("seeds")]) {
    if (![...list.options].some((option) => option.value === list.value)) list.selectedIndex = 0;
  }
  show(state.weights);
  showSecond(state.second);
  layOutStrip();
}

// Model name and preference of the answer on the left (0) and on the right (1).
function asked(side) {
  const method = side === 0 || ["second", "none"].includes(state.beside) ? soup.methods[0] : state.beside;
  const weights = side === 1 && state.beside === "second" ? state.second : state.weights;
  return { method, weights, model: soup.models[method] };
}

const named = (weights) =>
  Object.fromEntries(text(soup.objectives, weights).split(",").map((part) => part.split("=")).map(([name, value]) => [name, Number(value)]));

function body(side) {
  const { model, weights } = asked(side);
  return { model, preference: named(weights), ...sampling() };
}

function sampling() {
  return {
    messages: [{ role: "user", content: $("prompt").value }],
    seed: Number($("seed").value),
    temperature: Number($("temperature").value),
    max_tokens: Number($("tokens").value),
  };
}

const meaning = (model, weights) =>
  json(`/v1/soup/coefficients?${new URLSearchParams({ model, preference: text(soup.objectives, weights) })}`);

// One look at the server at a time: what moves meanwhile is looked at afterwards.
let looking = false;
let stale = false;
async function changed() {
  const given = text(soup.objectives, state.weights);
  $("line").textContent = `bonesoup soup --preference ${given} --out soups/mine`;
  for (const chip of $("named").children) chip.setAttribute("aria-pressed", String(chip.value === given));
  titles();
  remember();
  stale = true;
  if (looking) return;
  looking = true;
  while (stale) {
    stale = false;
    try {
      await look();
      tell("");
    } catch (error) {
      failed(error);
    }
  }
  looking = false;
}

async function look() {
  const given = text(soup.objectives, state.weights);
  const asks = soup.methods.map((method) => [method, method, state.weights]);
  if (state.beside === "second") asks.splice(1, 0, ["second", soup.methods[0], state.second]);
  const found = await Promise.all(asks.map(([, method, weights]) => meaning(soup.models[method], weights)));
  bars($("mix"), soup.policies, found[0].coefficients);
  // Corrections come on top: the rows of a curved soup do not add up to the preference.
  const equation = soup.objectives.length < 4 && soup.mapping !== "curved";
  $("sum").textContent = equation ? sum(soup.policies, found[0].coefficients) : "";
  $("why").textContent = why(soup.policies, found[0], soup.mapping);
  if (soup.front) {
    const here = Object.fromEntries(asks.map(([kind], i) => [kind, found[i].expected]));
    legend($("front").firstElementChild, [...new Set([...asks.map(([kind]) => kind), ...Object.keys(soup.front.methods)])]);
    draw = () => planes($("front").lastElementChild, soup.front, soup.methods, here);
    draw();
    table($("expected"), soup.front, here);
    const unit = { gold: "True score", judge: "Judge's score" }[soup.front.unit] ?? "Learned reward";
    $("unit").textContent = `${unit} in standard deviations of the SFT model, ${Math.round(soup.front.confidence * 100)} % interval over test prompts${whence(found[0].expected)}.`;
  }
  document.body.dataset.shown = given;
}

// Said where the numbers are not of this very preference.
function whence(point) {
  if (point?.from === "interpolated") return "; between two measured points";
  if (point?.from !== "nearest") return "";
  const measured = soup.front.methods[soup.methods[0]].find(({ mean }) => mean.every((value, i) => value === point.mean[i]));
  return `; at the nearest measured point, ${weighed(soup.objectives, measured.preference)}`;
}

// An answer keeps the title it was asked under, until it is asked anew.
function titles(anew = false) {
  const cards = $("answers").children;
  cards[1].hidden = state.beside === "none";
  $("second").hidden = state.beside !== "second";
  for (const side of [0, 1]) {
    if (!anew && cards[side].querySelector(".answer").textContent) continue;
    const { method, weights } = asked(side);
    const at = method === "sft" ? "any preference" : weighed(soup.objectives, weights);
    cards[side].className = `card ${side === 1 && state.beside === "second" ? "second" : method}`;
    $(`who-${side}`).replaceChildren(NAMES[method] ?? method, make("span", {}, at));
  }
}

// Another comparison: the answer on the right was for the one before.
function compared() {
  running?.abort();
  for (const part of ["answer", "meta"]) $("answers").children[1].querySelector(`.${part}`).textContent = "";
  $("answers").children[1].querySelector(".scores")?.remove();
  changed();
}

async function send() {
  clearTimeout(again);
  sweeping?.abort("anew");
  const all = swept();
  $("sweep").hidden = all.length === 0;
  sweeping = new AbortController();
  const n = soup.rewards ? Number($("seeds").value) : 1;
  const request = { model: soup.models[soup.methods[0]], preferences: all.map(named), n, ...sampling() };
  const strip = all.length ? sweep($("strip"), $("swept"), request, soup.rewards, sweeping.signal).catch(failed) : null;
  await Promise.all([answers(), strip]);
}

async function answers() {
  running?.abort("anew");
  const mine = (running = new AbortController());
  titles(true);
  $("stop").hidden = false;
  const sides = state.beside === "none" ? [0] : [0, 1];
  await Promise.all(sides.map((side) => answer($("answers").children[side], body(side), soup.rewards, mine.signal).catch(failed)));
  if (running !== mine) return;
  running = null;
  if (document.activeElement === $("stop")) $("send").focus();
  $("stop").hidden = true;
  await replaced();
}

// The answers follow a preference that was moved, once it rests.
function moved() {
  changed();
  clearTimeout(again);
  if (!$("answers").querySelector(".answer").textContent && !running) return;
  if (!$("ask").checkValidity()) return;
  again = setTimeout(answers, REST);
}

function swept() {
  const count = Number($("points").value);
  return count ? points(soup.objectives.length, count) : [];
}

function layOutStrip() {
  const all = swept();
  $("sweep").hidden = all.length === 0;
  layOutSweep($("strip"), soup.objectives, all, (weights) => {
    state.weights = weights;
    show(weights);
    moved();
  });
}

// A server that follows a champion may have taken another version since this page was loaded.
async function replaced() {
  const now = await json("/health").catch(() => soup);
  if (now.version !== soup.version) tell(`The server now answers with version ${now.version} of ${soup.name}. Reload the page to see it.`);
}

async function copy(write, what) {
  if (!$("ask").reportValidity()) return;
  const content = write(body(0));
  $("byhand").hidden = true;
  try {
    await navigator.clipboard.writeText(content);
    $("done").textContent = `${what} copied`;
  } catch {
    // Without permission or HTTPS the clipboard is closed.
    $("done").textContent = "The browser keeps its clipboard closed: copy this by hand.";
    $("byhand").hidden = false;
    $("byhand").value = content;
    $("byhand").select();
  }
}

async function download() {
  const { model, weights } = asked(0);
  try {
    const found = await call(`/v1/soup/adapter?${new URLSearchParams({ model, preference: text(soup.objectives, weights) })}`);
    const name = /filename="([^"]+)"/.exec(found.headers.get("Content-Disposition"))[1];
    const link = make("a", { href: URL.createObjectURL(await found.blob()), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    $("done").textContent = name;
  } catch (error) {
    failed(error);
  }
}

function layOut() {
  const version = soup.version ? `, version ${soup.version}` : "";
  const beta = soup.beta ? `, β ${soup.beta.toFixed(2)}` : "";
  $("title").textContent = soup.objectives.join(" · ");
  $("about").textContent = `${soup.name}${version}: ${Object.keys(soup.policies).length} policies in one model${beta}. Each request is answered at its own preference; nothing is merged or loaded again.`;
  document.title = `${soup.name}: mixing desk`;
  show = control($("pick"), soup.objectives, "Preference", (weights) => {
    state.weights = weights;
    moved();
  });
  showSecond = control($("second"), soup.objectives, "Second preference", (weights) => {
    state.second = weights;
    moved();
  });
  for (const [name, weights] of Object.entries(soup.preferences)) {
    const own = soup.objectives.map((objective) => weights[objective]);
    const chip = make("button", { type: "button", textContent: name, value: text(soup.objectives, own) });
    chip.addEventListener("click", () => {
      state.weights = own;
      show(own);
      moved();
    });
    $("named").append(chip);
  }
  layOutOutcome($("outcome"), soup, (weights) => {
    state.weights = weights;
    show(weights);
    moved();
  }, failed);
  for (const example of soup.examples) {
    const chip = make("button", { type: "button", textContent: example });
    chip.addEventListener("click", () => {
      $("prompt").value = example;
      remember();
      send();
    });
    $("examples").append(chip);
  }
  const counts = soup.objectives.length === 2 ? [5, 7, 11] : [points(soup.objectives.length).length];
  for (const count of [...counts, 0]) $("points").append(make("option", { value: count }, count ? `${count} preferences` : "off"));
  $("seeds").parentElement.hidden = !soup.rewards;
  const options = soup.methods.slice(1).map((method) => [method, NAMES[method] ?? method]);
  for (const [value, label] of [...options, ["second", "A second preference"], ["none", "Nothing"]]) {
    $("beside").append(make("option", { value }, label));
  }
  if (soup.front) {
    $("front").append(make("ul", { className: "legend" }), make("div", { className: "planes" }));
  } else {
    $("front").append(make("p", { className: "note" }, "This soup has not been measured: nothing is known of its scores."));
    $("expected").hidden = true;
  }
  $("temperature").value = soup.generation.temperature;
  $("tokens").value = soup.generation.max_new_tokens;
  $("seed").value = 1;
  $("work").hidden = false;
  document.body.classList.toggle("wide", soup.objectives.length > 2);
  recall();
}

async function begin() {
  try {
    soup = await json("/v1/soup");
  } catch (error) {
    failed(error);
    return;
  }
  $("gate").hidden = true;
  layOut();
  await changed();
}

$("gate").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value.trim());
  $("gate").hidden = true;
  tell("");
  if (soup) changed();
  else begin();
});
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
// A field that is wrong must be seen.
$("ask").addEventListener("invalid", () => { $("ask").querySelector("details").open = true; }, true);
$("prompt").addEventListener("keydown", (event) => {
  // An input method confirms its choice by Enter.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
$("stop").addEventListener("click", () => {
  running?.abort();
  sweeping?.abort();
});
$("points").addEventListener("change", layOutStrip);
$("beside").addEventListener("change", () => {
  state.beside = $("beside").value;
  compared();
});
for (const field of FIELDS) $(field).addEventListener("input", remember);
$("curl").addEventListener("click", () => copy(curl, "curl"));
$("python").addEventListener("click", () => copy(python, "Python"));
$("adapter").addEventListener("click", download);
// The address holds the view: the link to the prompt must not overwrite it.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("prompt").focus();
});
addEventListener("hashchange", () => {
  if (!soup) return;
  recall();
  compared();
});
// A phone's address bar comes and goes: only another width is drawn anew.
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return;
  width = innerWidth;
  draw();
});
begin();
