// The mixing desk: one prompt at many preferences, one preference to move, and what to expect of it.

import { body, clear, compared, follow, layOut as layOutAsk, layOutStrip, regenerate, send, stop, titles } from "./ask.js";
import { layOut as layOutBrowser } from "./browser.js";
import { layOut as layOutConversation } from "./conversation.js";
import { layOut as layOutExpected, look, redraw } from "./expected.js";
import { failed, tell } from "./notice.js";
import { layOut as layOutOutcome } from "./outcome.js";
import { control, make, text } from "./preference.js";
import { $, named, state } from "./state.js";
import { commandLine, layOut as layOutTake } from "./take.js";
import { json } from "./talk.js";
import { FIELDS, recall, remember } from "./view.js";

const controls = {};

// Everything that tells of the preference, after it or the comparison has changed.
function changed() {
  const given = text(state.soup.objectives, state.weights);
  for (const chip of $("named").querySelectorAll("[value]")) chip.setAttribute("aria-pressed", String(chip.value === given));
  commandLine();
  titles();
  remember();
  return look();
}

function moved() {
  changed();
  follow();
}

// Another preference, taken from a chip, an outcome or the strip.
function take(weights) {
  state.weights = weights;
  controls.weights(weights);
  moved();
}

function layOut() {
  const { soup } = state;
  const version = soup.version ? `, version ${soup.version}` : "";
  const beta = soup.beta ? `, β ${soup.beta.toFixed(2)}` : "";
  $("title").textContent = soup.objectives.join(" · ");
  $("about").textContent = `${soup.name}${version}: ${Object.keys(soup.policies).length} policies in one model${beta}. Each request is answered at its own preference; nothing is merged or loaded again.`;
  document.title = `${soup.name}: mixing desk`;
  for (const [part, host, label] of [["weights", "pick", "Preference"], ["second", "second", "Second preference"]]) {
    controls[part] = control($(host), soup.objectives, label, (weights) => {
      state[part] = weights;
      moved();
    });
  }
  for (const [name, weights] of Object.entries(soup.preferences)) {
    const values = soup.objectives.map((objective) => weights[objective]);
    const chip = make("button", { type: "button", textContent: name, value: text(soup.objectives, values) });
    chip.addEventListener("click", () => take(values));
    $("named").append(chip);
  }
  for (const example of soup.examples) {
    const chip = make("button", { type: "button", textContent: example });
    chip.addEventListener("click", () => {
      $("prompt").value = example;
      remember();
      send();
    });
    $("examples").append(chip);
  }
  const methods = soup.methods.slice(1).map((method) => [method, named(method)]);
  for (const [value, label] of [...methods, ["second", "A second preference"], ["none", "Nothing"]]) {
    $("beside").append(make("option", { value }, label));
  }
  $("temperature").value = soup.generation.temperature;
  $("tokens").value = soup.generation.max_new_tokens;
  $("seed").value = 1;
  $("system").closest("details").hidden = soup.system_messages === "refuse";
  $("folded").hidden = soup.system_messages !== "fold";
  document.body.classList.toggle("wide", soup.objectives.length > 2);
  $("work").hidden = false;
  layOutAsk(take);
  layOutConversation(clear);
  layOutExpected();
  layOutOutcome($("outcome"), soup, take, failed);
  layOutTake(() => body(0), failed);
  layOutBrowser(take);
  restore();
}

// The view that the address holds.
function restore() {
  recall();
  for (const [part, show] of Object.entries(controls)) show(state[part]);
  layOutStrip();
}

async function begin() {
  try {
    state.soup = await json("/v1/soup");
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
  if (state.soup) changed();
  else begin();
});
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
// A field that is wrong must be seen.
$("ask").addEventListener("invalid", (event) => { (event.target.closest("details") ?? {}).open = true; }, true);
for (const box of [$("prompt"), $("system")]) {
  box.addEventListener("keydown", (event) => {
    // An input method confirms its choice by Enter.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    $("ask").requestSubmit();
  });
}
$("stop").addEventListener("click", stop);
$("another").addEventListener("click", regenerate);
$("points").addEventListener("change", layOutStrip);
$("beside").addEventListener("change", () => {
  state.beside = $("beside").value;
  compared();
  changed();
});
for (const field of FIELDS) $(field).addEventListener("input", remember);
// The address holds the view: the link to the prompt must not overwrite it.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("prompt").focus();
});
addEventListener("hashchange", () => {
  if (!state.soup) return;
  restore();
  compared();
  changed();
});
// A phone's address bar comes and goes: the planes are drawn again only at another width.
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return;
  width = innerWidth;
  redraw();
});
begin();
