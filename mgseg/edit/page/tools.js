// The tools: what the pointer and the tool's own keys do to the mask that is shown.

import * as labels from "./labels.js";
import { act, complain, emit, forgetMasks, lockedTable, mask, model, on, objects, reshow, save, say, settled } from "./model.js";
import { decorations, pan, place, recolour, redraw, stage, timing, zoom } from "./stage.js";

export const TOOLS = [
  { name: "brush", key: "B", title: "Brush", icon: "M4 20c3 0 5-1 5-4 0-1.500-1-2.500-2.500-2.500S4 15 4 17c0 1.500-.500 2.500-2 3M9 14 20 3l1 1L11 15" },
  { name: "eraser", key: "E", title: "Eraser: removes the chosen object", icon: "M4 15 14 5l6 6-9 9H8zM9 10l6 6M11 20h9" },
  { name: "polygon", key: "P", title: "Polygon: click the corners, double-click or Enter to close", icon: "M12 3l8 6-3 10H7L4 9zM12 3v.01M20 9v.01M17 19v.01M7 19v.01M4 9v.01" },
  { name: "lasso", key: "L", title: "Lasso: draw around", icon: "M12 4c5 0 8 2 8 5s-3 5-8 5-8-2-8-5 3-5 8-5zM7 13c-2 2-1 4 1 4s2 3 0 4" },
  { name: "fill", key: "F", title: "Fill: click an area", icon: "M11 3l8 8-7 7-8-8zM11 3 8 6M4 10h14M20 16c1 2 1.500 3 1.500 3.500a1.500 1.500 0 0 1-3 0c0-.500.500-1.500 1.500-3.500z" },
  { name: "smart", key: "S", title: "Smart: draw a box around the object, then strokes on it. Shift or right button: strokes on the background", icon: "M4 8V4h4M16 4h4v4M20 16v4h-4M8 20H4v-4M12 8v8M8 12h8" },
  { name: "pan", key: "H", title: "Hand: move the picture", icon: "M7 11V6.500a1.500 1.500 0 0 1 3 0V11 4.500a1.500 1.500 0 0 1 3 0V11 6a1.500 1.500 0 0 1 3 0v6-3a1.500 1.500 0 0 1 3 0v5c0 4-2 7-6 7s-5-2-6.500-4.500L4 13c1-1.500 2.500-.500 3 1" },
];

let path = [], box = null, pointers = new Map(), active = null, cursor = null, changed = null, pen = false, cutting = false;
let strokes = { frame: -1, box: null, plus: [], minus: [] };

export function choose(name) {
  if (path.length) cancel();
  model.tool = name;
  emit("tool");
  stage.style.cursor = name === "pan" ? "grab" : ["brush", "eraser"].includes(name) ? "none" : "crosshair";
}

export function ready() {
  if (cutting) { say("cutting out …"); return false; }
  if (!model.map || !model.full) { say("the frame is still loading"); return false; }
  const object = objects().find(o => o.id === model.object);
  if (!object) { say("add an object first", true); return false; }
  if (object.locked) { say(`${object.name} is locked`, true); return false; }
  return true;
}

function dab(from, to, erase) {
  const id = erase ? 0 : model.object, only = erase ? model.object : null;
  const window_ = labels.line(model.map, ...from, ...to, model.radius, id, lockedTable(model.object), only);
  changed = labels.union(changed, window_);
  if (window_) recolour(window_);
}

function commit(window_, what) {
  if (!window_) return;
  recolour(window_);
  save();
  if (what) say(what);
}

function begin(event) {
  const at = place(event.clientX, event.clientY);
  const negative = event.button === 2 || event.shiftKey;
  if (model.tool === "pan" || event.button === 1) return { kind: "pan" };
  if (!ready()) return null;
  if (model.tool === "brush" || model.tool === "eraser") {
    const erase = model.tool === "eraser" || event.button === 2 || event.buttons === 32;
    timing.last = performance.now();
    dab(at, at, erase);
    return { kind: "stroke", erase, last: at };
  }
  if (model.tool === "lasso") { path = [at]; return { kind: "lasso" }; }
  if (model.tool === "polygon") return { kind: "corner" };
  if (model.tool === "fill") return { kind: "fill" };
  if (strokes.frame !== model.frame || strokes.object !== model.object) strokes = { frame: model.frame, object: model.object, box: null, plus: [], minus: [] };
  const known = model.map.labels.includes(model.object) || strokes.box;
  if (known || negative) { path = [at]; return { kind: "smart", negative }; }
  box = [...at, ...at];
  return { kind: "box" };
}

