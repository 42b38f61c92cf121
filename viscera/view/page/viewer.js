// The page: which case, which label maps, what is shown of them, and what keys and buttons do.

import { Panel, readScan, whyNotShown } from "./niivue_calls.js";
import { counted, element, number, organTable, swatch } from "./organ_list.js";

const WINDOWS = [
  ["Abdomen", 50, 400], ["Liver", 90, 150], ["Vessels", 200, 600], ["Soft tissue", 40, 350], ["Lung", -600, 1500],
  ["Bone", 400, 1800],
];
const KINDS = [
  ["only in the reference: missed", [255, 159, 28]], ["only in the prediction: too much", [76, 201, 240]],
  ["another organ in the reference", [189, 147, 255]],
];
const KIND_SIZE = 85, IGNORED = 255, MOST_PANELS = 12;
const by = (id) => document.getElementById(id);

export const state = {
  gallery: null, number: -1, about: null, scan: null,
  layer: 0, bitmaps: new Map(), tables: new Map(), surfaces: new Map(), differences: new Map(),
  view: "all", window: [-150, 250], opacity: 0.45, isOutline: false, areOn: true, hasCrosshair: true,
  hidden: new Set(), selected: 0, isCompared: false, isDifference: false, ready: false, ticket: 0,
  heat: null, // {bitmap, most}: how often training patches hold each voxel, in place of labels
};
export const panels = [];
const listeners = { caseShown: [], leaving: [] };
export const onCaseShown = (call) => listeners.caseShown.push(call);
export const onLeaving = (call) => listeners.leaving.push(call); // false: the case stays

// --- from the server

export async function asked(path) {
  const answer = await fetch(path);
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Error(told.error ?? `The server answered ${answer.status}. Is \`viscera view\` still running?`);
}

export const json = async (path) => (await asked(path)).json();
const bytes = async (path) => (await asked(path)).arrayBuffer();
export const caseAt = (more = "") => `api/cases/${state.number}${more}`;

function busy(isBusy) {
  by("progress").classList.toggle("busy", isBusy);
}

export function complain(sentence) {
  by("message").textContent = sentence;
  by("message").hidden = !sentence;
}

// --- a case

export async function showCase(number, layer = null) {
  if (!listeners.leaving.every((call) => call())) return;
  const ticket = ++state.ticket;
  Object.assign(state, { number, ready: false, layer: 0, selected: 0, scan: null, isDifference: false, heat: null });
  // new ones: what was asked for of the case before and comes now lands in its own
  Object.assign(state, { bitmaps: new Map(), tables: new Map(), surfaces: new Map(), differences: new Map() });
  complain("");
  busy(true);
  markCase();
  try {
    const scanCame = bytes(caseAt("/scan"));
    const firstCame = labelsFrom(caseAt("/labels/0")).catch(() => null);
    scanCame.catch(() => {});
    if (!panels.length) await newPanel(); // while the scan is on its way
    const about = await json(caseAt());
    const [scan, first] = [await readScan(await scanCame), about.layers.length ? await firstCame : null];
    if (ticket !== state.ticket) return;
    Object.assign(state, { about, scan });
    if (first) state.bitmaps.set(0, first);
    describeCase();
    if (layer !== null) setShownLayer(layer);
    await arrange();
    if (ticket !== state.ticket) return;
    busy(false);
    state.ready = true;
    readout(panels[0].here);
    for (const call of listeners.caseShown) call();
    await tableOf(state.layer);
    drawOrgans();
    await showSurfaces();
  } catch (error) {
    if (ticket === state.ticket) {
      busy(false);
      complain(error.message);
    }
  }
}

function describeCase() {
  const { about } = state;
  by("case-name").textContent = about.name;
  by("notes").textContent = about.notes.join(" ");
  document.title = `${about.name} – viscera view`;
  state.layer = Math.max(0, about.layers.findIndex((layer) => layer.role === "prediction"));
  by("layer").replaceChildren(...about.layers.map((layer, at) => element("option", { text: layer.title, value: at })));
  by("layer").value = state.layer;
  by("layer-field").hidden = about.layers.length < 2;
  by("compare").hidden = about.layers.length < 2;
  by("difference").hidden = !(reference() >= 0 && about.layers.length > 1);
  press("compare", state.isCompared);
}

