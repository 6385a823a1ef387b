// The page: the URL's query is the wish; controls write it, answers are drawn from it.
// Text goes into the page as text nodes alone, so no title or id can become markup.
"use strict";

const about = JSON.parse(document.getElementById("about").textContent);
const offer = about.offer;
const $ = (id) => document.getElementById(id);
let wish = new URLSearchParams(location.search);
let titles = {};  // item id -> title, of everything seen so far

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined));
  return node;
}
const number = (x, digits = 3) => x.toLocaleString("en", { maximumSignificantDigits: digits });
// As many digits in every row, so that a column of them can be compared: 54.0 below 92.2.
const figure = (x) => x.toLocaleString("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
const money = (x) => x.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const short = (part) => part.replace(/^part_/, "");
const colour = (part) => "p" + offer.parts.map(short).indexOf(part) % 6;
const say = (text) => { $("status").textContent = text; };

async function ask(path, signal) {
  const answer = await fetch(path, { signal });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error || answer.statusText);
  return found;
}
function fail(error) {
  if (error.name === "AbortError") return;
  $("error").textContent = error instanceof TypeError ? "The explorer does not answer; is it still running?" : error.message;
  $("error").hidden = false;
  say("");
}

// -- the wish --------------------------------------------------------------------------------

function set(name, values, { remember = false, wait = 0 } = {}) {
  wish.delete(name);
  for (const value of [values].flat()) if (value !== "" && value !== null) wish.append(name, value);
  store(remember);
  later(wait);
}
function store(remember) {
  const url = location.pathname + (String(wish) ? "?" + wish : "");
  history[remember ? "pushState" : "replaceState"](null, "", url);
}
let timer = 0;
function later(wait) { clearTimeout(timer); timer = setTimeout(refresh, wait); }

// -- a field that searches (ARIA combobox with a list) ----------------------------------------

function search(id, place, path, show, choose) {
  const list = el("ul", { class: "options", id: id + "-options", role: "listbox", hidden: true });
  const input = el("input", {
    id, type: "text", role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false",
    "aria-controls": list.id, spellcheck: "false", placeholder: id === "user" ? "id, or a part of it" : "words of a title",
  });
  let found = [], at = -1, asked = 0;
  const close = () => {
    list.hidden = true;
    at = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const mark = (to) => {
    at = (to + found.length) % found.length;
    [...list.children].forEach((li, i) => li.setAttribute("aria-selected", i === at));
    list.children[at].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", list.children[at].id);
  };
  const take = (one) => { close(); choose(one, input); };
  async function look() {
    const mine = ++asked;
    input.setAttribute("aria-busy", "true");
    try {
      const answer = await ask(path + encodeURIComponent(input.value));
      if (mine !== asked) return;
      input.removeAttribute("aria-busy");
      if (document.activeElement !== input) return;
      const marked = at >= 0 ? JSON.stringify(found[at]) : null;
      found = answer;
      list.replaceChildren(...found.map((one, i) => el("li", {
        role: "option", id: `${id}-${i}`, "aria-selected": "false",
        onmousedown: (event) => { event.preventDefault(); take(one); },
      }, ...show(one))));
      list.hidden = !found.length;
      input.setAttribute("aria-expanded", String(!!found.length));
      // An answer that comes late does not take away what is marked already.
      at = marked === null ? -1 : found.findIndex((one) => JSON.stringify(one) === marked);
      if (at >= 0) mark(at); else input.removeAttribute("aria-activedescendant");
    } catch (error) { fail(error); }
  }
  input.addEventListener("input", look);
  input.addEventListener("focus", look);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" && found.length) { event.preventDefault(); list.hidden ? look() : mark(at + 1); }
    else if (event.key === "ArrowUp" && found.length) { event.preventDefault(); mark(at - 1); }
    else if (event.key === "Escape") close();
    else if (event.key === "Enter") {
      event.preventDefault();
      if (at >= 0 && !list.hidden) take(found[at]); else choose(null, input);
      close();
    }
  });
  place.append(input, list);
}

// -- controls ----------------------------------------------------------------------------------

