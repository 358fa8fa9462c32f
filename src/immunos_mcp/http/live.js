"use strict";
// Shows the report anew whenever the ledger has changed, and says whether changes are still heard of.

const RETRY_MILLISECONDS = 10000;
const state = document.getElementById("live");
let isShowing = false;
let isStale = false;

function tell(words) {
  // The element is announced to screen readers, so only what is new is written.
  if (state.textContent !== words) state.textContent = words;
}

function pathOf(element, root) {
  const path = [];
  for (let at = element; at !== root; at = at.parentElement) path.unshift([...at.parentElement.children].indexOf(at));
  return path;
}

function at(path, root) {
  return path.reduce((element, place) => element && element.children[place], root);
}

// Puts new content into a part of the page, and leaves what the reader opened, scrolled and focused as it was.
function replace(root, fresh) {
  const open = [...root.querySelectorAll("details[open]")].map((each) => pathOf(each, root));
  const scrolled = [...root.querySelectorAll(".scroll")].filter((each) => each.scrollLeft).map((each) => [pathOf(each, root), each.scrollLeft]);
  const focused = root.contains(document.activeElement) && document.activeElement !== root ? pathOf(document.activeElement, root) : null;
  root.replaceChildren(...fresh.childNodes);
  for (const path of open) at(path, root)?.setAttribute("open", "");
  for (const [path, left] of scrolled) { const element = at(path, root); if (element) element.scrollLeft = left; }
  if (focused) at(focused, root)?.focus({ preventScroll: true });
}

async function show() {
  if (isShowing || document.hidden) { isStale = true; return; }
  isShowing = true;
  isStale = false;
  try {
    const answer = await fetch(location.href);
    if (answer.status === 401) { location.reload(); return; }
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const name of ["header", "main"]) replace(document.querySelector(name), fresh.querySelector(name));
    document.title = fresh.title;
    tell("Live");
  } catch {
    tell("Not up to date: the report could not be loaded");
  } finally {
    isShowing = false;
  }
  if (isStale) show();
}

function listen() {
  const events = new EventSource("events");
  let hasOpened = false;
  events.onopen = () => { tell("Live"); if (hasOpened) show(); hasOpened = true; };
  events.addEventListener("change", show);
  events.onerror = () => {
    tell("Not live: the server does not answer; trying again");
    if (events.readyState === EventSource.CLOSED) setTimeout(() => { listen(); show(); }, RETRY_MILLISECONDS);
  };
}

document.addEventListener("visibilitychange", () => { if (!document.hidden && isStale) show(); });
listen();
