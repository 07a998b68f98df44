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
  $("#shown").textContent = shown === tests.length ? `${shown} tests` : `${shown} of ${tests.length} tests`;
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
const unpack = async (element) => {
  const bytes = Uint8Array.from(atob(element.textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};
const unpacked = new Map();
const heldFor = (id) => {
  const place = id.startsWith("f") ? $("#held-curves") : $$("script.held")[Math.floor(Number(id.slice(1)) / Number(root.dataset.chunk))];
  if (!unpacked.has(place)) unpacked.set(place, unpack(place).then(JSON.parse));
  return unpacked.get(place).then((all) => all[id]);
};

// Charts: the library is run when the first one is needed, and each chart is drawn when its place comes into view.
const specs = $("#specs") ? JSON.parse($("#specs").textContent) : null;
const drawn = new Map();
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
const draw = async (place, chart) => {
  drawn.set(place, chart);
  const embed = await library();
  const theme = specs.themes[isDark() ? "dark" : "light"];
  const spec = fill(specs.specs[chart.kind], { ...theme.words, ...chart.words });
  const filled = (layer) => !layer.data || (Object.values(chart.data[layer.data.name] ?? {})[0] ?? []).length > 0;
  if (spec.layer) spec.layer = spec.layer.filter(filled);
  spec.datasets = Object.fromEntries(Object.entries(chart.data).map(([name, columns]) => [name, records(columns)]));
  spec.config = theme.config;
  spec.width = "container";
  spec.autosize = { type: "fit-x", contains: "padding" };
  spec.description = `Chart: ${chart.title}`; // the library names its container by it
  const options = { ast: true, actions: false, renderer: "svg", defaultStyle: false, logLevel: 1, tooltip: { disableDefaultStyle: true } };
  try {
    await embed(place, spec, options);
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
// What stands open further down is drawn when the browser has nothing else to do: a picture or a print of the whole page
// never scrolls there.
const whenIdle = window.requestIdleCallback ?? ((work) => setTimeout(work, 200));
const drawOpen = async () => {
  const [place] = [...waiting.keys()].filter((one) => one.offsetParent);
  if (!place) return;
  await drawNow(place);
  whenIdle(drawOpen);
};
async function drawIn(holder) {
  if (holder.dataset.drawn) return;
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
  if (own.html) $(".inside", holder).innerHTML = own.html;
  if (!specs) return;
  $$(".canvas[data-chart]", holder).forEach((place) => {
    waiting.set(place, own.charts[Number(place.dataset.chart)]);
    watcher.observe(place);
  });
}
function redraw() {
  drawn.forEach((chart, place) => draw(place, chart));
}
$$("details.family").forEach((family) => {
  if (family.open) drawIn(family).then(() => whenIdle(drawOpen));
  family.addEventListener("toggle", () => family.open && drawIn(family));
});
addEventListener("beforeprint", () => { printing = true; redraw(); });
addEventListener("afterprint", () => { printing = false; redraw(); });

try {
  const kept = localStorage.getItem("slmperf-theme");
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
} catch { /* storage may be off */ }
if (folded) filter();
showTheme();
// After load: the browser's own jump to the fragment would take the focus away again.
addEventListener("load", () => requestAnimationFrame(follow));
root.dataset.ready = "yes";
performance.mark("slmperf-ready");
})();