function build() {
  search("user", $("user-field"), "/api/users?q=",
    (one) => [el("span", {}, one.user_id), el("span", { class: "quiet" }, `${one.events} events`)],
    (one, input) => { input.value = one ? one.user_id : input.value.trim(); set("user_id", input.value, { remember: true }); });
  search("history", $("history-field"), "/api/items?q=",
    (one) => [el("span", {}, one.title), el("span", { class: "quiet" }, one.item_id)],
    (one, input) => {
      if (!one) return;
      titles[one.item_id] = one.title;
      input.value = "";
      set("history", [...wish.getAll("history"), one.item_id], { remember: true });
    });
  $("history-field").hidden = !offer.inputs.includes("history");
  for (const field of offer.fields) {
    if (field.kind === "vector") continue;
    const hint = field.of === "user" ? "as in the tables" : field.kind === "texts" ? "a, b, c" : "";
    $("fields").append(el("div", { class: "field" }, el("label", { for: "f-" + field.name }, field.name),
      el("input", { id: "f-" + field.name, type: "text", inputmode: field.kind === "number" ? "decimal" : null, placeholder: hint,
        oninput: (event) => set(field.name, event.target.value, { wait: 250 }) })));
  }
  $("k").addEventListener("input", (e) => { if (e.target.value) set("k", e.target.value, { wait: 150 }); });
  $("seen").addEventListener("change", (e) => set("seen", e.target.checked ? "1" : ""));
  if ($("by")) $("by").addEventListener("change", (e) => set("by", e.target.value));
  $("knobs").hidden = !offer.knobs.length;
  for (const knob of offer.knobs) {
    const turn = (event) => {
      const twin = event.target.id.startsWith("r-") ? "n-" : "r-";
      $(twin + knob.name).value = event.target.value;
      set(knob.name, event.target.value, { wait: 60 });
    };
    const step = knob.high / 100, id = knob.name;
    const own = knob.default === null ? "as the model is set; move it to change"
      : "default " + [...new Set(knob.defaults.map((d) => d === null ? "not known" : number(d)))].join(" and ");
    $("knobs").append(el("div", { class: "knob" },
      el("div", { class: "line" }, el("label", { for: "r-" + id }, knob.label),
        el("input", { id: "n-" + id, type: "number", step: "any", "aria-label": knob.label + ", as a number", placeholder: "own", oninput: turn })),
      el("input", { id: "r-" + id, type: "range", min: 0, max: knob.high, step, "aria-describedby": "d-" + id, oninput: turn }),
      el("div", { class: "quiet", id: "d-" + id }, own)));
  }
  $("choices").hidden = !offer.choices.length;
  for (const choice of offer.choices) {
    const more = el("input", { type: "text", "aria-label": `another value of ${choice.label}`, placeholder: `${choice.more} more: type one`, onkeydown: (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      if (event.target.value.trim()) set(choice.name, [...wish.getAll(choice.name), event.target.value.trim()], { remember: true });
      event.target.value = "";
    } });
    $("choices").append(el("details", { class: "choice", id: "c-" + choice.name }, el("summary", {}, choice.label + " ", el("span", { class: "quiet" })),
      el("div", { class: "scroll" }, choice.values.map(([value, count]) => el("label", {},
        el("input", { type: "checkbox", value, onchange: (event) => {
          const kept = wish.getAll(choice.name).filter((v) => v !== value);
          set(choice.name, event.target.checked ? [...kept, value] : kept);
        } }), value, el("span", {}, String(count))))),
      choice.more ? more : null, el("ul", { class: "chips" })));
  }
  $("reset").addEventListener("click", () => {
    for (const one of [...offer.knobs, ...offer.choices]) wish.delete(one.name);
    wish.delete("exclude"); store(true); paint(); refresh();
  });
  $("link").addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(location.href); say("Link copied."); } catch { say(location.href); }
  });
  $("controls").addEventListener("submit", (event) => event.preventDefault());
}

function chips(list, name, values) {
  list.replaceChildren(...values.map((value) => el("li", {}, titles[value] || value,
    el("button", { type: "button", "aria-label": `remove ${titles[value] || value}`,
      onclick: () => set(name, wish.getAll(name).filter((v) => v !== value), { remember: true }) }, "×"))));
}

// Brings the controls to what the wish says; the one being typed in stays as it is.
function paint() {
  const put = (node, value) => { if (node && node !== document.activeElement) node.value = value; };
  put($("user"), wish.get("user_id") || "");
  put($("k"), wish.get("k") || about.default_k);
  put($("by"), wish.get("by") || about.columns[0]);
  $("seen").checked = wish.get("seen") === "1";
  chips($("history-chips"), "history", wish.getAll("history"));
  chips($("exclude-chips"), "exclude", wish.getAll("exclude"));
  for (const field of offer.fields) put($("f-" + field.name), wish.get(field.name) || "");
  for (const knob of offer.knobs) {
    const value = wish.get(knob.name) ?? (knob.default === null ? "" : String(knob.default));
    put($("n-" + knob.name), value);
    put($("r-" + knob.name), value === "" ? knob.high / 2 : value);
    $("r-" + knob.name).classList.toggle("unset", value === "");
  }
  for (const choice of offer.choices) {
    const box = $("c-" + choice.name), on = wish.getAll(choice.name), listed = choice.values.map(([v]) => v);
    box.querySelectorAll("input[type=checkbox]").forEach((b) => { b.checked = on.includes(b.value); });
    box.querySelector("summary span").textContent = on.length ? `${on.length} chosen` : "all";
    chips(box.querySelector(".chips"), choice.name, on.filter((v) => !listed.includes(v)));
    if (on.length) box.open = true;
  }
}

