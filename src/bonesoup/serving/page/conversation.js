// The conversation: turns that come before the prompt, at every preference, and the system prompt.

import { markdown } from "./markdown.js";
import { make } from "./preference.js";
import { $ } from "./state.js";

let turns = [];

// The messages of a request for an answer to the prompt.
export function messages() {
  const system = $("system").value.trim();
  return [
    ...(system ? [{ role: "system", content: system }] : []),
    ...turns,
    { role: "user", content: $("prompt").value },
  ];
}

export const said = () => turns;

export function resume(given) {
  turns = given;
  const items = turns.map(({ role, content }) => {
    const text = role === "user" ? [content] : markdown(content);
    return make("li", {}, make("strong", {}, role === "user" ? "You" : "Answer"), make("div", {}, ...text));
  });
  $("turns").replaceChildren(...items);
  $("conversation").hidden = turns.length === 0;
}

// An answer joins the conversation, with the messages it was asked by.
export function reply(asked, answer) {
  resume([...asked.filter(({ role }) => role !== "system"), { role: "assistant", content: answer }]);
  $("prompt").value = "";
  $("prompt").focus();
}

// `changed` is called after the buttons have changed the conversation.
export function layOut(changed) {
  $("back").addEventListener("click", () => {
    // The last question returns to the prompt, where it can be put differently.
    $("prompt").value = turns.at(-2).content;
    resume(turns.slice(0, -2));
    $("prompt").focus();
    changed();
  });
  $("fresh").addEventListener("click", () => {
    resume([]);
    $("prompt").focus();
    changed();
  });
}
