// The mixing desk: a preference, what to expect of it, and answers at it beside another's.

import { bars, legend, NAMES, planes, table } from "./front.js";
import { control, make, parse, text } from "./preference.js";
import { call, curl, json, python, Refused, stream } from "./talk.js";

const $ = (id) => document.getElementById(id);
const state = { weights: [], second: [], beside: "", seed: 1 };
let soup;
let running = null;

function tell(message) {
  $("notice").textContent = message;
  $("notice").hidden = !message;
}

// A missing token is asked for; anything else is said.
function failed(error) {
  if (error instanceof Refused && error.status === 401) {
    sessionStorage.removeItem("token");
    $("gate").hidden = false;
    $("token").focus();
    return;
  }
  tell(error.message);
}

function remember() {
  const kept = new URLSearchParams({ at: text(soup.objectives, state.weights), beside: state.beside, seed: $("seed").value });
  if (state.beside === "second") kept.set("second", text(soup.objectives, state.second));
  history.replaceState(null, "", `#${kept}`);
}

function recall() {
  const kept = new URLSearchParams(location.hash.slice(1));
  const even = soup.objectives.map((name) => soup.default[name]);
  state.weights = parse(soup.objectives, kept.get("at") ?? "") ?? even;
  state.second = parse(soup.objectives, kept.get("second") ?? "") ?? even;
  state.beside = [...$("beside").options].some((option) => option.value === kept.get("beside")) ? kept.get("beside") : $("beside").value;
  $("beside").value = state.beside;
  $("seed").value = kept.get("seed") ?? state.seed;
}

// Model name and preference of the answer on the left (0) and on the right (1).
function asked(side) {
  const method = side === 0 || state.beside === "second" ? soup.methods[0] : state.beside;
  const weights = side === 1 && state.beside === "second" ? state.second : state.weights;
  return { method, weights, model: soup.models[method] };
}

function body(side) {
  const { model, weights } = asked(side);
  const chosen = Object.fromEntries(text(soup.objectives, weights).split(",").map((part) => part.split("=")).map(([name, value]) => [name, Number(value)]));
  return {
    model,
    preference: chosen,
    messages: [{ role: "user", content: $("prompt").value }],
    seed: Number($("seed").value),
    temperature: Number($("temperature").value),
    max_tokens: Number($("tokens").value),
  };
}

const meaning = (model, weights) =>
  json(`/v1/soup/coefficients?${new URLSearchParams({ model, preference: text(soup.objectives, weights) })}`);

let latest = 0;

async function changed() {
  remember();
  const turn = (latest += 1);
  const given = text(soup.objectives, state.weights);
  $("line").textContent = `bonesoup soup --preference ${given} --out soups/mine`;
  for (const chip of $("named").children) chip.setAttribute("aria-pressed", String(chip.value === given));
  titles();
  try {
    const measured = soup.methods.filter((method) => soup.front?.methods[method]);
    const methods = measured.length ? measured : [soup.methods[0]];
    const found = await Promise.all(methods.map((method) => meaning(soup.models[method], state.weights)));
    // Of several changes the last counts, whichever answer comes last.
    if (turn !== latest) return;
    const here = Object.fromEntries(methods.map((method, i) => [method, found[i].expected]));
    const mine = methods.indexOf(soup.methods[0]) >= 0 ? found[methods.indexOf(soup.methods[0])] : await meaning(soup.name, state.weights);
    bars($("mix"), soup.policies, mine.coefficients);
    explain(mine);
    if (soup.front) {
      planes($("front").lastElementChild, soup.front, measured, here);
      table($("expected"), soup.front, measured, here);
      const unit = soup.front.unit === "gold" ? "true score" : "learned reward";
      const ways = Object.values(here).map((point) => point?.from);
      const between = ways.includes("interpolated") ? "; between two measured points" : ways.includes("nearest") ? "; at the nearest measured point" : "";
      $("unit").textContent = `${unit} in standard deviations of the SFT model, ${Math.round(soup.front.confidence * 100)} % interval over test prompts${between}`;
    }
    document.body.dataset.shown = given;
    tell("");
  } catch (error) {
    failed(error);
  }
}

