// The common part of the dialogs for changes: what will happen is said by the server before it does.

import { request } from "./api.js";
import { Dialog, say } from "./dialog.js";
import { $, h, setHidden, setText } from "./dom.js";

const PAUSE = 200;

let dialog;
let current = null;
let timer = null;
let asking = null;

/// Prepares the dialog.
export function prepareChange() {
  dialog = new Dialog($("change-dialog"), () => {
    asking?.abort();
    clearTimeout(timer);
    current = null;
  });
  const form = $("change-form");
  form.addEventListener("input", (event) => {
    if (event.target.name === "reason" || event.target.name === "force") return ready();
    // A figure chooses what it belongs to.
    const radio = event.target.closest(".choice")?.querySelector("input[type=radio]");
    if (radio) radio.checked = true;
    lookAhead(PAUSE);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
}

/// Opens the dialog for a change. It has a `title`, the state `now`, a `legend` and `choices`; and `requestFor`, which makes of
/// the fields a request, with the words about it: `{ method, path, kept, body, button, sentences, done }`. `kept` is the override that
/// the page shows, or null: if another operator has changed it meanwhile, the server changes nothing.
export function open(change) {
  current = change;
  /// Overrides that others have changed meanwhile, as the server said, by path.
  change.known = new Map();
  const form = $("change-form");
  form.reset();
  setText($("change-title"), change.title);
  setText($("change-now"), change.now);
  $("change-choices").replaceChildren(h("legend", {}, change.legend), ...change.choices.map(choice));
  setText($("change-fault"), "");
  setHidden($("change-choices"), change.choices.length === 0);
  dialog.open($("change-choices").querySelector("input:checked") ?? $("change-submit"));
  lookAhead(0);
}

function choice({ value, text, hint, isChosen, isDisabled, figure }) {
  const input = h("input", { type: "radio", name: "choice", value, checked: isChosen, disabled: isDisabled });
  const words = h("span", { class: "words" }, h("strong", {}, text), hint ? h("span", { class: "note" }, ` ${hint}`) : null);
  const label = h("label", { class: "choice" }, input, words);
  if (!figure) return label;
  const percent = h("input", { name: "percent", type: "number", min: "0", max: "1000", step: "1", value: figure, "aria-label": "Percent of the configured weight" });
  return h("div", { class: "choice" }, label, h("span", { class: "percent" }, percent, " %"));
}

function fields() {
  const { elements } = $("change-form");
  const value = (name) => elements[name]?.value?.trim() ?? "";
  return { choice: value("choice"), percent: value("percent"), length: value("for"), reason: value("reason"), force: elements.force.checked };
}

/// Asks the server what the change would do. Until it is known, the change cannot be sent.
function lookAhead(delay) {
  asking?.abort();
  clearTimeout(timer);
  setText($("change-fault"), "");
  const change = current;
  const wanted = change.requestFor(fields());
  setHidden($("change-terms"), !wanted?.hasTerms);
  change.preview = null;
  // The consequences of an earlier choice would pass for those of this one.
  show([], wanted !== null);
  ready();
  if (!wanted) return;
  setText($("change-submit"), wanted.button);
  timer = setTimeout(() => preview(change, wanted), delay);
}

/// Shows consequences, or that they are asked for.
function show(said, isAsking, needsForce = false) {
  $("change-consequences").replaceChildren(...said.map((text) => h("li", {}, `${text}.`)));
  setHidden($("change-asking"), !isAsking);
  setHidden($("change-force"), !needsForce);
  $("change-form").elements.force.checked = false;
  $("change-preview").dataset.level = needsForce ? "trouble" : "fine";
}

async function preview(change, wanted) {
  asking = new AbortController();
  const { signal } = asking;
  try {
    const told = await request(dry(wanted), { ...wanted, headers: expected(change, wanted), body: wanted.body && { ...wanted.body, force: false, dry_run: true }, signal });
    if (signal.aborted || current !== change) return;
    change.preview = told;
    const said = [...wanted.sentences, ...told.consequences.map((text) => `${text[0].toUpperCase()}${text.slice(1)}`)];
    show(said, false, told.needs_force);
  } catch (error) {
    if (signal.aborted || current !== change) return;
    if (error.status === 412) return changedMeanwhile(change, wanted, error);
    show([], false);
    setText($("change-fault"), error.message);
  }
  ready();
}

const dry = ({ path, method }) => (method === "PUT" ? path : `${path}?dry_run=true`);

function ready() {
  const told = current?.preview;
  $("change-submit").disabled = !told || (told.needs_force && !fields().force);
}

async function apply() {
  if ($("change-submit").disabled) return;
  const { force, ...others } = fields();
  const change = current;
  const wanted = change.requestFor({ force, ...others });
  $("change-submit").disabled = true;
  try {
    const isPut = wanted.method === "PUT";
    const path = !isPut && force ? `${wanted.path}?force=true` : wanted.path;
    const told = await request(path, { ...wanted, headers: expected(change, wanted), body: isPut ? { ...wanted.body, force } : undefined });
    // The dialog may be closed meanwhile, or open for another change.
    if (current === change) dialog.close();
    say([wanted.done(told), lost(told)].filter(Boolean).join(". "));
    change.onDone();
  } catch (error) {
    if (current !== change) {
      say(`${change.title}: ${error.message}`);
      return;
    }
    if (error.status === 412) return changedMeanwhile(change, wanted, error);
    // The state may have changed since the preview.
    setText($("change-fault"), error.message);
    if (error.status === 409) {
      lookAheadAgain();
    } else {
      ready();
    }
  }
}

/// The condition that the override is still the one that the operator has seen.
function expected(change, { path, kept }) {
  if (kept === undefined) return {};
  const seen = change.known.has(path) ? change.known.get(path) : kept;
  return seen ? { "If-Match": seen.etag } : { "If-None-Match": "*" };
}

/// Shows the change of the other operator, and asks again.
function changedMeanwhile(change, { path }, { problem }) {
  const other = problem.current ?? null;
  change.known.set(path, other);
  const what = other && (other.state ?? other.pool ?? `${other.percent} %`);
  const why = other?.reason ? `, because: ${other.reason}` : "";
  setText($("change-fault"), other
    ? `Another operator has set ${what} meanwhile (${other.by ?? "unknown"}${why}). Nothing has changed yet: confirm to replace it`
    : "Another operator has ended it meanwhile. Nothing has changed yet: confirm to set it again");
  lookAheadAgain();
}

function lookAheadAgain() {
  const said = $("change-fault").textContent;
  lookAhead(0);
  setText($("change-fault"), said);
}

const lost = ({ survives_restart: survives, lost_because: why }) => (survives === false ? `It does not survive a restart: ${why}` : "");