const reference = () => state.about.layers.findIndex((layer) => layer.role === "reference");

const versions = new WeakMap(); // of label maps, as the server told them: which state of the file they are
export const versionOf = (bitmap) => versions.get(bitmap) ?? "";

async function labelsFrom(path) {
  const answer = await asked(path), labels = new Uint8Array(await answer.arrayBuffer());
  versions.set(labels, answer.headers.get("x-version"));
  return labels;
}

export async function bitmapOf(layer) {
  const { bitmaps } = state;
  if (!bitmaps.has(layer)) bitmaps.set(layer, await labelsFrom(caseAt(`/labels/${layer}`)));
  return bitmaps.get(layer);
}

async function differenceOf(layer) {
  const { differences } = state;
  if (!differences.has(layer)) differences.set(layer, new Uint8Array(await bytes(caseAt(`/labels/${layer}/difference`))));
  return differences.get(layer);
}

export async function tableOf(layer) {
  const { about, tables } = state;
  if (!about.layers.length) return new Map();
  if (!tables.has(layer)) {
    const rows = await json(caseAt(`/labels/${layer}/organs`));
    tables.set(layer, new Map(rows.map((row) => [row.label, row])));
  }
  return tables.get(layer);
}

async function surfacesOf(layer) {
  const { surfaces } = state;
  if (!surfaces.has(layer)) {
    const buffer = await bytes(caseAt(`/labels/${layer}/surfaces`));
    const length = new DataView(buffer).getUint32(0, true);
    let at = 4 + length;
    const found = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length))).map((each) => {
      const vertices = new Float32Array(buffer.slice(at, (at += 12 * each.vertices)));
      const faces = new Uint32Array(buffer.slice(at, (at += 12 * each.faces)));
      return { label: each.label, colour: state.gallery.classes[each.label].colour, vertices, faces };
    });
    surfaces.set(layer, found);
  }
  return surfaces.get(layer);
}

// --- panels

function layersShown() {
  const all = state.about.layers.map((_, at) => at);
  if (!all.length) return [-1];
  if (!state.isCompared || all.length < 2) return [state.layer];
  return [state.layer, ...all.filter((at) => at !== state.layer)].sort((a, b) => a - b).slice(0, MOST_PANELS);
}

// one after another: panels are made and filled while keys and buttons go on
let lastArranged = Promise.resolve();
function arrange() {
  lastArranged = lastArranged.catch(() => {}).then(() => state.scan && arrangeNow());
  return lastArranged;
}

async function arrangeNow() {
  const shown = layersShown(), grid = by("panels");
  grid.style.gridTemplateColumns = `repeat(${columnsFor(shown.length, grid)}, minmax(0, 1fr))`;
  while (panels.length > shown.length) {
    const gone = panels.pop();
    gone.frame.remove();
    gone.close();
  }
  for (let at = 0; at < shown.length; at++) {
    const panel = panels[at] ?? (await newPanel());
    panel.layer = shown[at];
    if (panel.scan !== state.scan) panel.show(state.scan);
    panel.setView(state.view);
    panel.setCrosshair(state.hasCrosshair);
    panel.setWindow(...state.window);
    if (at) panel.follow(panels[0]);
    else if (!panels.includes(leader)) leader = panel;
  }
  await Promise.all(panels.map(fillPanel));
  caption();
}

// in which so many squares are largest
function columnsFor(number, { clientWidth, clientHeight }) {
  const side = (columns) => Math.min(clientWidth / columns, clientHeight / Math.ceil(number / columns));
  return Array.from({ length: number }, (_, at) => at + 1).reduce((best, each) => (side(each) > side(best) ? each : best));
}