// -- answers -------------------------------------------------------------------------------------

let running = null;
async function refresh() {
  clearTimeout(timer);
  paint();
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  try {
    const [answer, person] = await Promise.all([
      ask("/api/recommend?" + wish, signal),
      wish.get("user_id") ? ask("/api/user?user_id=" + encodeURIComponent(wish.get("user_id")), signal) : null,
    ]);
    $("error").hidden = true;
    draw(answer);
    past(person);
  } catch (error) { fail(error); }
}

const link = (id) => `/item/${encodeURIComponent(id)}${String(wish) ? "?" + wish : ""}`;
// The name stands beside it, so the image itself says nothing to a screen reader.
function thumb(row) {
  const hide = (event) => { event.target.style.visibility = "hidden"; };
  const src = "/image/" + encodeURIComponent(row.item_id);
  return row.image ? el("img", { class: "thumb", src, alt: "", loading: "lazy", onerror: hide }) : null;
}

function draw(answer) {
  const two = answer.models.length > 1;
  const total = (row) => Object.values(row.parts).reduce((sum, v) => sum + Math.abs(v), 0);
  for (const row of answer.models.flatMap((m) => m.rows)) titles[row.item_id] = row.title;
  $("notes").replaceChildren(...answer.notes.map((note) => el("p", { class: "note" }, note)));
  $("legend").replaceChildren(...(answer.models.some((m) => m.rows.length) ? offer.parts : []).map(short).map((part) => el("span", {}, el("i", { class: colour(part) }), part)));
  $("lists").replaceChildren(...answer.models.map((model) => {
    const most = Math.max(...model.rows.map(total), 1e-12);
    const empty = model.rows.length ? null : el("p", { class: "note" }, "Nothing is left under these rules.");
    return el("section", { class: "list", "aria-label": `recommended by ${model.label}` }, el("h2", {}, two ? model.label : "Recommended"),
      model.told.length || model.fallback ? el("div", { class: "fallback", role: "note" }, model.told.length
        ? model.told.map((line) => el("p", {}, line)) : el("p", {}, "The model says that this is not quite what was asked for.")) : null,
      model.ignored.length ? el("p", { class: "quiet" }, `This model has no ${model.ignored.join(", ")}.`) : null,
      measures(model), empty, el("ol", { class: "rows" }, model.rows.map((row, i) => draw_row(row, i, most, two))));
  }));
  const first = answer.models[0], ms = answer.models.map((m) => number(m.ms, 2)).join(" and ");
  const shared = answer.overlap ? `; ${answer.overlap.shared} in both lists (Jaccard ${number(answer.overlap.jaccard, 2)})` +
    (answer.overlap.mean_move === null ? "" : `, on average ${number(answer.overlap.mean_move, 2)} places apart`) : "";
  say(`${first.rows.length} items in ${ms} ms${shared}`);
}

function measures(model) {
  const now = model.measures, before = model.defaults;
  const shown = [
    ["revenue", "Expected revenue", money],
    ["diversity", `Diversity by ${now.by}`, (x) => x.toFixed(3)],
    ["mean_price", "Mean price", money],
  ];
  const boxes = shown.filter(([key]) => key in now).map(([key, name, write]) => {
    const change = before && key in before ? now[key] - before[key] : null;
    const way = change === null || Math.abs(change) < 5e-4 ? "" : change > 0 ? " up" : " down";
    const delta = change === null ? null : el("span", { class: "delta" + way, title: "against the defaults" },
      (change < 0 ? "−" : "+") + write(Math.abs(change)));
    return el("div", { "data-measure": key, title: key === "revenue" ? now.revenue_how : null }, el("dt", {}, name), el("dd", {}, write(now[key]), delta));
  });
  const mix = now.mix?.length ? el("p", { class: "mix" }, now.mix.map(([v, n]) => `${v} ${n}`).join(" · ")) : null;
  return el("div", {}, boxes.length ? el("dl", { class: "measures" }, boxes) : null, mix);
}

