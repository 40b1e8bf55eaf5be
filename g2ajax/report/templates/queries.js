"use strict";
// The list of queries: filtered, sorted and shown a few at a time, from the page's own data.
const data = JSON.parse(document.getElementById("data").textContent);
const STEP = 20;
const element = (tag, options = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), options);
  node.append(...children);
  return node;
};
const controls = document.getElementById("controls");
const list = document.getElementById("lists");
const count = document.getElementById("count");
const more = document.getElementById("more");
const large = document.getElementById("large");
const state = { ranking: 0, order: "worst", hidden: false, shown: STEP, filters: {} };

const picture = (place) => "data:image/webp;base64," + data.pictures[place];
const sign = (right) => (right === null ? "?" : right ? "✓" : "✗");
const kind = (right) => (right === null ? "unknown" : right ? "right" : "wrong");
const answer = (right) =>
  right === null ? "not known who" : right ? "the query's person" : "another person";
const described = (text, title) => (state.hidden || !title ? text : `${text}: ${title}`);

// Attributes that are predicted otherwise than annotated, in words.
const remark = (place) =>
  element("span", { className: "remark", textContent: data.remarks[place] || "" });

function select(label, options, value, change) {
  const node = element("select", { ariaLabel: label });
  for (const [key, text] of options) node.append(new Option(text, key, false, key === value));
  node.addEventListener("change", () => { change(node.value); state.shown = STEP; draw(); });
  return element("label", {}, label + " ", node);
}

function values(name) {
  const all = new Set();
  for (const query of data.rankings[state.ranking].queries) {
    for (const value of name === "attribute" ? query.a : [query.v[name]]) if (value) all.add(value);
  }
  return [...all].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
}

function drawControls() {
  controls.replaceChildren();
  if (data.rankings.length > 1) {
    const names = data.rankings.map((ranking, place) => [String(place), ranking.label]);
    controls.append(select("protocol", names, String(state.ranking), (value) => {
      state.ranking = Number(value); state.filters = {}; drawControls();
    }));
  }
  const orders = [["worst", "worst first"], ["best", "best first"]];
  controls.append(select("order", orders, state.order, (value) => { state.order = value; }));
  for (const name of ["view", "altitude", "camera", "attribute"]) {
    const known = values(name);
    if (known.length < 2) continue;
    const options = [["", "all"], ...known.map((value) => [value, value])];
    controls.append(select(name, options, state.filters[name] || "", (value) => {
      state.filters[name] = value;
    }));
  }
  const box = element("input", { type: "checkbox", checked: state.hidden });
  box.addEventListener("change", () => {
    state.hidden = box.checked;
    document.body.classList.toggle("hidden-names", box.checked);
    draw();
  });
  controls.append(element("label", {}, box, " hide names"));
}

function fits(query) {
  return Object.entries(state.filters).every(([name, value]) =>
    !value || (name === "attribute" ? query.a.includes(value) : query.v[name] === value));
}

// One image or sentence of a strip; a click enlarges it beside the query.
function place(query, item, label, mark, style) {
  const title = described(label, item.t);
  const shown = item.p === null
    ? element("span", { className: "sentence", textContent: item.x })
    : element("img", { src: picture(item.p), alt: title, loading: "lazy" });
  const button = element("button", { type: "button", className: style, title }, shown);
  button.addEventListener("click", () => enlarge(query, item, title));
  const name = element("span", { className: "name", textContent: item.t, title: item.t });
  const caption = element("figcaption", {}, element("b", { className: "mark", textContent: mark[0] }),
    " " + mark[1], name);
  return element("li", { className: style }, element("figure", {}, button, caption));
}

function enlarge(query, item, title) {
  const one = (shown, text) => element("figure", {},
    shown.p === null ? element("p", { textContent: shown.x })
      : element("img", { src: picture(shown.p), alt: text }),
    element("figcaption", {}, text, remark(shown.p)));
  const parts = [one(query, described("query", query.t))];
  if (item !== query) parts.push(one(item, title));
  large.querySelector(".pair").replaceChildren(...parts);
  large.showModal();
}

function row(query) {
  const facts = Object.entries(query.v).map(([name, value]) => `${name} ${value}`).join(", ");
  const head = element("p", {}, element("b", { textContent: `AP ${query.s.toFixed(1)}` }),
    `, first true match at rank ${query.f || "–"}` + (facts && ` (${facts})`), remark(query.p));
  const strip = element("ul", { className: "strip" },
    place(query, query, "query", ["query", ""], "asked"));
  for (const [p, rank, distance, right, t, x] of query.e) {
    const item = { p, t, x };
    const label = `rank ${rank}, ${answer(right)}`;
    const mark = [`${sign(right)} ${rank}`, distance];
    strip.append(place(query, item, label, mark, kind(right)));
  }
  return element("li", {}, head, strip);
}

function draw() {
  const ranking = data.rankings[state.ranking];
  const queries = ranking.queries.filter(fits).sort((a, b) => a.s - b.s);
  if (state.order === "best") queries.reverse();
  list.replaceChildren(...queries.slice(0, state.shown).map(row));
  const shown = Math.min(state.shown, queries.length);
  count.textContent = `${ranking.note} ${shown} of ${queries.length} shown; below each image its rank and ${data.distance}.`;
  more.hidden = shown === queries.length;
}

more.addEventListener("click", () => { state.shown += STEP; draw(); });
large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
drawControls();
draw();