async function newPanel() {
  const canvas = element("canvas"), frame = element("div", { className: "panel" },
    element("div", { className: "canvas" }, canvas), element("div", { className: "caption" }));
  by("panels").append(frame);
  const panel = new Panel(canvas);
  panel.frame = frame;
  await panel.start();
  panel.onCursor = readout;
  panel.onWindow = (low, high) => windowShown(panel, low, high);
  panel.onMoved = moved;
  canvas.addEventListener("mousemove", (event) => {
    const there = panel.under(event.offsetX, event.offsetY);
    if (there && !event.buttons) readout(there);
  });
  for (const kind of ["pointerdown", "wheel", "touchstart"]) {
    frame.addEventListener(kind, () => { leader = panel; }, { capture: true, passive: true });
  }
  canvas.addEventListener("mouseleave", () => readout(panel.here));
  panels.push(panel);
  return panel;
}

// the others follow the panel that keys or the mouse are at
let leader = null;
function moved(panel) {
  if (panel !== leader) return;
  for (const other of panels) if (other !== panel) other.follow(panel);
}

export function lead() {
  leader = panels[0];
  return leader;
}

async function fillPanel(panel) {
  if (panel.layer < 0) return;
  const { ticket } = state, isDifference = state.isDifference && panel.layer !== reference();
  const bitmap = state.heat?.bitmap ?? (isDifference ? await differenceOf(panel.layer) : await bitmapOf(panel.layer));
  if (ticket !== state.ticket) return; // of the case before
  panel.isDifference = isDifference;
  if (panel.labels !== bitmap) panel.showLabels(bitmap);
  colour(panel);
}

function colour(panel) {
  const colours = [];
  const isOn = (label) => state.areOn && !state.hidden.has(label);
  if (state.heat) {
    for (let at = 1; at < 256; at++) colours[at] = [...heatColour(at / 255), 255];
    panel.setOpacity(0.6, false);
  } else if (panel.isDifference) {
    for (let code = 1; code < 3 * KIND_SIZE; code++) {
      const label = code % KIND_SIZE, rgb = KINDS[Math.floor(code / KIND_SIZE)][1];
      colours[code] = [...rgb, isOn(label) || state.gallery.classes.length > KIND_SIZE ? 255 : 0];
    }
    panel.setOpacity(0.85, false);
  } else {
    for (const { label, colour: rgb } of state.gallery.classes) colours[label] = [...rgb, isOn(label) ? 255 : 0];
    colours[IGNORED] = [156, 163, 175, state.areOn ? 110 : 0];
    panel.setOpacity(state.isOutline ? 1 : state.opacity, state.isOutline);
  }
  panel.setColours(Array.from({ length: 256 }, (_, at) => colours[at] ?? [255, 255, 255, at ? 200 : 0]));
  panel.setVisibleSurfaces(isOn);
}

// from dark violet over red to light yellow, evenly lighter
export function heatColour(share) {
  const stops = [[48, 18, 92], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]];
  const at = Math.min(3.999, share * 4), low = stops[Math.floor(at)], high = stops[Math.floor(at) + 1];
  return low.map((value, channel) => Math.round(value + (at % 1) * (high[channel] - value)));
}

export async function setHeat(heat) {
  state.heat = heat;
  await Promise.all(panels.map(fillPanel));
}

const recolour = () => panels.forEach(colour);

async function showSurfaces() {
  if (!["all", "solid"].includes(state.view)) return;
  const ticket = state.ticket;
  for (const panel of [...panels]) {
    if (panel.layer < 0 || panel.surfacesOf === `${ticket}/${panel.layer}`) continue;
    const surfaces = await surfacesOf(panel.layer).catch(() => []);
    if (ticket !== state.ticket || !panels.includes(panel)) return;
    panel.surfacesOf = `${ticket}/${panel.layer}`;
    panel.showSurfaces(surfaces);
    colour(panel);
  }
}

