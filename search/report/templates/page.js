"use strict";
// What a reader can do: sort and filter tables, copy commands, move through steps, point at charts. Nothing is loaded.

const each = (selector, act, within = document) => within.querySelectorAll(selector).forEach(act);

// Steps: one at a time, and the same one when the page is loaded again.
each(".steps", (steps) => {
  const contents = [...steps.children].filter((child) => child.classList.contains("step"));
  const slider = steps.querySelector("input[type=range]");
  const label = steps.querySelector("output");
  const key = `${document.title} ${steps.dataset.key}`;
  const memory = { get: () => { try { return sessionStorage.getItem(key); } catch { return null; } },
    set: (value) => { try { sessionStorage.setItem(key, value); } catch { /* of a page in a mail */ } } };
  const show = (number) => {
    contents.forEach((content, place) => { content.hidden = place !== number; });
    slider.value = number;
    label.textContent = contents[number].dataset.label;
    slider.setAttribute("aria-valuetext", label.textContent);
    drawCharts(contents[number]);
  };
  const go = (number) => {
    const within = Math.min(Math.max(number, 0), contents.length - 1);
    memory.set(within === Number(steps.dataset.first) ? "first" : String(within));
    show(within);
  };
  slider.addEventListener("input", () => go(Number(slider.value)));
  each("button.step", (button) => button.addEventListener("click", () => go(Number(slider.value) + Number(button.dataset.by))), steps);
  const before = memory.get();
  if (before !== null && before !== "first") go(Number(before));
});

// Tables: sorted and filtered as a whole, of which so many rows are on the page until someone asks for all.
const AT_ONCE = 200;
each(".table", (box) => {
  const body = box.querySelector("tbody");
  const headings = [...box.querySelectorAll("thead th")];
  const isNumber = headings.map((heading) => heading.classList.contains("number"));
  const numberOf = (text) => Number(text.replace(/[,%]/g, ""));

  // An entry is a row: its texts, and its element, made when it is first shown.
  const entries = [...body.rows].map((row) => ({ row, texts: [...row.cells].map((cell) => cell.textContent) }));
  const data = box.querySelector("script");
  const late = data ? JSON.parse(data.textContent) : { rows: [], marked: [] };
  const marked = new Set(late.marked);
  late.rows.forEach((cells, number) => entries.push({
    cells, marked: marked.has(number), texts: cells.map((cell) => (Array.isArray(cell) ? cell[0] : cell)),
  }));

  const made = (given, place) => {
    const [text, target, share] = Array.isArray(given) ? given : [given, "", null];
    const cell = document.createElement("td");
    if (isNumber[place]) cell.className = "number";
    if (share !== null) cell.style.setProperty("--share", share);
    if (target) {
      const link = cell.appendChild(document.createElement("a"));
      link.href = target;
      link.textContent = text;
    } else cell.textContent = text;
    return cell;
  };
  const rowOf = (entry) => {
    if (!entry.row) {
      entry.row = document.createElement("tr");
      if (entry.marked) entry.row.className = "marked";
      entry.row.append(...entry.cells.map(made));
    }
    return entry.row;
  };

  let shown = entries, most = AT_ONCE;
  const more = document.createElement("button");
  more.type = "button";
  more.className = "copy";
  more.addEventListener("click", () => { most = Infinity; show(); });
  const offer = (count) => {
    more.textContent = `Show all ${shown.length.toLocaleString("en")} rows`;
    if (shown.length > count) box.append(more); else more.remove();
  };
  const show = () => {
    body.replaceChildren(...shown.slice(0, most).map(rowOf));
    offer(most);
  };
  if (late.rows.length) offer(body.rows.length);

  headings.forEach((heading, place) => heading.querySelector("button").addEventListener("click", () => {
    // Of numbers the largest come first, of texts the first of the alphabet; cells without either are last.
    const [first, second] = isNumber[place] ? ["descending", "ascending"] : ["ascending", "descending"];
    const order = heading.getAttribute("aria-sort") === first ? second : first;
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", order);
    const alphabet = new Intl.Collator("en", { numeric: true });
    const compare = isNumber[place]
      ? (one, other) => numberOf(one) - numberOf(other)
      : (one, other) => alphabet.compare(one, other);
    const sign = order === "descending" ? -1 : 1;
    const sorted = (one, other) => {
      const [text, against] = [one.texts[place], other.texts[place]];
      return (text === "") - (against === "") || sign * compare(text, against);
    };
    entries.sort(sorted);
    shown = [...shown].sort(sorted);
    show();
  }));

  const filter = box.querySelector("input[type=search]");
  filter?.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = entries.filter((entry) => {
      const text = entry.texts.join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    show();
    box.querySelector(".count").textContent = words.length ? `${shown.length} of ${entries.length}` : "";
  });
});

// Commands: a click copies the line.
each(".commands .copy", (button) => button.addEventListener("click", async () => {
  const line = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(line.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(line);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}));

// Charts: what stands there is a picture; it is drawn again as wide as the page is, when it comes into sight.
function drawCharts(within) {
  if (!window.structnetCharts) return;
  each("[data-chart]:not([data-done])", (place) => { if (place.offsetParent !== null) seen.observe(place); }, within);
}
async function draw(place) {
  place.dataset.done = "";
  const found = structuredClone(specifications[place.dataset.chart]);
  const wide = place.clientWidth;
  found.padding = { left: 5, top: 5, bottom: 5, right: 14 };
  if (found.concat) { // charts side by side, where there is room
    found.columns = wide < 520 ? 1 : Math.min(found.columns, found.concat.length);
    found.concat.forEach((chart) => { chart.width = Math.max(150, wide / found.columns - 75); });
  } else Object.assign(found, { width: "container", autosize: { type: "fit-x", contains: "padding" } });
  if (wide < 480) found.config.legend.columns = wide < 340 ? 1 : 2;
  const picture = [...place.childNodes];
  const made = document.createElement("div");
  place.append(made);
  await structnetCharts(made, found, {
    renderer: "svg", mode: "vega-lite", downloadFileName: place.dataset.chart, tooltip: { theme: "custom" },
    actions: { export: true, source: false, compiled: false, editor: false },
  });
  picture.forEach((node) => node.remove());
  each("svg", (svg) => svg.setAttribute("aria-hidden", "true"), made); // what is around it says what it shows
  each("summary", (menu) => menu.setAttribute("aria-label", "Save this chart"), made);
}
const holder = document.getElementById("specifications");
const specifications = holder ? JSON.parse(holder.textContent) : {};
const drawing = [];
const seen = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
  seen.unobserve(entry.target);
  if (!("done" in entry.target.dataset)) drawing.push(draw(entry.target));
}), { rootMargin: "400px" });
drawCharts(document);
each("details", (folded) => folded.addEventListener("toggle", () => drawCharts(folded)));
document.body.dataset.ready = "";
