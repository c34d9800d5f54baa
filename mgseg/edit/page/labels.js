// Operations on a label map: a Uint8Array of width * height object ids. Each returns the window that it changed,
// {left, top, right, bottom} (right and bottom outside), or null. `locked` is a Uint8Array(256): 1 is not painted over.

export const union = (a, b) => !a ? b : !b ? a : {
  left: Math.min(a.left, b.left), top: Math.min(a.top, b.top),
  right: Math.max(a.right, b.right), bottom: Math.max(a.bottom, b.bottom),
};

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

// A thick line with round ends from (x0, y0) to (x1, y1). `only`: paint over this id alone (for the eraser), or null.
export function line(map, x0, y0, x1, y1, radius, id, locked, only = null) {
  const { labels, width, height } = map;
  const left = clamp(Math.floor(Math.min(x0, x1) - radius), 0, width), right = clamp(Math.ceil(Math.max(x0, x1) + radius) + 1, 0, width);
  const top = clamp(Math.floor(Math.min(y0, y1) - radius), 0, height), bottom = clamp(Math.ceil(Math.max(y0, y1) + radius) + 1, 0, height);
  let changed = false;
  const dx = x1 - x0, dy = y1 - y0, length = dx * dx + dy * dy, reach = radius * radius;
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const px = x + .5 - x0, py = y + .5 - y0;
      const t = length ? clamp((px * dx + py * dy) / length, 0, 1) : 0;
      const ex = px - t * dx, ey = py - t * dy;
      if (ex * ex + ey * ey > reach) continue;
      const at = y * width + x, old = labels[at];
      if (old === id || locked[old] || (only !== null && old !== only)) continue;
      labels[at] = id;
      changed = true;
    }
  }
  return changed ? { left, top, right, bottom } : null;
}

// A filled polygon of [[x, y], ...].
export function polygon(map, points, id, locked) {
  const { labels, width, height } = map;
  let low = Infinity, high = -Infinity; // not Math.min(...ys), which overflows the stack for some 100,000 points
  for (const [, y] of points) { low = Math.min(low, y); high = Math.max(high, y); }
  const top = clamp(Math.floor(low), 0, height), bottom = clamp(Math.ceil(high) + 1, 0, height);
  for (let y = top; y < bottom; y++) {
    const crossings = [];
    for (let i = 0, j = points.length - 1; i < points.length; j = i++) {
      const [xi, yi] = points[i], [xj, yj] = points[j], at = y + .5;
      if ((yi > at) !== (yj > at)) crossings.push(xi + (at - yi) / (yj - yi) * (xj - xi));
    }
    crossings.sort((a, b) => a - b);
    for (let k = 0; k + 1 < crossings.length; k += 2) {
      const first = clamp(Math.ceil(crossings[k] - .5), 0, width), last = clamp(Math.ceil(crossings[k + 1] - .5), 0, width);
      for (let x = first; x < last; x++) if (!locked[labels[y * width + x]]) labels[y * width + x] = id;
    }
  }
  return top < bottom ? { left: 0, top, right: width, bottom } : null;
}

// All connected pixels of the id under (x, y) become `id`.
export function fill(map, x, y, id, locked) {
  const { labels, width, height } = map;
  const old = labels[y * width + x];
  if (old === id || locked[old]) return null;
  const stack = [y * width + x];
  let box = null;
  while (stack.length) {
    const at = stack.pop();
    if (labels[at] !== old) continue;
    const row = at - at % width;
    let first = at, last = at;
    while (first > row && labels[first - 1] === old) first--;
    while (last < row + width - 1 && labels[last + 1] === old) last++;
    labels.fill(id, first, last + 1);
    const line = row / width;
    box = union(box, { left: first - row, top: line, right: last - row + 1, bottom: line + 1 });
    for (const next of [-width, width]) {
      if (line + Math.sign(next) < 0 || line + Math.sign(next) >= height) continue;
      for (let k = first + next; k <= last + next; k++) if (labels[k] === old && (k === first + next || labels[k - 1] !== old)) stack.push(k);
    }
  }
  return box;
}

const CROSS = [[-1, 0], [1, 0], [0, -1], [0, 1]];
const SQUARE = [...CROSS, [-1, -1], [1, -1], [-1, 1], [1, 1]];

// Grow (by > 0) or shrink (by < 0) one object by one pixel each time, in eight and four directions in turn.
export function grow(map, id, by, locked) {
  const { labels, width, height } = map;
  let changed = null;
  for (let round = 0; round < Math.abs(by); round++) {
    const box = bounds(map, id);
    if (!box) return changed;
    const area = { left: Math.max(0, box.left - 1), top: Math.max(0, box.top - 1), right: Math.min(width, box.right + 1), bottom: Math.min(height, box.bottom + 1) };
    const near = round % 2 ? CROSS : SQUARE, turn = [];
    for (let y = area.top; y < area.bottom; y++) {
      for (let x = area.left; x < area.right; x++) {
        const at = y * width + x, mine = labels[at] === id;
        if (by > 0 ? mine || locked[labels[at]] : !mine) continue;
        const edge = near.some(([dx, dy]) => x + dx >= 0 && y + dy >= 0 && x + dx < width && y + dy < height
          && (labels[at + dy * width + dx] === id) === (by > 0));
        if (edge) turn.push(at);
      }
    }
    for (const at of turn) labels[at] = by > 0 ? id : 0;
    changed = union(changed, area);
  }
  return changed;
}

// Smooth the edge of one object: each pixel goes with the majority around it.
export function smooth(map, id, radius, locked) {
  const { labels, width, height } = map;
  const box = bounds(map, id);
  if (!box) return null;
  const left = Math.max(0, box.left - radius), top = Math.max(0, box.top - radius);
  const right = Math.min(width, box.right + radius), bottom = Math.min(height, box.bottom + radius);
  const w = right - left, h = bottom - top, sums = new Int32Array((w + 1) * (h + 1));
  for (let y = 0; y < h; y++) {
    for (let x = 0, row = 0; x < w; x++) {
      row += labels[(top + y) * width + left + x] === id;
      sums[(y + 1) * (w + 1) + x + 1] = sums[y * (w + 1) + x + 1] + row;
    }
  }
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const x0 = Math.max(0, x - radius), x1 = Math.min(w, x + radius + 1), y0 = Math.max(0, y - radius), y1 = Math.min(h, y + radius + 1);
      const count = sums[y1 * (w + 1) + x1] - sums[y0 * (w + 1) + x1] - sums[y1 * (w + 1) + x0] + sums[y0 * (w + 1) + x0];
      const at = (top + y) * width + left + x, mine = labels[at] === id, majority = 2 * count > (x1 - x0) * (y1 - y0);
      if (majority && !mine && !locked[labels[at]]) labels[at] = id;
      if (!majority && mine) labels[at] = 0;
    }
  }
  return { left, top, right, bottom };
}

// The window of one object, or null.
export function bounds({ labels, width }, id) {
  let left = Infinity, top = -1, right = -1, bottom = -1;
  for (let at = 0; at < labels.length; at++) {
    if (labels[at] !== id) continue;
    const x = at % width, y = (at - x) / width;
    if (top < 0) top = y;
    bottom = y;
    if (x < left) left = x;
    if (x > right) right = x;
  }
  return top < 0 ? null : { left, top, right: right + 1, bottom: bottom + 1 };
}