function move(event) {
  const at = place(event.clientX, event.clientY);
  cursor = at;
  if (!active) { redraw(); return; }
  if (active.kind === "pan") pan(event.movementX, event.movementY);
  if (active.kind === "stroke") {
    const events = event.getCoalescedEvents?.() || [];
    for (const one of events.length ? events : [event]) {
      const next = place(one.clientX, one.clientY);
      dab(active.last, next, active.erase);
      active.last = next;
    }
  }
  if (active.kind === "lasso" || active.kind === "smart") path.push(at);
  if (active.kind === "box") [box[2], box[3]] = at;
  redraw();
}

async function end(event) {
  const did = active, at = place(event.clientX, event.clientY);
  active = null;
  if (!did) return;
  if (did.kind === "stroke") { timing.last = 0; const window_ = changed; changed = null; if (window_) save(); }
  if (did.kind === "lasso") { const points = path; path = []; if (points.length > 2) commit(labels.polygon(model.map, points, model.object, lockedTable(model.object))); }
  if (did.kind === "corner") path.push(at);
  if (did.kind === "fill") {
    const [x, y] = at.map(Math.floor);
    if (x >= 0 && y >= 0 && x < model.map.width && y < model.map.height) commit(labels.fill(model.map, x, y, model.object, lockedTable(model.object)));
  }
  if (did.kind === "smart") { strokes[did.negative ? "minus" : "plus"].push({ points: path, radius: model.radius }); path = []; await cut(); }
  if (did.kind === "box") {
    const { width, height } = model.map, [x0, y0, x1, y1] = box;
    box = null;
    const clamp = (v, high) => Math.round(Math.max(0, Math.min(high, v)));
    strokes.box = [clamp(Math.min(x0, x1), width), clamp(Math.min(y0, y1), height), clamp(Math.max(x0, x1), width), clamp(Math.max(y0, y1), height)];
    if (strokes.box[2] - strokes.box[0] < 3 || strokes.box[3] - strokes.box[1] < 3) strokes.box = null;
    else await cut();
  }
  redraw();
}

async function cut() {
  cutting = true;
  say("cutting out …");
  try {
    const { frame, object, plus, minus } = strokes;
    await act("cut", { frame, object, box: strokes.box, plus, minus, version: model.map.version });
    forgetMasks(frame);
    await reshow();
    say("draw on the object to add to it; with Shift or the right button, draw on the background");
  } catch (error) {
    strokes.box = null;
    complain(error);
  } finally {
    cutting = false;
  }
}

export function closePolygon() {
  const points = path;
  path = [];
  if (points.length > 2) commit(labels.polygon(model.map, points, model.object, lockedTable(model.object)));
  redraw();
}

export function cancel() {
  path = [];
  box = null;
  if (active?.kind === "stroke") settled().then(() => { forgetMasks(model.frame); reshow(); });
  active = null;
  changed = null;
  redraw();
}

export const isDrawing = () => path.length > 0 || active !== null;
model.holds = number => active ? active.kind !== "pan" : number === model.frame && (path.length > 0 || pen);
model.leave = () => { if (pen) togglePen(); };
export const reshape = {
  grow: () => ready() && commit(labels.grow(model.map, model.object, 1, lockedTable(model.object))),
  shrink: () => ready() && commit(labels.grow(model.map, model.object, -1, lockedTable(model.object))),
  smooth: () => ready() && commit(labels.smooth(model.map, model.object, 3, lockedTable(model.object))),
  clear: () => {
    if (!ready()) return;
    const window_ = labels.bounds(model.map, model.object);
    if (!window_) return;
    for (let at = 0; at < model.map.labels.length; at++) if (model.map.labels[at] === model.object) model.map.labels[at] = 0;
    commit(window_);
  },
};

