(() => {
"use strict";
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const table = $("#table");
const tests = $$("tbody.test", table);
const dark = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;

// Theme: the reader's choice, else the system's.
let printing = false; // paper is white
const isDark = () => printing ? false : root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
const themeButton = $("#theme");
const showTheme = () => {
  themeButton.setAttribute("aria-pressed", String(isDark()));
  redraw();
};
themeButton.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("slmperf-theme", root.dataset.theme); } catch { /* storage may be off */ }
  showTheme();
});
dark.addEventListener("change", showTheme);

// Sort: tests move as a whole, with their section.
const keys = {
  name: (test) => $(".name", test).textContent,
  rank: (test) => Number(test.dataset.rank),
  change: (test) => test.dataset.change === "" ? -Infinity : Number(test.dataset.change),
};
const collator = new Intl.Collator("en", { numeric: true });
const order = new Map(tests.map((test, index) => [test, index]));
const sortBy = (button) => {
  const header = button.closest("th");
  const first = button.dataset.sort === "change" ? "descending" : "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const direction = header.getAttribute("aria-sort") === first ? other : first;
  $$("th[aria-sort]", table.tHead).forEach((cell) => cell.setAttribute("aria-sort", cell === header ? direction : "none"));
  const sign = direction === "ascending" ? 1 : -1;
  const values = new Map(tests.map((test) => [test, keys[button.dataset.sort](test)]));
  tests.sort((a, b) => {
    const x = values.get(a), y = values.get(b);
    const difference = typeof x === "string" ? collator.compare(x, y) : x === y ? 0 : x < y ? -1 : 1;
    return sign * difference || order.get(a) - order.get(b);
  });
  table.append(...tests);
};
table.tHead.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-sort]");
  if (button) sortBy(button);
});

// Filter by outcome and search.
const search = $("#search");
const chips = $$(".chip[data-filter]");
const texts = new Map();
const textOf = (test) => {
  if (!texts.has(test)) {
    texts.set(test, [test.dataset.id, ...$$(".row .metric", test).map((node) => node.textContent)].join(" ").toLowerCase());
  }
  return texts.get(test);
};
// On a very long page the calm tests are listed once they are asked for: by the button, a search or a chip.
const unfold = $("#unfold");
const calm = new Set(["same", "measured"]);
let folded = Boolean(unfold);
unfold?.addEventListener("click", () => { folded = false; unfold.remove(); filter(); });
const filter = () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = new Set(chips.filter((chip) => chip.getAttribute("aria-pressed") === "true").map((chip) => chip.dataset.filter));
  const whole = !wanted.size && !words.length;
  let shown = 0;
  for (const test of tests) {
    const fits = (!wanted.size || wanted.has(test.dataset.outcome)) && words.every((word) => textOf(test).includes(word))
      && !(folded && whole && calm.has(test.dataset.outcome));
    test.hidden = !fits;
    shown += fits;
  }
  const noun = tests.length === 1 ? "test" : "tests";
  $("#shown").textContent = shown === tests.length ? `${shown} ${noun}` : `${shown} of ${tests.length} ${noun}`;
  $("#none").hidden = shown > 0;
};
chips.forEach((chip) => chip.addEventListener("click", () => {
  chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
  filter();
}));
let pending = 0;
search.addEventListener("input", () => { cancelAnimationFrame(pending); pending = requestAnimationFrame(filter); });
$("#reset").addEventListener("click", () => {
  search.value = "";
  chips.forEach((chip) => chip.setAttribute("aria-pressed", "false"));
  filter();
  search.focus();
});

