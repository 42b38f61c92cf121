// Labels mended by hand: pen, filled outline, eraser, whole pieces; saved beside the old ones.

import { addKeys, bitmapOf, caseAt, json, onCaseShown, onLeaving, panels, setCompared, setDifference, setLayer, showCase, state, versionOf } from "./viewer.js";
import { counted, element } from "./organ_list.js";

const TOOLS = [["pen", "Pen"], ["outline", "Fill an outline"], ["eraser", "Eraser"]];
const pen = { isOn: false, isSaving: false, tool: "pen", label: 1, size: 2, strokes: 0, layer: 0, version: "" };
const parts = {};

export function begin() {
  const button = (text, title, onclick, more = {}) => element("button", { className: "toggle small", text, title, onclick, ...more });
  parts.start = button("Mend labels", "Draw organs anew where they are wrong (E)", () => (pen.isOn ? discard() : start()));
  parts.organ = element("select", { "aria-label": "Organ that is drawn", onchange: () => { pen.label = Number(parts.organ.value); update(); } });
  parts.tools = element("div", { className: "row", role: "radiogroup" }, ...TOOLS.map(([tool, text]) =>
    button(text, "", () => { pen.tool = tool; update(); }, { "data-tool": tool })));
  parts.size = element("input", { type: "number", min: 1, max: 40, value: pen.size, "aria-label": "Size in voxels", onchange: () => { pen.size = Math.max(1, Number(parts.size.value)); update(); } });
  parts.who = element("input", { type: "text", placeholder: "Your name", "aria-label": "Your name", maxlength: 200, value: state.gallery.user });
  parts.note = element("input", { type: "text", placeholder: "Note", "aria-label": "Note", maxlength: 200 });
  parts.undo = button("Undo", "Take the last stroke back (U)", undo);
  parts.save = button("Save", "", save);
  parts.body = element("div", { className: "tool-body", hidden: "" },
    element("div", { className: "row" }, "Organ", parts.organ, "size", parts.size), parts.tools,
    element("div", { className: "row" }, button("Give the piece under the cursor to the organ", "The connected piece of a label", () => piece(pen.label))),
    element("div", { className: "row" }, button("Delete the piece under the cursor", "", () => piece(0)), parts.undo),
    element("div", { className: "row" }, parts.who), element("div", { className: "row" }, parts.note, parts.save));
  parts.told = element("p", { role: "status" });
  document.getElementById("tools").append(element("div", { className: "tool", id: "pen" },
    element("h2", { text: "Corrections" }), element("div", { className: "row" }, parts.start), parts.body, parts.told));
  parts.organ.replaceChildren(...state.gallery.classes.slice(1).map((organ) => element("option", { text: organ.name, value: organ.label })));
  addKeys({ e: () => (pen.isOn ? discard() : start()), u: () => pen.isOn && undo() });
  onCaseShown(stop);
  onLeaving(() => {
    const may = !pen.isSaving && (!pen.isOn || !pen.strokes || confirm("Leave this case without saving what was drawn?"));
    if (may) stop(); // until the next case is shown, which may fail, its number goes with the picture of this one
    return may;
  });
  addEventListener("beforeunload", (event) => { if (pen.isOn && pen.strokes) event.preventDefault(); });
}

async function start() {
  const { ticket } = state;
  if (!state.ready || !state.about.can_be_mended) return;
  await setDifference(false);
  await setCompared(false);
  const newest = state.about.layers.findLastIndex((layer) => layer.role === "correction");
  if (newest >= 0) await setLayer(newest);
  if (state.about.layers[state.layer].role === "reference") await setLayer(0);
  const version = versionOf(await bitmapOf(state.layer));
  if (ticket !== state.ticket) return; // another case is on its way
  Object.assign(pen, { isOn: true, strokes: 0, layer: state.layer, version, label: state.selected || pen.label });
  panels[0].onDrawn = (what) => { if (what !== "load") drawn(1); };
  parts.told.textContent = "";
  update();
  document.getElementById("pen").scrollIntoView({ block: "nearest" });
}

function drawn(strokes) {
  pen.strokes = Math.max(0, pen.strokes + strokes);
  state.bitmaps.set(pen.layer, panels[0].drawn);
  update();
}

function update() {
  parts.body.hidden = !pen.isOn;
  parts.start.textContent = pen.isOn ? "Discard" : "Mend labels";
  parts.start.setAttribute("aria-pressed", pen.isOn);
  parts.organ.value = pen.label;
  for (const each of parts.tools.children) each.setAttribute("aria-pressed", each.dataset.tool === pen.tool);
  parts.save.disabled = parts.undo.disabled = !pen.strokes || pen.isSaving;
  parts.start.disabled = pen.isSaving || !state.about?.can_be_mended;
  document.getElementById("layer").disabled = document.getElementById("compare").disabled = pen.isOn;
  document.getElementById("difference").disabled = pen.isOn;
  const label = pen.tool === "eraser" ? 0 : pen.label;
  panels[0]?.setPen(label, { isOn: pen.isOn && !pen.isSaving, isFilled: pen.tool === "outline", size: pen.tool === "outline" ? 1 : pen.size });
}

function stop() {
  Object.assign(pen, { isOn: false, isSaving: false, strokes: 0 });
  if (panels[0]) panels[0].onDrawn = () => {};
  update();
}

function undo() {
  if (!pen.strokes || pen.isSaving) return;
  panels[0].undo();
  drawn(-1);
}

function piece(label) {
  if (pen.isSaving) return;
  panels[0].exchangePiece(label);
  drawn(1);
}

function discard() {
  if (pen.isSaving) return;
  const changed = pen.strokes > 0;
  if (changed && !confirm("Discard what was drawn?")) return;
  const layer = pen.layer;
  stop();
  if (changed) showCase(state.number, layer);
}

// what is drawn while it is sent would be lost: the pen rests until there is an answer
async function save() {
  Object.assign(pen, { isSaving: true });
  parts.told.textContent = "Saving …";
  update();
  let answer = await send(pen.version), told = await answer?.json().catch(() => null);
  if (answer?.status === 409 && confirm(`${told.error} Save yours as the newest all the same?`)) {
    answer = await send("");
    told = await answer?.json().catch(() => null);
  }
  pen.isSaving = false;
  if (!answer?.ok) {
    parts.told.textContent = told?.error ?? "It could not be saved. Is `viscera view` still running?";
    update();
    return;
  }
  stop();
  const organs = Object.entries(told.organs).map(([name, n]) => `${name.replaceAll("_", " ")} ${changeOf(n)}`);
  const { layers } = await json(caseAt());
  await showCase(state.number, layers.findIndex((layer) => layer.role === "correction"));
  parts.told.textContent = `Saved as correction ${told.number} in ${told.folder}: ${organs.join(", ")}.`;
}

// of: the state of the label map that this was drawn on; empty: whatever is there now
function send(of) {
  const about = new TextEncoder().encode(JSON.stringify({ who: parts.who.value, note: parts.note.value, of }));
  const body = new Blob([new Uint32Array([about.length]), about, panels[0].drawn]);
  const headers = { "content-type": "application/octet-stream" };
  return fetch(caseAt(`/labels/${pen.layer}/correction`), { method: "POST", body, headers }).catch(() => null);
}

// of an organ: `5 voxels more`, `3 voxels fewer`, `5 voxels added and 3 removed`
function changeOf({ added, removed }) {
  const voxels = (n) => counted(n, "voxel");
  if (added && removed) return `${voxels(added)} added and ${removed.toLocaleString("en")} removed`;
  return added ? `${voxels(added)} more` : `${voxels(removed)} fewer`;
}
