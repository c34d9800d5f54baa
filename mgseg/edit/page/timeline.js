// The timeline: confidence of each object by frame, given masks, scene cuts, doubtful stretches, where one is.

import { model, numFrames, objects, on, show } from "./model.js";

const root = document.getElementById("timeline"), canvas = root.querySelector("canvas"), context = canvas.getContext("2d");
const position = document.getElementById("position");
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name);

const clock = seconds => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(2).padStart(5, "0")}`;

// Red below a half, green from 0.9 on.
const hue = j => Math.max(0, Math.min(125, (j - .5) / .4 * 125));

function draw() {
  const state = model.state;
  if (!state) return;
  const ratio = devicePixelRatio || 1, width = root.clientWidth, height = root.clientHeight, count = numFrames();
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const x = frame => frame / count * width, step = Math.max(1, width / count);
  const shown = objects(), top = 16, row = (height - top - 4) / Math.max(1, shown.length);
  const predicted = new Set(state.predicted), given = new Set(state.given);
  context.fillStyle = css("--line");
  if (!state.complete) { context.globalAlpha = .5; context.fillRect(x(state.num_frames), 0, width, height); context.globalAlpha = 1; }
  for (const frame of new Set([...predicted, ...given])) {
    shown.forEach((object, i) => {
      const j = given.has(frame) ? 1 : state.confidence[frame]?.[object.id];
      context.fillStyle = j === undefined ? css("--dim") : `hsl(${hue(j)} 65% 45%)`;
      const part = j === undefined ? .5 : .25 + .75 * j;
      context.fillRect(x(frame), top + i * row + row * (1 - part), step + .5, row * part - 1);
    });
  }
  context.fillStyle = css("--warn");
  for (const stretch of state.doubtful || []) context.fillRect(x(stretch.first), height - 3, Math.max(3, x(stretch.last + 1) - x(stretch.first)), 3);
  context.strokeStyle = css("--warn");
  context.setLineDash([3, 3]);
  for (const cut of state.cuts || []) { context.beginPath(); context.moveTo(x(cut), 0); context.lineTo(x(cut), height); context.stroke(); }
  context.setLineDash([]);
  context.fillStyle = css("--given");
  for (const frame of given) {
    const middle = x(frame) + step / 2;
    context.beginPath();
    context.moveTo(middle, 2);
    context.lineTo(middle + 6, 8);
    context.lineTo(middle, 14);
    context.lineTo(middle - 6, 8);
    context.fill();
  }
  context.fillStyle = css("--text");
  context.fillRect(x(model.frame) + step / 2 - 1, 0, 2, height);
  position.textContent = `${model.frame} / ${count - 1}\n${clock(model.frame / state.rate)}`;
  root.setAttribute("aria-valuemax", count - 1);
  root.setAttribute("aria-valuenow", model.frame);
  root.setAttribute("aria-valuetext", `frame ${model.frame} of ${count - 1}${given.has(model.frame) ? ", given mask" : ""}`);
}

let waiting = false;
function redraw() { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); } }

// Where the tool itself is unsure: the server's stretches, worst first there; here in the clip's order.
export function nextDoubtful(direction = 1) {
  const stretches = [...(model.state.doubtful || [])].sort((a, b) => a.worst - b.worst);
  const next = direction > 0 ? stretches.find(s => s.worst > model.frame) || stretches[0]
    : stretches.reverse().find(s => s.worst < model.frame) || stretches[0];
  if (next) show(next.worst);
  return next;
}

export function nextGiven(direction) {
  const marks = direction > 0 ? model.state.given.filter(f => f > model.frame) : model.state.given.filter(f => f < model.frame).reverse();
  if (marks.length) show(marks[0]);
}

let dragging = false;
const frameAt = event => Math.floor((event.clientX - root.getBoundingClientRect().left) / root.clientWidth * numFrames());
root.addEventListener("pointerdown", event => { dragging = true; root.setPointerCapture(event.pointerId); show(frameAt(event), { preview: true }); });
root.addEventListener("pointermove", event => { if (dragging) show(frameAt(event), { preview: true }); });
root.addEventListener("pointerup", event => { dragging = false; show(frameAt(event)); });
for (const name of ["state", "frame", "tool"]) on(name, redraw);
new ResizeObserver(redraw).observe(root);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