// Open and close a test's section.
const setOpen = (test, open) => {
  $(".detail", test).hidden = !open;
  $(".open", test).setAttribute("aria-expanded", String(open));
  test.toggleAttribute("data-open", open);
  if (open) drawIn(test);
};
table.addEventListener("click", (event) => {
  const row = event.target.closest(".row");
  if (!row || event.target.closest("a, button:not(.open)") || String(getSelection())) return;
  const test = row.closest(".test");
  setOpen(test, $(".detail", test).hidden);
});
$("#expand").addEventListener("click", () => {
  tests.filter((test) => !calm.has(test.dataset.outcome) && !test.hidden).forEach((test) => setOpen(test, true));
});
const follow = () => {
  const test = document.getElementById(location.hash.slice(1));
  if (!test?.classList.contains("test")) return;
  if (test.hidden) {
    $("#reset").click();
    test.hidden = false; // one that is folded
  }
  setOpen(test, true);
  test.scrollIntoView({ block: "start" });
  $(".open", test).focus({ preventScroll: true });
};
addEventListener("hashchange", follow);
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#t"]');
  if (link && link.getAttribute("href") === location.hash) follow();
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    search.focus();
  } else if (event.key === "Escape") {
    if (event.target === search) { search.value = ""; filter(); return; }
    const test = event.target.closest(".test[data-open]");
    if (test) { setOpen(test, false); $(".open", test).focus(); }
  }
});

// What is packed: sections of calm tests on a crowded page, the charts' data, the chart library.
// Not by way of a Blob: another process hands out its bytes, and a headless browser on virtual time does not wait for that.
const unpack = async (element) => {
  const bytes = Uint8Array.from(atob(element.textContent), (letter) => letter.charCodeAt(0));
  const { writable, readable } = new DecompressionStream("gzip");
  const writer = writable.getWriter();
  for (const sent of [writer.write(bytes), writer.close()]) sent.catch(() => { /* whoever reads is told */ });
  return new Response(readable).text();
};
const unpacked = new Map();
const heldFor = (id) => {
  const place = id.startsWith("f") ? $("#held-curves") : $$("script.held")[Math.floor(Number(id.slice(1)) / Number(root.dataset.chunk))];
  if (!unpacked.has(place)) unpacked.set(place, unpack(place).then(JSON.parse));
  return unpacked.get(place).then((all) => all[id]);
};

// Charts: each is drawn when its place comes into view or the browser has nothing else to do.
const specs = $("#specs") ? JSON.parse($("#specs").textContent) : null;
const drawn = new Map();
const views = new Map();
let libraryPromise = null;
const library = () => libraryPromise ??= unpack($("#vega")).then((source) => {
  const script = document.createElement("script");
  script.textContent = source;
  document.head.append(script);
  return window.vegaEmbed;
});
const fill = (node, words) => {
  if (typeof node === "string" && /^\$\w+$/.test(node) && Object.hasOwn(words, node.slice(1))) return words[node.slice(1)];
  if (typeof node === "string") return node.replace(/\$(\w+)/g, (whole, word) => Object.hasOwn(words, word) ? words[word] : whole);
  if (Array.isArray(node)) return node.map((item) => fill(item, words));
  if (node && typeof node === "object") return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, fill(value, words)]));
  return node;
};
const records = (columns) => {
  const names = Object.keys(columns);
  return (columns[names[0]] ?? []).map((_, index) => Object.fromEntries(names.map((name) => [name, columns[name][index]])));
};
const PAPER = { wide: 680, half: 330 }; // px of a chart on A4
const widthOf = (place) => !printing ? "container" : place.closest(".wide") ? PAPER.wide : PAPER.half;
const draw = async (place, chart) => {
  drawn.set(place, chart);
  const theme = specs.themes[isDark() ? "dark" : "light"];
  const spec = fill(specs.specs[chart.kind], { ...theme.words, ...chart.words });
  const filled = (layer) => !layer.data || (Object.values(chart.data[layer.data.name] ?? {})[0] ?? []).length > 0;
  if (spec.layer) spec.layer = spec.layer.filter(filled);
  spec.datasets = Object.fromEntries(Object.entries(chart.data).map(([name, columns]) => [name, records(columns)]));
  spec.config = theme.config;
  spec.width = widthOf(place);
  spec.autosize = { type: "fit-x", contains: "padding" };
  spec.description = `Chart: ${chart.title}`; // the library names its container by it
  const options = { ast: true, actions: false, renderer: "svg", defaultStyle: false, logLevel: 1, tooltip: { disableDefaultStyle: true } };
  try {
    const embed = await library();
    views.get(place)?.finalize();
    views.set(place, await embed(place, spec, options));
    place.setAttribute("role", "img");
    place.firstElementChild?.setAttribute("aria-hidden", "true"); // the sentence below says what it shows
  } catch (error) {
    place.textContent = `This chart could not be drawn: ${error.message}`;
  }
};
const waiting = new Map();
const drawNow = (place) => {
  watcher.unobserve(place);
  const chart = waiting.get(place);
  waiting.delete(place);
  return chart && draw(place, chart);
};
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) drawNow(entry.target);
}, { rootMargin: "300px" });
// What stands open further down is drawn when idle: a picture of the whole page never scrolls there. The timeout is for
// browsers that are never idle, a headless one on virtual time among them.
const whenIdle = (work) => window.requestIdleCallback ? requestIdleCallback(work, { timeout: 200 }) : setTimeout(work, 50);
let drawing = false;
function drawOpen() {
  if (drawing) return;
  const place = [...waiting.keys()].find((one) => one.offsetParent);
  if (!place) return;
  drawing = true;
  whenIdle(async () => {
    await drawNow(place);
    drawing = false;
    drawOpen();
  });
}
async function drawIn(holder) {
  if (holder.dataset.drawn) return drawOpen();
  holder.dataset.drawn = "yes";
  let own;
  try {
    own = await heldFor(holder.id);
  } catch (error) {
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = `The charts could not be unpacked: ${error.message}`;
    ($(".inside", holder) ?? holder).append(note);
    return;
  }
  if (own.html) {
    $(".inside", holder).innerHTML = own.html;
    watchSides(holder);
  }
  if (!specs) return;
  $$(".canvas[data-chart]", holder).forEach((place) => {
    waiting.set(place, own.charts[Number(place.dataset.chart)]);
    watcher.observe(place);
  });
  drawOpen();
}
function redraw() {
  drawn.forEach((chart, place) => draw(place, chart));
}
$$("details.family").forEach((family) => {
  if (family.open) drawIn(family);
  family.addEventListener("toggle", () => family.open && drawIn(family));
});

