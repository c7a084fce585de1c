// The browser's memory of this soup: questions that were asked, and preferences under names of one's choice.

import { resume, said } from "./conversation.js";
import { make, text } from "./preference.js";
import { $, state } from "./state.js";
import { view } from "./view.js";

// Most questions, and most characters of them all: browsers keep some five million for a site.
const [MOST, LARGEST] = [30, 1e6];

const key = (kind) => `bonesoup/${state.soup.name}/${state.soup.objectives.join()}/${kind}`;
const read = (kind) => JSON.parse(localStorage.getItem(key(kind)) ?? "[]");

function write(kind, entries) {
  localStorage.setItem(key(kind), JSON.stringify(entries));
}

// Each entry is {view, prompt, turns}; with the seed in its view, asking again gives the same answer.
export function note() {
  const entry = { view: view(), prompt: $("prompt").value, turns: said() };
  const others = read("history").filter(({ view: other, turns }) => other !== entry.view || turns.length !== entry.turns.length);
  const entries = [entry, ...others].slice(0, MOST);
  while (JSON.stringify(entries).length > LARGEST) entries.pop();
  write("history", entries);
  showHistory();
}

function showHistory() {
  const entries = read("history");
  $("history").hidden = entries.length === 0;
  $("asked").replaceChildren(...entries.map((entry) => {
    const at = new URLSearchParams(entry.view).get("at").replaceAll("=", "\u00a0").replaceAll(",", ", ");
    const open = make("button", { type: "button", className: "take" }, entry.prompt);
    open.addEventListener("click", () => {
      resume(entry.turns);
      $("system").value = "";
      history.replaceState(null, "", `#${entry.view}`);
      dispatchEvent(new Event("hashchange"));
      $("prompt").focus();
    });
    return make("li", {}, open, make("span", { className: "note" }, at));
  }));
}

// Chips of the saved preferences; `chosen(weights)` is called when one is taken.
function showSaved(chosen) {
  for (const old of $("named").querySelectorAll(".saved")) old.remove();
  for (const { name, weights } of read("preferences")) {
    const chip = make("button", { type: "button", value: text(state.soup.objectives, weights) }, name);
    chip.addEventListener("click", () => chosen(weights));
    const remove = make("button", { type: "button", className: "remove", ariaLabel: `Forget ${name}` }, "×");
    remove.addEventListener("click", () => {
      write("preferences", read("preferences").filter((other) => other.name !== name));
      showSaved(chosen);
    });
    $("named").append(make("span", { className: "saved" }, chip, remove));
  }
}

export function layOut(chosen) {
  showHistory();
  showSaved(chosen);
  $("forget").addEventListener("click", () => {
    write("history", []);
    showHistory();
  });
  const form = $("save").querySelector("form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const name = form.elements.name.value.trim();
    const others = read("preferences").filter((other) => other.name !== name);
    write("preferences", [...others, { name, weights: state.weights }]);
    form.reset();
    $("save").open = false;
    showSaved(chosen);
    chosen(state.weights);
  });
}