function explain(mine) {
  const negative = Object.values(mine.coefficients).some((value) => value < -5e-4);
  const rest = `They sum to ${mine.sum.toFixed(2)}; the larger their sizes (${mine.l1.toFixed(2)} in all), the further the soup goes beyond what was trained.`;
  $("why").textContent = negative
    ? `Each policy was trained on a mix of objectives. The coefficients are those with which the mixes add up to exactly what you ask for: beyond a policy's own mix, part of another is taken away again, hence the minus. ${rest}`
    : `Each policy was trained on a mix of objectives. The coefficients are those with which the mixes add up to exactly what you ask for. ${rest}`;
}

function titles() {
  const two = $("answers").children;
  two[1].hidden = state.beside === "none";
  two[1].className = `card ${state.beside === "second" ? "second" : state.beside}`;
  $("second").hidden = state.beside !== "second";
  for (const side of [0, 1]) {
    const { method, weights } = asked(side);
    const at = method === "sft" ? "any preference" : text(soup.objectives, weights).replaceAll(",", ", ").replaceAll("=", " ");
    $(`who-${side}`).replaceChildren(NAMES[method] ?? method, make("span", {}, at));
  }
}

async function answer(side, signal) {
  const card = $("answers").children[side];
  const [out, meta] = [card.querySelector(".answer"), card.querySelector(".meta")];
  const started = performance.now();
  out.textContent = "";
  meta.textContent = "";
  out.className = "answer busy";
  try {
    for await (const piece of stream(body(side), signal)) {
      if (typeof piece === "string") out.append(piece);
      else meta.textContent = `${piece.usage.completion_tokens} tokens in ${((performance.now() - started) / 1000).toFixed(2)} s${piece.reason === "length" ? ", cut at the limit" : ""}`;
    }
  } catch (error) {
    if (error.name === "AbortError") meta.textContent = "stopped";
    else if (error instanceof Refused && error.status === 401) failed(error);
    else {
      out.textContent = error.message;
      out.classList.add("wrong");
    }
  } finally {
    out.classList.remove("busy");
  }
}

async function send() {
  running?.abort();
  const mine = (running = new AbortController());
  $("stop").hidden = false;
  const sides = state.beside === "none" ? [0] : [0, 1];
  await Promise.all(sides.map((side) => answer(side, mine.signal)));
  if (running === mine) {
    running = null;
    $("stop").hidden = true;
  }
}

async function copy(content, what) {
  try {
    await navigator.clipboard.writeText(content);
    $("done").textContent = `${what} copied`;
  } catch {
    // Without permission or HTTPS the clipboard is closed: show it to be copied by hand.
    tell(content);
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
  const show = control($("pick"), soup.objectives, "Preference", (weights) => {
    state.weights = weights;
    changed();
  });
  const showSecond = control($("second"), soup.objectives, "Second preference", (weights) => {
    state.second = weights;
    titles();
    remember();
  });
  for (const [name, weights] of Object.entries(soup.preferences)) {
    const own = soup.objectives.map((objective) => weights[objective]);
    const chip = make("button", { type: "button", textContent: name, value: text(soup.objectives, own) });
    chip.addEventListener("click", () => {
      state.weights = own;
      show(own);
      changed();
    });
    $("named").append(chip);
  }
  const options = soup.methods.slice(1).map((method) => [method, NAMES[method] ?? method]);
  for (const [value, label] of [...options, ["second", "A second preference"], ["none", "Nothing"]]) {
    $("beside").append(make("option", { value }, label));
  }
  if (soup.front) {
    $("front").append(make("ul", { className: "legend" }), make("div", { className: "planes" }));
    legend($("front").firstElementChild, soup.methods.filter((method) => soup.front.methods[method]));
  } else {
    $("front").append(make("p", { className: "note" }, "This soup has not been measured: nothing is known of its scores."));
    $("expected").hidden = true;
  }
  $("temperature").value = soup.generation.temperature;
  $("tokens").value = soup.generation.max_new_tokens;
  recall();
  show(state.weights);
  showSecond(state.second);
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
  sessionStorage.setItem("token", $("token").value);
  if (soup) $("gate").hidden = true;
  else begin();
});
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
$("stop").addEventListener("click", () => running?.abort());
$("beside").addEventListener("change", () => {
  state.beside = $("beside").value;
  titles();
  remember();
});
$("seed").addEventListener("change", remember);
$("curl").addEventListener("click", () => copy(curl(body(0)), "curl"));
$("python").addEventListener("click", () => copy(python(body(0)), "Python"));
$("adapter").addEventListener("click", download);
begin();