// Paper shows every section that is not calm, and waits for nothing that takes a task: once their data and the library are
// unpacked, the charts can be drawn while the browser still tells the page that it is going to print.
const unpackForPaper = async () => {
  const noted = specs ? tests.filter((test) => !calm.has(test.dataset.outcome)) : [];
  if (noted.length) await library();
  for (const test of noted) await drawIn(test);
};
const isPrinted = (place) => {
  const test = place.closest(".test");
  if (!test) return place.closest("details").open;
  return !test.hidden && (test.hasAttribute("data-open") || !calm.has(test.dataset.outcome));
};
const toPaper = () => {
  if (printing) return;
  printing = true;
  redraw();
  [...waiting.keys()].filter(isPrinted).forEach(drawNow);
};
const fromPaper = () => {
  if (!printing) return;
  printing = false;
  drawn.forEach((chart, place) => place.offsetParent ? draw(place, chart) : putBack(place, chart));
};
// A chart that only paper showed has paper's width and colours.
const putBack = (place, chart) => {
  views.get(place)?.finalize();
  views.delete(place);
  drawn.delete(place);
  place.replaceChildren();
  waiting.set(place, chart);
  watcher.observe(place);
};
addEventListener("beforeprint", toPaper);
addEventListener("afterprint", fromPaper);
matchMedia("print").addEventListener("change", ({ matches }) => matches ? toPaper() : fromPaper());

// Which tables go on to the right of what is seen.
const sides = new ResizeObserver((entries) => entries.forEach(({ target }) => showMore(target.closest(".scroll"))));
const showMore = (box) => box.toggleAttribute("data-more", box.scrollWidth - box.clientWidth - box.scrollLeft > 1);
const watchSides = (holder) => $$(".scroll", holder).forEach((box) => {
  sides.observe(box);
  sides.observe(box.firstElementChild);
  box.addEventListener("scroll", () => showMore(box), { passive: true });
});
watchSides();

try {
  const kept = localStorage.getItem("slmperf-theme");
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
} catch { /* storage may be off */ }
if (folded) filter();
showTheme();
// After load: the browser's own jump to the fragment would take the focus away again.
addEventListener("load", () => { requestAnimationFrame(follow); whenIdle(unpackForPaper); });
root.dataset.ready = "yes";
performance.mark("slmperf-ready");
})();
