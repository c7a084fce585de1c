// Errors that concern the whole page: a line at the top, or the question for a token.

import { $ } from "./state.js";
import { Refused } from "./talk.js";

export function tell(message) {
  $("notice").textContent = message;
  $("notice").hidden = !message;
}

// Asks for the token if that is what is missing.
export function failed(error) {
  if (error instanceof Refused && error.status === 401) {
    tell(sessionStorage.getItem("token") ? "The server refused this token." : "");
    sessionStorage.removeItem("token");
    $("gate").hidden = false;
    $("token").focus();
    return;
  }
  tell(error.message);
}
