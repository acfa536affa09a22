// The forms of API keys beyond HTML and htmx: the expiry date in the reader's zone, small helps in the form.
// Every page works without this file.
"use strict";

(() => {
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

  // The example price of the group that is chosen.

  function setUpExample(line) {
    const menu = document.getElementById(line.dataset.exampleOf);
    const show = () => {
      line.textContent = menu.selectedOptions[0]?.dataset.example ?? "";
      line.hidden = line.textContent === "";
    };
    menu.addEventListener("change", show);
    show();
  }

  function addLine(button) {
    const field = document.getElementById(button.dataset.addTo);
    const lines = field.value.split("\n").map((line) => line.trim()).filter(Boolean);
    if (!lines.includes(button.dataset.addLine)) lines.push(button.dataset.addLine);
    field.value = lines.join("\n");
    field.focus();
  }

  document.addEventListener("click", (event) => {
    const add = event.target.closest("[data-add-line]");
    if (add) addLine(add);
  });

  const parts = [
    ["[data-expiry]", setUpExpiry],
    ["[data-limit]", setUpLimit],
    ["[data-example-of]", setUpExample],
    ["[data-add-line]", (button) => (button.hidden = false)],
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