async function caption() {
  const ticket = state.ticket, isAlone = panels.length === 1;
  for (const panel of panels) {
    const caption = panel.frame.querySelector(".caption"), layer = state.about.layers[panel.layer];
    caption.hidden = !layer || (isAlone && state.about.layers.length < 2);
    if (!layer) continue;
    caption.replaceChildren(panel.isDifference ? `${layer.title}: difference` : layer.title);
    const rows = await tableOf(panel.layer).catch(() => new Map());
    if (ticket !== state.ticket) return;
    const known = [...rows.values()].map((row) => row.dice).filter((dice) => dice !== null);
    const chosen = rows.get(state.selected);
    const dice = chosen ? chosen.dice : known.length ? known.reduce((a, b) => a + b) / known.length : null;
    const what = chosen ? nameOf(chosen.label) : "mean Dice";
    if (dice !== null && dice !== undefined) {
      caption.append(element("span", { className: "numbers", text: `${what} ${number(dice, 2)}` }));
    }
  }
  const isDifference = panels.some((panel) => panel.isDifference);
  by("legend").hidden = !isDifference;
  by("legend").replaceChildren(...KINDS.map(([text, rgb]) => element("div", {}, swatch(rgb), text)));
}

// --- organs

const nameOf = (label) => (label === IGNORED ? "nobody labelled this" : state.gallery.classes[label]?.name ?? `label ${label}`);

export function drawOrgans() {
  const rows = state.tables.get(state.layer) ?? new Map();
  const organs = state.about?.layers.length ? state.gallery.classes.slice(1) : [];
  by("organs").replaceChildren(organTable(organs, rows, state, {
    toggle: (label) => setHidden(label, !state.hidden.has(label)),
    only: (label) => showOnly(label),
    all: (areShown) => { state.hidden = new Set(areShown ? [] : organs.map((organ) => organ.label)); organsChanged(); },
    jump,
  }));
  if (!organs.length) by("organs").replaceChildren(element("p", { text: "No label map is given. Add one with --labels." }));
}

function setHidden(label, isHidden) {
  if (isHidden) state.hidden.add(label); else state.hidden.delete(label);
  organsChanged();
}

function showOnly(label) {
  const others = state.gallery.classes.slice(1).map((organ) => organ.label).filter((other) => other !== label);
  const isAlone = !state.hidden.has(label) && others.every((other) => state.hidden.has(other));
  state.hidden = new Set(isAlone ? [] : others);
  organsChanged();
}

function organsChanged() {
  recolour();
  drawOrgans();
}

// the voxel of an organ to look at: on the slice with most of it, the one nearest to the middle of that slice's part
export function placeOf(bitmap, [i, j, k], label) {
  const plane = i * j;
  let most = 0, best = -1;
  for (let at = bitmap.indexOf(label); at >= 0;) {
    const z = Math.floor(at / plane), end = (z + 1) * plane;
    let count = 0;
    for (; at < end; at++) if (bitmap[at] === label) count++;
    if (count > most) [most, best] = [count, z];
    at = bitmap.indexOf(label, end); // slices without it are passed over
  }
  if (best < 0) return null;
  const there = [];
  for (let at = 0; at < plane; at++) if (bitmap[best * plane + at] === label) there.push([at % i, Math.floor(at / i)]);
  const middle = [0, 1].map((axis) => there.reduce((sum, each) => sum + each[axis], 0) / there.length);
  const apart = (each) => (each[0] - middle[0]) ** 2 + (each[1] - middle[1]) ** 2;
  const nearest = there.reduce((a, b) => (apart(b) < apart(a) ? b : a));
  return [...nearest, best];
}

export async function jump(label) {
  state.selected = state.selected === label ? 0 : label;
  drawOrgans();
  caption();
  for (const layer of [state.layer, reference()].filter((at) => at >= 0)) {
    const place = placeOf(await bitmapOf(layer), state.scan.shape, label);
    if (place) {
      lead().moveTo(place);
      return;
    }
  }
  by("organ-here").textContent = `The ${nameOf(label)} is in no label map here.`;
}

function nextFlagged() {
  const flagged = [...(state.tables.get(state.layer)?.values() ?? [])].filter((row) => row.reasons.length);
  if (!flagged.length) return;
  const at = flagged.findIndex((row) => row.label === state.selected);
  state.selected = 0;
  jump(flagged[(at + 1) % flagged.length].label);
}

// --- what is under the cursor

