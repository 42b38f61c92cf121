// Where the patches of a training fall: those of a step as boxes, and how often each voxel is seen.

import { asked, caseAt, json, lead, onCaseShown, panels, setHeat, showCase, state } from "./viewer.js";
import { counted, element } from "./organ_list.js";

let step = 1, found = null, steps = 1000;
const parts = {};

export function begin() {
  parts.step = element("input", { type: "number", min: 1, value: step, "aria-label": "Step", onchange: () => show(Number(parts.step.value)) });
  parts.list = element("ul");
  parts.heat = element("button", { className: "toggle small", "aria-pressed": false, text: "How often seen", onclick: toggleHeat });
  parts.steps = element("input", { type: "number", min: 1, value: steps, "aria-label": "Steps", onchange: () => { steps = Number(parts.steps.value); if (state.heat) showHeat(); } });
  parts.about = element("p");
  document.getElementById("tools").append(element("div", { className: "tool", id: "patches" },
    element("h2", { text: "Training patches" }), parts.about,
    element("div", { className: "row" }, "Step", parts.step,
      element("button", { className: "toggle small", text: "−", title: "The step before", onclick: () => show(step - 1) }),
      element("button", { className: "toggle small", text: "+", title: "The next step", onclick: () => show(step + 1) })),
    parts.list,
    element("div", { className: "row" }, parts.heat, "in the first", parts.steps, "steps")));
  onCaseShown(() => { parts.heat.setAttribute("aria-pressed", false); if (found) draw(); else show(1); });
}

async function show(wanted) {
  try {
    found = await json(`api/patches?step=${Math.max(1, wanted || 1)}`);
  } catch (error) {
    parts.about.textContent = error.message;
    return;
  }
  step = parts.step.value = found.step;
  parts.step.max = found.iterations;
  steps = Math.min(steps, found.iterations);
  parts.steps.value = steps;
  parts.about.textContent = `${counted(found.batch_size, "patch", "patches")} of ${found.patch}³ voxels per step, from different cases; seed ${found.seed}.`;
  draw();
}

function draw() {
  const name = state.about.name, boxes = found.patches.filter((each) => each.case === name);
  for (const panel of panels) panel.setBoxes(boxes.map((each) => [each.first, each.past]));
  parts.list.replaceChildren(...found.patches.map((each) => element("li", {},
    element("button", { className: "link", text: each.case, onclick: () => go(each) }), ` from voxel ${each.first.join(", ")}`)));
}

async function go(patch) {
  const number = state.gallery.cases.findIndex((each) => each.name === patch.case);
  if (number !== state.number) await showCase(number);
  lead().moveTo(patch.first.map((at, axis) => Math.floor((at + Math.min(patch.past[axis], state.scan.shape[axis])) / 2)));
}

function toggleHeat() {
  if (state.heat) {
    parts.heat.setAttribute("aria-pressed", false);
    setHeat(null);
  } else showHeat();
}

async function showHeat() {
  try {
    const answer = await asked(caseAt(`/coverage?steps=${steps}`));
    const bitmap = new Uint8Array(await answer.arrayBuffer());
    parts.heat.setAttribute("aria-pressed", true);
    await setHeat({ bitmap, most: Number(answer.headers.get("x-most")) });
    parts.about.textContent = `Voxels of this case lie in up to ${answer.headers.get("x-most")} of the patches of ${counted(steps, "step")}.`;
  } catch (error) {
    parts.about.textContent = error.message;
  }
}
