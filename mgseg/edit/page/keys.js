// The keyboard. One table makes both the handler and the page of help.

import { closePolygon, cancel, choose, copyBefore, isDrawing, moveCross, reshape, togglePen, TOOLS } from "./tools.js";
import { model, numFrames, objects, show } from "./model.js";
import { nextDoubtful, nextGiven } from "./timeline.js";
import { addObject, resize, select } from "./panels.js";
import { fit, redraw, zoom } from "./stage.js";

const go = by => show((model.target ?? model.frame) + by);

export function makeKeys({ run, stop, play, undo, redo, cycleView, openExport }) {
  const table = [
    ["Frames", [
      ["ArrowLeft", "← →", "previous frame, next frame", () => go(-1)], ["ArrowRight", "", "", () => go(1)],
      ["Shift+ArrowLeft", "Shift ← →", "ten frames back, ten forward", () => go(-10)], ["Shift+ArrowRight", "", "", () => go(10)],
      ["Home", "Home End", "first frame, last frame", () => show(0)], ["End", "", "", () => show(numFrames() - 1)],
      [" ", "Space", "play, pause", play],
      ["N", "N", "next doubtful frames (Shift: previous)", () => nextDoubtful(1)], ["Shift+N", "", "", () => nextDoubtful(-1)],
      ["G", "G", "next given mask (Shift: previous)", () => nextGiven(1)], ["Shift+G", "", "", () => nextGiven(-1)],
    ]],
    ["Run", [
      ["Enter", "Enter", "run: make masks in both directions from the given ones", () => isDrawing() ? closePolygon() : run({ direction: "both" })],
      ["Shift+Enter", "Shift Enter", "run only up to the next given mask", () => run({ direction: "both", up_to: model.frame })],
      ["Escape", "Esc", "stop; cancel a polygon", () => isDrawing() ? cancel() : stop()],
    ]],
    ["Masks", [
      ...TOOLS.map(tool => [tool.key, tool.key, tool.title.split(":")[0].toLowerCase(), () => choose(tool.name)]),
      ["[", "[ ]", "smaller, larger brush", () => resize(1 / 1.25)], ["]", "", "", () => resize(1.25)],
      ["Shift+{", "Shift [ ]", "shrink, grow the object", reshape.shrink], ["Shift+}", "", "", reshape.grow],
      ["M", "M", "smooth the object's edge", reshape.smooth], ["Delete", "Del", "remove the object from this frame", reshape.clear],
      ["C", "C", "copy the mask of the previous frame", copyBefore],
      ["Ctrl+Z", "Ctrl Z", "undo", undo], ["Ctrl+Shift+Z", "Ctrl Shift Z", "redo", redo], ["Ctrl+Y", "", "", redo],
    ]],
    ["Objects", [
      ["1…9", "1 … 9", "choose an object", null],
      ["A", "A", "add an object", addObject],
    ]],
    ["View", [
      ["V", "V", "overlay, contour, matte, frame only", cycleView],
      ["O", "O (hold)", "show the frame without its mask", () => { model.plain = true; redraw(); }],
      ["+", "+ −", "zoom; the wheel zooms to the pointer", () => zoom(1.25)], ["=", "", "", () => zoom(1.25)], ["-", "", "", () => zoom(.8)],
      ["0", "0", "show the whole frame", () => fit()],
    ]],
    ["Without a mouse", [
      ["Alt+ArrowLeft", "Alt arrows", "move the cross (Shift: by one pixel)", null],
      ["X", "X", "lower, lift the brush at the cross", togglePen],
    ]],
    ["Other", [
      ["Ctrl+E", "Ctrl E", "export", openExport],
      ["?", "?", "these keys", () => document.getElementById("keys").showModal()],
    ]],
  ];
  const actions = new Map(table.flatMap(([, keys]) => keys.filter(k => k[3]).map(k => [k[0].toLowerCase(), k[3]])));
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  document.addEventListener("keydown", event => {
    if (document.querySelector("dialog[open]") || event.target.matches("input[type=text], select")) return;
    const control = event.ctrlKey || event.metaKey;
    if (event.altKey && steps[event.key]) {
      event.preventDefault();
      const by = event.shiftKey ? 1 : Math.max(4, model.radius / 2);
      return moveCross(steps[event.key][0] * by, steps[event.key][1] * by);
    }
    if (event.altKey) return;
    if (event.target.matches("button, summary") && (event.key === " " || event.key === "Enter")) return; // presses the button
    if (event.target.matches("input[type=range]") && event.key.startsWith("Arrow")) return;
    if (!control && /^[1-9]$/.test(event.key)) {
      const object = objects()[Number(event.key) - 1];
      if (object) select(object.id);
      return;
    }
    const letter = event.key.length === 1 && event.key.toLowerCase() !== event.key.toUpperCase();
    const shift = event.shiftKey && (letter || event.key.length > 1 || "{}".includes(event.key)) ? "shift+" : "";
    const action = actions.get(`${control ? "ctrl+" : ""}${shift}${event.key.toLowerCase()}`);
    if (!action || (event.repeat && !event.key.startsWith("Arrow") && !"[]+-=".includes(event.key))) return;
    event.preventDefault();
    action();
  });
  document.addEventListener("keyup", event => {
    if (event.key.toLowerCase() === "o" && model.plain) { model.plain = false; redraw(); }
  });

  const dialog = document.getElementById("keys");
  const groups = table.map(([title, keys]) => {
    const head = Object.assign(document.createElement("h3"), { textContent: title }), list = document.createElement("dl");
    for (const [, label, text] of keys) {
      if (!label) continue;
      const term = document.createElement("dt"), what = Object.assign(document.createElement("dd"), { textContent: text });
      term.append(Object.assign(document.createElement("kbd"), { textContent: label }));
      list.append(term, what);
    }
    return [head, list];
  });
  const close = Object.assign(document.createElement("button"), { textContent: "Close" });
  close.addEventListener("click", () => dialog.close());
  const end = Object.assign(document.createElement("div"), { className: "end" });
  end.append(close);
  dialog.replaceChildren(Object.assign(document.createElement("h2"), { textContent: "Keys", tabIndex: -1, autofocus: true }), ...groups.flat(), end);
}