export async function copyBefore() {
  if (!ready() || model.frame === 0) return;
  const before = await mask(model.frame - 1, false);
  model.map.labels.set(before.labels);
  recolour();
  save();
  say(`the mask of frame ${model.frame - 1} is copied`);
}

// The cross that the keyboard moves: Alt and arrows; X lowers and lifts the brush.
export function moveCross(dx, dy) {
  cursor ||= [model.state.width / 2, model.state.height / 2];
  const next = [Math.max(0, Math.min(model.state.width, cursor[0] + dx)), Math.max(0, Math.min(model.state.height, cursor[1] + dy))];
  if (pen && ready()) dab(cursor, next, model.tool === "eraser");
  cursor = next;
  redraw();
}

export function togglePen() {
  cursor ||= [model.state.width / 2, model.state.height / 2];
  if (pen) { pen = false; if (changed) { changed = null; save(); } say("brush lifted"); return; }
  if (!["brush", "eraser"].includes(model.tool)) choose("brush");
  if (!ready()) return;
  pen = true;
  dab(cursor, cursor, model.tool === "eraser");
  say("brush lowered: Alt and arrow keys paint");
}

function pinch(before, after) {
  const middle = p => [(p[0].clientX + p[1].clientX) / 2, (p[0].clientY + p[1].clientY) / 2];
  const apart = p => Math.hypot(p[0].clientX - p[1].clientX, p[0].clientY - p[1].clientY);
  const [from, to] = [middle(before), middle(after)];
  pan(to[0] - from[0], to[1] - from[1]);
  zoom(apart(after) / Math.max(1, apart(before)), ...to);
}

stage.addEventListener("pointerdown", event => {
  if (event.target.closest("button")) return;
  stage.focus({ preventScroll: true });
  stage.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, event);
  if (pointers.size === 2) { cancel(); return; }
  if (pointers.size === 1) active = begin(event);
});
stage.addEventListener("pointermove", event => {
  if (pointers.size === 2 && pointers.has(event.pointerId)) {
    const before = [...pointers.values()];
    pointers.set(event.pointerId, event);
    pinch(before, [...pointers.values()]);
    return;
  }
  if (pointers.has(event.pointerId)) pointers.set(event.pointerId, event);
  move(event);
});
for (const name of ["pointerup", "pointercancel"]) {
  stage.addEventListener(name, event => {
    const single = pointers.size === 1;
    pointers.delete(event.pointerId);
    if (!single) return;
    if (name === "pointerup") end(event); else cancel();
  });
}
stage.addEventListener("pointerleave", () => { if (!pen) cursor = null; redraw(); });
stage.addEventListener("dblclick", () => { if (model.tool === "polygon") { path.pop(); closePolygon(); } });
stage.addEventListener("contextmenu", event => event.preventDefault());
stage.addEventListener("wheel", event => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? .05 : .0016)), event.clientX, event.clientY);
}, { passive: false });

decorations.push((context, pixel) => {
  const colour = objects().find(o => o.id === model.object)?.colour || "#ffffff";
  context.lineWidth = 1.5 * pixel;
  const twice = draw => { for (const style of ["#000a", colour]) { context.strokeStyle = style; context.setLineDash(style === colour ? [6 * pixel, 4 * pixel] : []); draw(); } context.setLineDash([]); };
  if (path.length) twice(() => {
    context.beginPath();
    path.forEach(([x, y], i) => i ? context.lineTo(x, y) : context.moveTo(x, y));
    if (model.tool === "polygon" && cursor) context.lineTo(...cursor);
    context.stroke();
  });
  if (box) twice(() => context.strokeRect(box[0], box[1], box[2] - box[0], box[3] - box[1]));
  if (cursor && (["brush", "eraser"].includes(model.tool) || pen || (model.tool === "smart" && path.length))) {
    for (const [style, more] of [["#000c", pixel], ["#fff", 0]]) {
      context.strokeStyle = style;
      context.beginPath();
      context.arc(...cursor, model.radius + more, 0, 2 * Math.PI);
      context.stroke();
    }
  }
});
on("frame", () => { if (path.length || box) cancel(); });
