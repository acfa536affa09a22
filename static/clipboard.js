// The clipboard: forms with `data-copy-key` answer with a key that goes to the clipboard, buttons with `data-copy-from`
// copy what stands beside them. Every page works without this file.
"use strict";

(() => {
  const say = (kind, text) => document.dispatchEvent(new CustomEvent("toast", { detail: { kind, text } }));

  // It exists on HTTPS and localhost only; elsewhere a selection is copied the old way.

  // Safari wants the write to begin with the click, so it begins before the text is there.
  function beginCopy() {
    if (!navigator.clipboard?.write || !window.ClipboardItem) return null;
    let settle;
    const text = new Promise((resolve, reject) => (settle = { resolve, reject }));
    try {
      const item = new ClipboardItem({ "text/plain": text.then((plain) => new Blob([plain], { type: "text/plain" })) });
      const written = navigator.clipboard.write([item]);
      written.catch(() => {}); // answered for in finishCopy
      return { ...settle, written };
    } catch {
      text.catch(() => {});
      return null; // a browser that takes no promises
    }
  }

  async function finishCopy(begun, text) {
    try {
      if (!begun) throw new Error("nothing begun");
      begun.resolve(text);
      await begun.written;
      return true;
    } catch {
      try {
        await navigator.clipboard.writeText(text);
        return true;
      } catch {
        return copySelection(text);
      }
    }
  }

  function copySelection(text) {
    const focused = document.activeElement;
    const field = document.createElement("textarea");
    field.value = text;
    field.readOnly = true;
    field.className = "visually-hidden";
    // Outside an open dialog nothing can be selected.
    (document.querySelector("dialog[open]") ?? document.body).append(field);
    field.select();
    let copied = false;
    try {
      copied = document.execCommand("copy");
    } catch {
      copied = false;
    }
    field.remove();
    focused?.focus();
    return copied;
  }

  // Copy in a row: the server answers with the key in a field. It goes to the clipboard; only if the browser
  // refuses is the field shown.

  const copies = new WeakMap(); // request → the copy begun for it
  const asker = (event) => event.detail.requestConfig.elt; // the event itself may be at the target
  const isCopy = (event) => asker(event).matches("form[data-copy-key]");

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (isCopy(event)) copies.set(event.detail.xhr, beginCopy());
  });

  document.addEventListener("htmx:beforeSwap", (event) => {
    if (!isCopy(event) || event.detail.xhr.status !== 200) return;
    const html = event.detail.serverResponse;
    const answer = new DOMParser().parseFromString(html, "text/html");
    const text = answer.querySelector("[data-select]")?.value;
    if (!text) return; // a form that asks for the second factor first
    event.detail.shouldSwap = false;
    const { copyKey: name } = asker(event).dataset;
    const begun = copies.get(event.detail.xhr);
    copies.delete(event.detail.xhr);
    finishCopy(begun, text).then((copied) => {
      if (!copied) return showInstead(html);
      document.dispatchEvent(new Event("closeDialog")); // that form, if it was asked for
      say("success", `Copied the key “${name}”`);
    });
  });

  document.addEventListener("htmx:afterRequest", (event) => {
    if (isCopy(event)) copies.get(event.detail.xhr)?.reject(new Error("no key"));
  });

  function showInstead(html) {
    const dialog = document.getElementById("dialog");
    dialog.innerHTML = html;
    if (!dialog.open) dialog.showModal();
    dialog.querySelector("[data-select]").select();
    say("info", "Your browser does not let this page copy. Copy the selected key yourself.");
  }

  // Buttons that copy what stands beside them.
  async function copyBeside(button) {
    const from = document.getElementById(button.dataset.copyFrom);
    const text = from.dataset.copyText ?? from.value ?? from.textContent;
    if (await finishCopy(null, text)) {
      say("success", `Copied ${button.dataset.copyWhat}`);
    } else {
      if (from.select) from.select();
      else getSelection().selectAllChildren(from);
      say("info", "Your browser does not let this page copy. Copy the selected text yourself.");
    }
  }

  document.addEventListener("click", (event) => {
    const copy = event.target.closest("[data-copy-from]");
    if (copy) copyBeside(copy);
  });

  document.addEventListener("focusin", (event) => {
    if (event.target.matches("[data-select]")) event.target.select();
  });

  const show = () => document.querySelectorAll("[data-copy-from]").forEach((button) => (button.hidden = false));
  document.addEventListener("htmx:afterSwap", show);
  show();
})();
