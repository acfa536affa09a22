// What the pages do beyond HTML and htmx: toasts, the dialog, the theme, local times, showing a password.
// Every page works without this file.
"use strict";

// Toasts: from the server by the event `toast` ({kind, text}), or already in the page after a redirect.

const TOAST_MS = 6000;

function showToast(kind, text) {
  const place = document.getElementById("toasts");
  const template = document.querySelector("#toast-templates")?.content.querySelector(`[data-toast="${CSS.escape(kind)}"]`);
  if (!place || !template) return;
  const toast = template.cloneNode(true);
  toast.querySelector(".toast-text").textContent = text;
  place.append(toast);
  startToast(toast);
  // The top layer's newest is on top: above an open dialog.
  place.popover = "manual";
  if (place.matches(":popover-open")) place.hidePopover();
  place.showPopover();
}

function startToast(toast) {
  const close = toast.querySelector("[data-close-toast]");
  close.hidden = false;
  close.addEventListener("click", () => toast.remove());
  // What went wrong stays until it is closed; the rest stays as long as somebody points at it.
  if (toast.dataset.toast === "error") return;
  let timer;
  const start = () => (timer = setTimeout(() => toast.remove(), TOAST_MS));
  const stop = () => clearTimeout(timer);
  toast.addEventListener("mouseenter", stop);
  toast.addEventListener("mouseleave", start);
  toast.addEventListener("focusin", stop);
  toast.addEventListener("focusout", start);
  start();
}

document.addEventListener("toast", (event) => showToast(event.detail.kind, event.detail.text));

// Answers that are not ours (a proxy's), or none at all.
document.addEventListener("htmx:responseError", (event) => {
  if (!event.detail.xhr.getResponseHeader("HX-Trigger")) {
    showToast("error", "Something went wrong. Try again in a moment.");
  }
});
for (const name of ["htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(name, () => showToast("error", "The server could not be reached. Check your connection and try again."));
}

// htmx sends no form with a field that the browser refuses. The browser says so, unless somebody is writing in it.
document.addEventListener("htmx:validation:failed", (event) => {
  if (event.target !== document.activeElement) event.target.reportValidity();
});

// What is about to be replaced says so; the bar on top is the style's.
document.addEventListener("htmx:beforeRequest", (event) => event.detail.target?.setAttribute("aria-busy", "true"));
document.addEventListener("htmx:afterRequest", (event) => event.detail.target?.removeAttribute("aria-busy"));

// The dialog: opens when the server has put something into it.

const dialog = document.getElementById("dialog");
let opener = null;

function openDialog() {
  // The server may answer with a dialog where none was asked for.
  if (!dialog.open) {
    opener ??= document.activeElement;
    dialog.showModal();
  }
  // A form that came back refused: to the first wrong field. Else to the first there is.
  const fields = ".dialog-body :is(input:not([type=hidden], [readonly]), select, textarea)";
  (dialog.querySelector("[autofocus]") ?? dialog.querySelector(fields))?.focus();
}

function closeDialog() {
  if (dialog?.open) dialog.close();
}

if (dialog) {
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.target !== dialog || dialog.open) return;
    const focused = document.activeElement;
    opener = focused && focused !== document.body ? focused : event.detail.elt;
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target === dialog && dialog.childElementCount > 0) openDialog();
  });
  document.addEventListener("closeDialog", closeDialog);
  document.addEventListener("click", (event) => {
    // As a page of its own it is a link back.
    if (dialog.open && event.target.closest("[data-close-dialog]")) {
      event.preventDefault();
      closeDialog();
    }
  });
  // A press that begins on the backdrop; not one that began by selecting text inside.
  dialog.addEventListener("mousedown", (event) => {
    const box = dialog.getBoundingClientRect();
    const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
    if (event.target === dialog && !inside) closeDialog();
  });
  dialog.addEventListener("close", () => {
    dialog.replaceChildren(); // it may have shown a secret
    // The row it was opened from may have been replaced by a newer one with the same ids; if it is gone (deleted),
    // the keyboard goes on at the top of the page.
    const back = opener?.isConnected ? opener : opener?.id ? document.getElementById(opener.id) : null;
    (back ?? document.querySelector("[data-main-action]"))?.focus();
    opener = null;
  });
}

// The focus: htmx gives it back to the element of the same id. Where there is none any more, it goes to what took the
// place: to the pager's other link, or to the whole.

let lost = null;
document.addEventListener("htmx:beforeSwap", (event) => {
  lost = event.detail.target.contains(document.activeElement) ? document.activeElement : null;
});
document.addEventListener("htmx:afterSettle", (event) => {
  const { target } = event.detail;
  if (!lost || target === dialog || document.activeElement !== document.body) return;
  const place = document.getElementById(target.id);
  const link = lost.closest(".pager") && place?.querySelector(".pager a");
  if (place && !link) place.tabIndex = -1;
  (link || place)?.focus({ preventScroll: true });
});

// The theme: `light`, `dark` or `system`, kept in this browser.

function setUpTheme() {
  const read = () => {
    try {
      return localStorage.getItem("theme") ?? "system";
    } catch {
      return "system";
    }
  };
  const switches = document.querySelectorAll("[data-theme-switch]");
  const mark = () => {
    for (const button of document.querySelectorAll("[data-theme-switch] button")) {
      button.setAttribute("aria-pressed", String(button.value === read()));
    }
  };
  for (const element of switches) {
    element.hidden = false;
    element.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      try {
        localStorage.setItem("theme", button.value);
      } catch {
        showToast("info", "Your browser does not let this page remember the theme.");
      }
      document.dispatchEvent(new Event("keyhouse:theme"));
      mark();
    });
  }
  window.addEventListener("storage", mark);
  mark();
}

// Times: the server writes UTC; `data-local` is `date` or empty for date and time.

function localizeTimes(root) {
  for (const time of root.querySelectorAll("time[data-local]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const whole = { dateStyle: "medium", timeStyle: "short" };
    const shown = time.dataset.local === "date" ? { dateStyle: "medium" } : whole;
    time.textContent = new Intl.DateTimeFormat(undefined, shown).format(at);
    time.title = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" }).format(at);
  }
}

document.addEventListener("htmx:afterSettle", () => {
  localizeTimes(document);
  setUpPasswords(document);
});

// Passwords: a button shows what was typed.

function setUpPasswords(root) {
  for (const button of root.querySelectorAll("[data-show-password][hidden]")) {
    const input = document.getElementById(button.dataset.showPassword);
    button.hidden = false;
    button.addEventListener("click", () => {
      const shown = input.type === "password";
      input.type = shown ? "text" : "password";
      button.setAttribute("aria-pressed", String(shown));
    });
    // So that no browser remembers it as ordinary text.
    input.form?.addEventListener("submit", () => (input.type = "password"));
  }
}

// The phone's menu closes like one.
document.addEventListener("keydown", (event) => {
  const menu = document.querySelector(".shell-menu[open]");
  if (event.key === "Escape" && menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// Many ticks at once.
for (const buttons of document.querySelectorAll("[data-tick-buttons]")) {
  buttons.hidden = false;
  buttons.addEventListener("click", (event) => {
    const tick = event.target.closest("[data-tick]")?.dataset.tick;
    if (!tick) return;
    for (const box of buttons.closest("form").querySelectorAll("input[name=tick]")) box.checked = tick === "all";
  });
}

// The file is deferred: the page is there.
document.querySelectorAll("#toasts [data-toast]").forEach(startToast);
setUpTheme();
localizeTimes(document);
setUpPasswords(document);