function moved(row, place) {
  if (row.was === undefined || row.was === place) return null;
  if (row.was === 0) return el("span", { class: "badge up" }, "new");
  const up = row.was > place;
  return el("span", { class: up ? "badge up" : "badge down" }, `${up ? "▲" : "▼"} ${Math.abs(row.was - place)}`);
}

function draw_row(row, i, most, two) {
  const parts = Object.entries(row.parts), place = i + 1, details = Object.entries(row.details);
  const told = parts.map(([name, value]) => `${name} ${number(value)}`).join(", ");
  const there = row.other === 0 ? "only here" : row.other === place ? "same place" : `there at ${row.other}`;
  const elsewhere = two && row.other !== undefined ? el("span", { class: "badge" + (row.other ? "" : " up") }, there) : null;
  const block = () => set("exclude", [...wish.getAll("exclude"), row.item_id], { remember: true });
  const blockable = two !== null && offer.inputs.includes("exclude");
  const sub = [
    el("span", {}, row.item_id),
    row.price !== undefined ? el("span", {}, money(row.price)) : null,
    ...details.map(([name, value]) => el("span", {}, `${name} ${figure(value)}`)),
    row.source ? el("span", { class: "source" }, `from ${row.source}`) : null,
    moved(row, place), elsewhere,
  ];
  const bar = parts.length ? el("div", { class: "bar", role: "img", "aria-label": told, title: told }, parts.map(([name, value]) => {
    const piece = el("i", { class: colour(name) + (value < 0 ? " minus" : "") });
    piece.style.width = `${100 * Math.abs(value) / most}%`;
    return piece;
  })) : null;
  return el("li", { class: "row" + (row.image ? "" : " plain"), "data-item": row.item_id },
    el("span", { class: "place" }, String(place)), thumb(row),
    el("div", { class: "what" }, el("a", { href: link(row.item_id) }, row.title), el("div", { class: "sub" }, sub), bar),
    el("div", { class: "side" }, el("div", { title: "score" }, figure(row.score)),
      blockable ? el("button", { type: "button", "aria-label": `block ${row.title}`, onclick: block }, "block") : null));
}

function facts(found) {
  return el("dl", { class: "facts" }, Object.entries(found).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, typeof value === "number" ? number(value, 6) : [value].flat().join(", "))]));
}

function past(person) {
  if (!person) { $("past").replaceChildren(); return; }
  for (const event of person.history) titles[event.item_id] = event.title;
  $("past").replaceChildren(el("h2", {}, `User ${person.user_id}: ${person.history.length} events`), facts(person.facts),
    el("ol", { tabindex: person.history.length ? 0 : null, "aria-label": "newest first" }, person.history.map((event) => el("li", {}, thumb(event),
      el("div", { class: "what" }, el("a", { href: link(event.item_id) }, event.title), el("div", { class: "sub" }, el("span", {}, event.event), el("span", {}, event.time)))))));
}

// -- the item page -------------------------------------------------------------------------------

async function show_item(id) {
  document.querySelector(".columns").classList.add("item");
  try {
    const item = await ask("/api/item?item_id=" + encodeURIComponent(id));
    document.title = `${item.title} - tfrec explorer`;
    const image = thumb(item), back = "/" + (String(wish) ? "?" + wish : "");
    const start = new URLSearchParams({ history: id });
    image?.removeAttribute("class");
    $("lists").replaceChildren(el("section", { class: "list" }, el("h2", {}, item.title), el("div", { class: "hero" }, image, facts({ item_id: item.item_id, events: item.events, ...item.about })),
      el("p", {}, el("a", { href: back }, "Back to the list"), " · ", el("a", { href: "/?" + start }, "What follows this item? (a history of it alone)"))),
    ...item.similar.map((model) => el("section", { class: "list", "aria-label": `similar by ${model.label}` }, el("h2", {}, `Similar by ${model.label}`),
      el("ol", { class: "rows" }, model.rows.map((row, i) => draw_row(row, i, 1, null))))),
    item.similar.length ? "" : el("p", { class: "note" }, "No model here has a signature 'similar'; start with --similar and a retrieval model."));
  } catch (error) { fail(error); }
}

if (location.pathname.startsWith("/item/")) show_item(decodeURIComponent(location.pathname.slice(6)));
else {
  addEventListener("popstate", () => { wish = new URLSearchParams(location.search); refresh(); });
  if (matchMedia("(max-width: 46em)").matches) $("more").open = false;  // the list comes first on a phone
  build();
  refresh();
}
