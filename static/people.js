// The pages of users beyond HTML and htmx: the balance that a grant would leave. Every page works without this file.
"use strict";

(() => {
  // Micro-credits as whole numbers, so that nothing is rounded.
  const MICROS = 1000000n;

  function micros(text) {
    const parts = /^([+-]?)(\d{1,10})(?:\.(\d{1,6}))?$/.exec(text.trim());
    if (!parts) return null;
    const amount = BigInt(parts[2]) * MICROS + BigInt((parts[3] ?? "").padEnd(6, "0"));
    return parts[1] === "-" ? -amount : amount;
  }

  function forPeople(amount) {
    const size = amount < 0n ? -amount : amount;
    const whole = (size / MICROS).toString().replace(/\B(?=(\d{3})+$)/g, "\u202F");
    const rest = (size % MICROS).toString().padStart(6, "0").replace(/0+$/, "");
    return `${amount < 0n ? "-" : ""}${whole}${rest ? `.${rest}` : ""}`;
  }

  document.addEventListener("input", (event) => {
    if (event.target.id !== "form-amount") return;
    const facts = event.target.form.querySelector("[data-balance]");
    const after = facts?.querySelector("[data-balance-after]");
    if (!after) return;
    const amount = micros(event.target.value);
    after.hidden = amount === null;
    if (amount !== null) after.querySelector("dd").textContent = forPeople(BigInt(facts.dataset.balance) + amount);
  });
})();
