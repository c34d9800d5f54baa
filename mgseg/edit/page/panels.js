// The panel at the side: objects, the tool's options, what is known of the frame. And the bar of tools.

import { act, emit, model, objects, on, say } from "./model.js";
import { TOOLS, choose, copyBefore, reshape } from "./tools.js";
import { redraw } from "./stage.js";

const byId = id => document.getElementById(id);
const COLOURS = ["#ff4d4d", "#3fb950", "#4c9aff", "#ffb020", "#b16cff", "#22c7c7", "#ff7ac6", "#a3d94a", "#ff8a4c"];

export function select(id) {
  if (!objects().some(o => o.id === id)) return;
  model.object = id;
  emit("tool");
}

const change = table => act("objects", { objects: table }).catch(error => say(error.message, true));
const changeOne = (id, values) => change(model.state.objects.map(o => o.id === id ? { ...o, ...values } : o));

export async function addObject() {
  const used = new Set(model.state.objects.map(o => o.id)), id = Array.from({ length: 254 }, (_, i) => i + 1).find(i => !used.has(i));
  if (!id) return say("a mask can contain at most 254 objects", true);
  await change([...model.state.objects, { id, name: `object ${id}`, colour: COLOURS[(id - 1) % COLOURS.length], hidden: false, locked: false, deleted: false }]);
  select(id);
}

export function removeObject(id) { return changeOne(id, { deleted: true }); }

const ICONS = {
  shown: "M2 12c3-5 6-7 10-7s7 2 10 7c-3 5-6 7-10 7s-7-2-10-7zM12 9a3 3 0 1 1 0 6 3 3 0 0 1 0-6z",
  hidden: "M2 12c3-5 6-7 10-7s7 2 10 7c-3 5-6 7-10 7s-7-2-10-7zM4 20 20 4",
  locked: "M6 11h12v9H6zM8 11V8a4 4 0 0 1 8 0v3",
  open: "M6 11h12v9H6zM8 11V8a4 4 0 0 1 7.500-2",
  remove: "M6 6l12 12M18 6 6 18",
};

function icon(path) {
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg"), line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  picture.setAttribute("viewBox", "0 0 24 24");
  line.setAttribute("d", path);
  picture.append(line);
  return picture;
}

function button(label, text, pressed, click) {
  const element = document.createElement("button");
  element.title = label;
  element.append(ICONS[text] ? icon(ICONS[text]) : text);
  element.setAttribute("aria-label", label);
  if (pressed !== null) element.setAttribute("aria-pressed", pressed);
  element.addEventListener("click", event => { event.stopPropagation(); click(); });
  return element;
}

function drawObjects() {
  const list = byId("objects");
  if (list.contains(document.activeElement) && document.activeElement.type === "text") return; // a name is being typed
  list.replaceChildren(...objects().map((object, place) => {
    const item = document.createElement("li");
    item.setAttribute("aria-current", object.id === model.object);
    item.dataset.id = object.id;
    const number = document.createElement("span");
    number.className = "number";
    number.textContent = place < 9 ? place + 1 : "";
    const colour = Object.assign(document.createElement("input"), { type: "color", value: object.colour, title: `Colour of ${object.name}` });
    colour.setAttribute("aria-label", `Colour of ${object.name}`);
    colour.addEventListener("change", () => changeOne(object.id, { colour: colour.value }));
    const name = Object.assign(document.createElement("input"), { type: "text", value: object.name, maxLength: 100 });
    name.setAttribute("aria-label", `Name of object ${object.id}`);
    name.addEventListener("focus", () => select(object.id));
    name.addEventListener("change", () => { name.blur(); changeOne(object.id, { name: name.value.trim() || `object ${object.id}` }); });
    name.addEventListener("keydown", event => { event.stopPropagation(); if (event.key === "Enter" || event.key === "Escape") name.blur(); });
    item.append(number, colour, name,
      button(`${object.hidden ? "Show" : "Hide"} ${object.name}`, object.hidden ? "hidden" : "shown", object.hidden, () => changeOne(object.id, { hidden: !object.hidden })),
      button(`${object.locked ? "Unlock" : "Lock"} ${object.name}`, object.locked ? "locked" : "open", object.locked, () => changeOne(object.id, { locked: !object.locked })),
      button(`Delete ${object.name}`, "remove", null, () => removeObject(object.id)));
    item.addEventListener("click", () => select(object.id));
    return item;
  }));
}

function markObjects() {
  for (const item of byId("objects").children) item.setAttribute("aria-current", Number(item.dataset.id) === model.object);
}

function drawTools() {
  byId("tools").replaceChildren(...TOOLS.map(tool => {
    const element = button(`${tool.title} (${tool.key})`, "", tool.name === model.tool, () => choose(tool.name));
    const key = document.createElement("kbd");
    key.textContent = tool.key;
    element.append(icon(tool.icon), key);
    element.dataset.tool = tool.name;
    return element;
  }));
}

export function resize(factor) {
  model.radius = Math.max(.5, Math.min(400, model.radius * factor));
  emit("tool");
}

function drawOptions() {
  for (const element of byId("tools").children) element.setAttribute("aria-pressed", element.dataset.tool === model.tool);
  const tool = TOOLS.find(t => t.name === model.tool), options = byId("tool-options");
  const title = document.createElement("div");
  title.textContent = tool.title;
  const parts = [title];
  if (["brush", "eraser", "smart"].includes(model.tool)) {
    const label = document.createElement("label"), value = document.createElement("span");
    const slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 100, value: Math.log(model.radius / .5) / Math.log(800) * 100 });
    value.textContent = `${Math.round(2 * model.radius)} px`;
    slider.setAttribute("aria-label", "Size of the brush");
    slider.addEventListener("input", () => { model.radius = .5 * 800 ** (slider.value / 100); value.textContent = `${Math.round(2 * model.radius)} px`; redraw(); });
    label.append("Size [ ]", slider, value);
    parts.push(label);
  }
  const row = document.createElement("div");
  row.className = "row";
  for (const [text, title_, call] of [["Grow", "Grow the object by a pixel (Shift+])", reshape.grow], ["Shrink", "Shrink the object by a pixel (Shift+[)", reshape.shrink],
    ["Smooth", "Smooth the object's edge (M)", reshape.smooth], ["Clear", "Remove the object from this frame (Delete)", reshape.clear]]) {
    const element = button(title_, text, null, call);
    row.append(element);
  }
  options.replaceChildren(...parts, row);
}

function drawFrame() {
  const { state, frame } = model, given = state.given.includes(frame);
  const lines = [given ? "Given: you made or corrected this mask." : state.predicted.includes(frame) ? "Predicted by the network." : "No mask yet."];
  for (const object of objects()) {
    const j = state.confidence[frame]?.[object.id];
    if (!given && j !== undefined) lines.push(`${object.name}: confidence ${Math.round(100 * j)} %`);
  }
  byId("frame-state").textContent = lines.join("\n");
  byId("forget").disabled = !given;
  byId("undo").disabled = !state.undo;
  byId("redo").disabled = !state.redo;
}

byId("add-object").addEventListener("click", addObject);
byId("copy-before").addEventListener("click", copyBefore);
on("state", () => { drawObjects(); drawFrame(); });
on("frame", drawFrame);
on("tool", () => { markObjects(); drawOptions(); });
drawTools();
