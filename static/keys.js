// The API Keys page beyond HTML and htmx: the clipboard, the expiry date in the reader's zone, small helps in the form.
// Every page works without this file.
"use strict";

(() => {
  const say = (kind, text) => document.dispatchEvent(new CustomEvent("toast", { detail: { kind, text } }));

  // The clipboard. It exists on HTTPS and localhost only; elsewhere a selection is copied the old way.

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
    if (!text) return;
    event.detail.shouldSwap = false;
    const name = asker(event).dataset.copyKey;
    finishCopy(copies.get(event.detail.xhr), text).then((copied) => {
      if (copied) say("success", `Copied the key “${name}”`);
      else showInstead(html);
    });
  });

  document.addEventListener("htmx:afterRequest", (event) => {
    if (isCopy(event) && event.detail.xhr.status !== 200) copies.get(event.detail.xhr)?.reject(new Error("no key"));
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
    const text = from.value ?? from.textContent;
    if (await finishCopy(null, text)) {
      say("success", `Copied ${button.dataset.copyWhat}`);
    } else {
      if (from.select) from.select();
      else getSelection().selectAllChildren(from);
      say("info", "Your browser does not let this page copy. Copy the selected text yourself.");
    }
  }

  // The expiry date: the server speaks UTC until this says how far the reader's clock is from it.

  const two = (number) => String(number).padStart(2, "0");
  const asInput = (at) =>
    `${String(at.getFullYear()).padStart(4, "0")}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}`;

  function setUpExpiry(box) {
    const input = box.querySelector("input[name=expires]");
    const offset = box.querySelector("input[name=expires_offset]");
    if (offset.value === "") {
      const stored = new Date(`${input.value}Z`);
      if (input.value && !Number.isNaN(stored.getTime())) {
        input.value = asInput(stored);
        // Of that very moment: in the hour that comes twice, the clock alone does not tell.
        offset.value = stored.getTimezoneOffset();
      } else {
        offset.value = new Date().getTimezoneOffset();
      }
    }
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    box.querySelector("[data-zone]").textContent = zone ? `your time zone, ${zone}` : "your time zone";
    const measure = () => {
      const at = new Date(input.value);
      offset.value = (Number.isNaN(at.getTime()) ? new Date() : at).getTimezoneOffset();
    };
    input.addEventListener("input", measure);
    const picks = box.querySelector("[data-quick-picks]");
    picks.hidden = false;
    picks.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const at = new Date();
      at.setDate(at.getDate() + Number(button.dataset.days));
      input.value = button.dataset.days === "" ? "" : asInput(at);
      measure();
    });
  }

  // A limit that is typed is meant; Unlimited Credits that is ticked clears it.

  function setUpLimit(box) {
    const limit = box.querySelector("input[name=credit_limit]");
    const unlimited = box.querySelector("input[name=unlimited]");
    let typed = "";
    limit.addEventListener("input", () => {
      if (limit.value.trim()) unlimited.checked = false;
    });
    unlimited.addEventListener("change", () => {
      if (unlimited.checked) {
        typed = limit.value;
        limit.value = "";
      } else {
        limit.value = typed;
        limit.focus();
      }
    });
  }

  function addLine(button) {
    const field = document.getElementById(button.dataset.addTo);
    const lines = field.value.split("\n").map((line) => line.trim()).filter(Boolean);
    if (!lines.includes(button.dataset.addLine)) lines.push(button.dataset.addLine);
    field.value = lines.join("\n");
    field.focus();
  }

  document.addEventListener("click", (event) => {
    const copy = event.target.closest("[data-copy-from]");
    if (copy) copyBeside(copy);
    const add = event.target.closest("[data-add-line]");
    if (add) addLine(add);
  });

  document.addEventListener("focusin", (event) => {
    if (event.target.matches("[data-select]")) event.target.select();
  });

  // After a dialog: if what opened it is gone (a deleted row), the keyboard goes on at the top of the page.
  let opener = null;
  const dialog = document.getElementById("dialog");
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.target === dialog && !dialog.open) opener = document.activeElement;
  });
  dialog?.addEventListener("close", () => {
    if (document.activeElement && document.activeElement !== document.body) return;
    const back = opener?.isConnected ? opener : opener?.id ? document.getElementById(opener.id) : null;
    (back ?? document.getElementById("create-key"))?.focus();
  });

  const parts = [
    ["[data-expiry]", setUpExpiry],
    ["[data-limit]", setUpLimit],
    ["[data-copy-from], [data-add-line]", (button) => (button.hidden = false)],
    [".key-apply", (button) => (button.hidden = true)],
  ];

  function setUp(root) {
    for (const [selector, set] of parts) {
      for (const part of root.querySelectorAll(selector)) {
        if (part.dataset.ready) continue;
        part.dataset.ready = "true";
        set(part);
      }
    }
  }

  document.addEventListener("htmx:afterSwap", () => setUp(document));
  setUp(document);
})();
