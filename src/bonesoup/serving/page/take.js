// What people take with them: the request as code, the soup's adapter, a picture of the front.

import { make, text, weighed } from "./preference.js";
import { picture } from "./picture.js";
import { $, asked, state } from "./state.js";
import { call, curl, python } from "./talk.js";

// `request` returns the body of the answer on the left; `failed` reports an error.
export function layOut(request, failed) {
  $("curl").addEventListener("click", () => copy(curl, "curl", request));
  $("python").addEventListener("click", () => copy(python, "Python", request));
  $("adapter").addEventListener("click", () => adapter().catch(failed));
  $("picture").addEventListener("click", () => front().catch(failed));
  $("picture").hidden = !state.soup.front || state.soup.objectives.length > 3;
}

// The command that makes the same soup where it was trained.
export function commandLine() {
  $("line").textContent = `bonesoup soup --preference ${text(state.soup.objectives, state.weights)} --out soups/mine`;
}

async function copy(write, what, request) {
  if (!$("ask").reportValidity()) return;
  const content = write(request());
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

function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  $("done").textContent = name;
}

async function adapter() {
  const { model, weights } = asked(0);
  const query = new URLSearchParams({ model, preference: text(state.soup.objectives, weights) });
  const answer = await call(`/v1/soup/adapter?${query}`);
  const [, name] = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition"));
  save(await answer.blob(), name);
}

async function front() {
  const { soup, weights } = state;
  const title = `${soup.name} at ${weighed(soup.objectives, weights)}`;
  save(await picture($("front"), title, $("unit").textContent), `${soup.name.replaceAll("/", "-")}-front.png`);
}
