// Talks to the server. Every address is relative to the base that holds the token.

const clip = document.body.dataset.clip;
const page = crypto.randomUUID ? crypto.randomUUID() : String(Math.random());

export class ApiError extends Error {
  constructor(status, body) {
    super(body.error || `the server answered ${status}`);
    this.status = status;
    this.hint = body.hint || "";
  }
}

async function request(path, options = {}) {
  const headers = { "X-Page": page, ...options.headers };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new ApiError(0, { error: "mgseg edit does not respond", hint: "start it again; your work is saved" });
  }
  if (!answer.ok) throw new ApiError(answer.status, await answer.json().catch(() => ({})));
  return answer;
}

const post = async (path, values = {}) =>
  (await request(path, { method: "POST", body: JSON.stringify(values), headers: { "Content-Type": "application/json" } })).json();

export const clips = async () => (await request("clips")).json();
export const state = async () => (await request(`c/${clip}/state`)).json();
export const act = (name, values) => post(`c/${clip}/${name}`, values);
export const stop = () => act("stop");

export async function frame(number, preview, signal) {
  const answer = await request(`c/${clip}/frame/${number}.jpg${preview ? "?size=preview" : ""}`, { signal });
  return createImageBitmap(await answer.blob());
}

export async function mask(number, preview) {
  const answer = await request(`c/${clip}/mask/${number}${preview ? "?size=preview" : ""}`);
  const [width, height] = answer.headers.get("X-Size").split("x").map(Number);
  return { labels: new Uint8Array(await answer.arrayBuffer()), width, height, version: answer.headers.get("X-Version") };
}

export async function putMask(number, labels, version) {
  const stream = new Blob([labels]).stream().pipeThrough(new CompressionStream("deflate"));
  const body = await new Response(stream).arrayBuffer();
  const headers = version ? { "If-Match": version } : {};
  return (await request(`c/${clip}/mask/${number}`, { method: "PUT", body, headers })).json();
}

// Calls `hear(event)` for what happens to this clip, and `hear({type: "reload"})` after a lost connection came back.
// The promise is kept once the server sends to this page: what it is asked for after that misses nothing.
export const listen = hear => new Promise(listening => {
  const source = new EventSource("events");
  let opened = false;
  source.onerror = () => hear({ type: "lost" });
  source.onmessage = ({ data }) => {
    const event = JSON.parse(data);
    if (event.type === "open") {
      if (opened) hear({ type: "reload" });
      opened = true;
      listening();
    } else if (event.type === "reload" || (event.clip === clip && event.by !== page)) hear(event);
  };
});
