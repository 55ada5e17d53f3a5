// The token of the server: asked for once, and kept for this tab only.

import { Dialog } from "./dialog.js";
import { $, setHidden, setText } from "./dom.js";

const KEY = "steerd.token";

let listener = () => {};
let waiting = null;
/// Whether the dialog was closed without a token, so that it opens again only when a person asks for something.
let isDeclined = false;
let dialog;

export const tokenOfTab = () => sessionStorage.getItem(KEY);

/// Prepares the dialog. `onChange` is called when this tab has another token, or none any more.
export function prepareToken(onChange) {
  listener = onChange;
  dialog = new Dialog($("token-dialog"), () => settle(false));
  $("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const token = $("token-input").value.trim();
    if (!/^[\x21-\x7e]{16,1024}$/.test(token)) {
      setText($("token-fault"), "A token has 16 to 1024 visible characters, without spaces.");
      return;
    }
    sessionStorage.setItem(KEY, token);
    showButton();
    settle(true);
    dialog.close();
    listener();
  });
  $("token-forget").addEventListener("click", () => {
    sessionStorage.removeItem(KEY);
    showButton();
    dialog.close();
    listener();
  });
  $("token-button").addEventListener("click", () => askForToken(null).catch(() => {}));
  showButton();
}

/// Shows that the server has, or may have, a token.
export function showButton(isNeeded = false) {
  setHidden($("token-button"), !isNeeded && tokenOfTab() === null);
}

/// Asks for the token unless that was declined before; then its button is there.
export function askForTokenOnce(refused) {
  if (isDeclined) showButton(true);
  else askForToken(refused).catch(() => {});
}

/// Asks for the token. `refused` is the reply that makes it necessary, if any. Ends when this tab has another token, and
/// throws if the person does not give one.
export function askForToken(refused) {
  const had = tokenOfTab();
  showButton(true);
  setText($("token-why"), had === null || !refused ? "Changes need it, and on some servers reading too." : "");
  setText($("token-fault"), refused && had !== null ? "The server does not accept this token. Its token may have changed." : "");
  setHidden($("token-forget"), had === null);
  $("token-input").value = "";
  waiting ??= Promise.withResolvers();
  waiting.refused = refused ?? new Error("no token was given");
  dialog.open($("token-input"));
  return waiting.promise;
}

function settle(isGiven) {
  const asked = waiting;
  waiting = null;
  if (isGiven) {
    isDeclined = false;
    asked?.resolve();
  } else if (asked) {
    isDeclined = true;
    asked.reject(asked.refused);
  }
}