function readout(there) {
  if (!there || !state.about) return;
  const { mm, voxel, hu } = there;
  by("hu").textContent = hu === null || !state.about.has_scan ? "–" : hu.toFixed(0).replace("-", "−");
  by("place").textContent = `R ${mm[0].toFixed(1)}  A ${mm[1].toFixed(1)}  S ${mm[2].toFixed(1)} mm · voxel ${voxel.join(", ")}`;
  const found = panels.filter((panel) => panel.labels && panel.layer >= 0).map((panel) => {
    const label = panel.labelAt(voxel);
    if (!label) return null;
    if (state.heat) return element("span", { text: `in ${counted(Math.round((label / 255) * state.heat.most), "patch", "patches")}` });
    if (panel.isDifference) return element("span", {}, swatch(KINDS[Math.floor(label / KIND_SIZE)][1]), nameOf(label % KIND_SIZE));
    const rgb = state.gallery.classes[label]?.colour ?? [156, 163, 175];
    return element("span", {}, swatch(rgb), nameOf(label));
  });
  const told = new Map(found.filter(Boolean).map((each) => [each.textContent, each]));
  by("organ-here").replaceChildren(...told.values());
}

// --- windows, views, opacity

function windowShown(leader, low, high) {
  state.window = [low, high];
  const [level, width] = [(low + high) / 2, high - low];
  by("window").textContent = `L ${level.toFixed(0).replace("-", "−")}  W ${width.toFixed(0)}`;
  const preset = WINDOWS.findIndex(([, l, w]) => l === level && w === width);
  by("windows").value = preset;
  for (const panel of panels) {
    const image = panel.nv.volumes[0];
    if (panel !== leader && image && panel.scan === state.scan) panel.shareWindow();
  }
}

export function setWindow(preset) {
  const [, level, width] = WINDOWS[preset];
  state.window = [level - width / 2, level + width / 2];
  for (const panel of panels) panel.setWindow(...state.window);
}

export async function setView(view) {
  state.view = view;
  for (const button of by("views").children) {
    button.setAttribute("role", "radio");
    button.setAttribute("aria-checked", button.dataset.view === view);
  }
  if (!state.scan) return;
  await arrange();
  await showSurfaces();
}

function setOpacity(share) {
  state.opacity = Math.min(1, Math.max(0, share));
  by("opacity").value = Math.round(100 * state.opacity);
  recolour();
}

const press = (id, isOn) => by(id).setAttribute("aria-pressed", isOn);

function setOutline(isOn) {
  state.isOutline = isOn;
  press("outline", isOn);
  recolour();
}

function setShownLayer(layer) {
  state.layer = layer;
  by("layer").value = layer;
}

export async function setLayer(layer) {
  setShownLayer(layer);
  await arrange();
  await tableOf(layer);
  drawOrgans();
  caption();
  await showSurfaces();
}

export async function setCompared(isOn) {
  if (by("compare").hidden || by("compare").disabled) return; // keys come here, too
  state.isCompared = isOn;
  press("compare", isOn);
  await arrange();
  await showSurfaces();
}

export async function setDifference(isOn) {
  if (by("difference").hidden || by("difference").disabled) return;
  state.isDifference = isOn;
  press("difference", isOn);
  await Promise.all(panels.map(fillPanel));
  caption();
}

// --- cases

function listCases() {
  const { cases } = state.gallery, wanted = by("filter").value.toLowerCase();
  by("cases").hidden = cases.length < 2;
  by("filter").hidden = cases.length < 8;
  const flagged = cases.filter((each) => Object.keys(each.flags).length).length;
  by("case-count").textContent = `${counted(cases.length, "case")}${flagged ? `, ${flagged} to look at first` : ""}`;
  by("case-list").replaceChildren(...cases.map((each, at) => {
    const flags = Object.entries(each.flags), told = flags.map(([organ, reasons]) => `${organ}: ${reasons.join("; ")}`);
    const line = element("button", { title: [each.name, ...told].join("\n"), onclick: () => showCase(at) },
      element("span", { className: "name", text: each.name }),
      element("span", { className: "part", text: each.split }),
      ...(flags.length ? [element("span", { className: "badge", text: `⚑ ${flags.length}` })] : []));
    const item = element("li", {}, line);
    item.hidden = !each.name.toLowerCase().includes(wanted);
    return item;
  }));
  markCase();
}

