// Draws the charts of the pages with usage, from the tables beside them: each canvas names its table. Colours are
// Tabler's, so they follow the theme; patterns tell the parts apart without them.
"use strict";

const COLOURS = ["blue", "orange", "green", "purple", "cyan", "red", "yellow", "pink", "secondary"];
const drawn = new Map();

/** A colour of the theme as a canvas understands it: whatever it is mixed from, worked out. */
function css(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

/** A tile of 8 × 8: plain, stripes of four kinds, dots, a grid, waves … in a colour. */
function pattern(index, colour) {
  if (index === 0) return colour;
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const pen = tile.getContext("2d");
  pen.fillStyle = colour;
  pen.fillRect(0, 0, 8, 8);
  pen.strokeStyle = pen.fillStyle = css("--tblr-bg-surface");
  pen.lineWidth = 1.5;
  const line = (...points) => {
    pen.beginPath();
    for (let at = 0; at < points.length; at += 4) {
      pen.moveTo(points[at], points[at + 1]);
      pen.lineTo(points[at + 2], points[at + 3]);
    }
    pen.stroke();
  };
  const dot = (x, y, radius) => {
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fill();
  };
  const draw = [
    () => line(-2, 2, 2, -2, -2, 10, 10, -2, 6, 10, 10, 6),
    () => dot(4, 4, 1.75),
    () => line(0, 4, 8, 4),
    () => line(-2, 6, 2, 10, -2, -2, 10, 10, 6, -2, 10, 2),
    () => line(4, 0, 4, 8),
    () => line(0, 4, 8, 4, 4, 0, 4, 8),
    () => { dot(2, 2, 1.25); dot(6, 6, 1.25); },
    () => line(-2, 2, 2, -2, -2, 10, 10, -2, 6, 10, 10, 6, -2, 6, 2, 10, -2, -2, 10, 10, 6, -2, 10, 2),
  ];
  draw[(index - 1) % draw.length]();
  return pen.createPattern(tile, "repeat");
}

/** The columns of a table: their heads, and a number for each row. */
function read(table) {
  const heads = [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent);
  const rows = [...table.tBodies[0].rows];
  const column = (index) => rows.map((row) => Number(row.cells[index + 1].dataset.value));
  return { times: rows.map((row) => row.cells[0].textContent), columns: heads.map((head, index) => ({ head, values: column(index) })) };
}

/** Which columns a chart shows, and what its numbers are divided by. */
const KINDS = {
  stack: { pick: (columns) => columns.slice(0, -1), divisor: 1e6, unit: "credits" },
  requests: { pick: (columns) => columns.slice(0, 2), divisor: 1, unit: "requests" },
  tokens: { pick: (columns) => columns.slice(2), divisor: 1, unit: "tokens" },
};

function colourOf(kind, index) {
  // What failed is red wherever it stands.
  if (kind === "requests") return css(index === 0 ? "--tblr-blue" : "--tblr-red");
  return css(`--tblr-${COLOURS[index % COLOURS.length]}`);
}

function draw(canvas) {
  const table = document.getElementById(canvas.dataset.table);
  const kind = KINDS[canvas.dataset.chart];
  if (!table || !kind) return;
  drawn.get(canvas)?.destroy();
  canvas.parentElement.hidden = false;
  const { times, columns } = read(table);
  const short = times.map((time) => (time.length > 10 ? time.slice(11) : time.slice(5)));
  const text = css("--tblr-body-color");
  const grid = css("--tblr-border-color");
  const datasets = kind.pick(columns).map((column, index) => ({
    label: column.head,
    data: column.values.map((value) => value / kind.divisor),
    backgroundColor: pattern(index, colourOf(canvas.dataset.chart, index)),
    borderColor: css("--tblr-bg-surface"),
    borderWidth: { top: 1 },
    borderSkipped: false,
    maxBarThickness: 48,
  }));
  const numbers = new Intl.NumberFormat(undefined, { maximumFractionDigits: 6 });
  const brief = new Intl.NumberFormat(undefined, { notation: "compact", maximumSignificantDigits: 3 });
  drawn.set(canvas, new Chart(canvas, {
    type: "bar",
    data: { labels: short, datasets },
    options: {
      animation: false,
      maintainAspectRatio: false,
      interaction: { mode: "index", intersect: false },
      scales: {
        x: { stacked: true, grid: { display: false }, border: { color: grid }, ticks: { color: text, maxRotation: 0, autoSkipPadding: 12 } },
        y: { stacked: true, beginAtZero: true, grid: { color: grid }, border: { display: false }, ticks: { color: text, maxTicksLimit: 6, callback: (value) => brief.format(value) } },
      },
      plugins: {
        legend: { position: "bottom", align: "start", labels: { color: text, boxWidth: 16, boxHeight: 12 } },
        tooltip: {
          callbacks: {
            title: (items) => `${times[items[0].dataIndex]} (UTC)`,
            label: (item) => `${item.dataset.label}: ${numbers.format(item.parsed.y)} ${kind.unit}`,
          },
        },
      },
    },
  }));
}

function drawAll() {
  for (const [canvas, chart] of drawn) {
    if (canvas.isConnected) continue;
    chart.destroy();
    drawn.delete(canvas);
  }
  document.querySelectorAll("canvas[data-chart]").forEach(draw);
}

document.addEventListener("htmx:afterSettle", (event) => {
  if (event.target.querySelector?.("canvas[data-chart]") || event.target.closest?.("#usage") === event.target) drawAll();
});
// theme.js has set the theme by then.
document.addEventListener("keyhouse:theme", () => requestAnimationFrame(drawAll));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => requestAnimationFrame(drawAll));
drawAll();