function markCase() {
  [...by("case-list").children].forEach((item, at) => {
    item.firstElementChild.setAttribute("aria-current", at === state.number);
    if (at === state.number) item.scrollIntoView({ block: "nearest" });
  });
  press("difference", state.isDifference);
}

export function stepCase(by) {
  const number = state.number + by;
  if (number >= 0 && number < state.gallery.cases.length) showCase(number);
}

// --- keys

const SLICE_AXIS = { all: 2, axial: 2, coronal: 1, sagittal: 0, solid: 2 };
function slice(steps, axis = SLICE_AXIS[state.view]) {
  const by = [0, 0, 0];
  by[axis] = steps;
  lead()?.moveBy(by);
}

const KEYS = {
  ArrowUp: () => slice(1), ArrowDown: () => slice(-1), PageUp: () => slice(10), PageDown: () => slice(-10),
  ArrowLeft: () => slice(1, 0), ArrowRight: () => slice(-1, 0),
  m: () => setView("all"), a: () => setView("axial"), c: () => setView("coronal"), s: () => setView("sagittal"),
  r: () => setView("solid"),
  l: () => { state.areOn = !state.areOn; recolour(); },
  o: () => setOutline(!state.isOutline),
  "[": () => setOpacity(state.opacity - 0.1), "]": () => setOpacity(state.opacity + 0.1),
  t: () => setCompared(!state.isCompared), d: () => setDifference(!state.isDifference),
  f: nextFlagged, n: () => stepCase(1), p: () => stepCase(-1),
  "+": () => lead()?.zoom(1.25), "=": () => lead()?.zoom(1.25), "-": () => lead()?.zoom(0.8),
  "0": () => lead()?.zoom(0),
  x: () => { state.hasCrosshair = !state.hasCrosshair; panels.forEach((panel) => panel.setCrosshair(state.hasCrosshair)); },
  "?": () => by("help").showModal(), h: () => by("help").showModal(),
};
export const addKeys = (keys) => Object.assign(KEYS, keys);

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input:not([type=range]), select, textarea");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || by("help").open || !state.ready) return;
  const preset = Number(event.key) - 1;
  const call = KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
  if (preset >= 0 && preset < WINDOWS.length) setWindow(preset);
  else if (call) call();
  else return;
  event.preventDefault();
});

// --- the beginning

function wire() {
  by("windows").replaceChildren(...WINDOWS.map(([name], at) => element("option", { text: `${name} (${at + 1})`, value: at })),
    element("option", { text: "own", value: -1, hidden: "" }));
  by("windows").addEventListener("change", (event) => { setWindow(Number(event.target.value)); event.target.blur(); });
  for (const button of by("views").children) button.addEventListener("click", () => setView(button.dataset.view));
  by("layer").addEventListener("change", (event) => { setLayer(Number(event.target.value)); event.target.blur(); });
  by("opacity").addEventListener("input", (event) => setOpacity(event.target.value / 100));
  by("outline").addEventListener("click", () => setOutline(!state.isOutline));
  by("compare").addEventListener("click", () => setCompared(!state.isCompared));
  by("difference").addEventListener("click", () => setDifference(!state.isDifference));
  by("help-button").addEventListener("click", () => by("help").showModal());
  by("filter").addEventListener("input", listCases);
}

async function begin() {
  wire();
  const problem = whyNotShown();
  if (problem) return complain(problem);
  try {
    state.gallery = await json("api/gallery");
  } catch (error) {
    return complain(error.message);
  }
  by("title").textContent = state.gallery.name;
  by("subtitle").textContent = `${state.gallery.kind} · viscera ${state.gallery.version}`;
  listCases();
  if (state.gallery.corrections) (await import("./pen.js")).begin();
  if (state.gallery.has_patches) (await import("./training_patches.js")).begin();
  state.isCompared = state.gallery.kind === "study"; // the same case through all arms
  setView(state.isCompared ? "axial" : "all");
  await showCase(0);
}

globalThis.viewer = { state, panels, lead, setView, setWindow, jump, showCase, settled: () => lastArranged }; // for tests and the curious
begin();
