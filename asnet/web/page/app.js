// The page: a list of photographs, how each is to be deblurred, and what came of it.

import * as api from "./api.js";
import { Viewer } from "./viewer.js";

const POLL_MILLISECONDS = 250;
const BUSY_MILLISECONDS = 1500;
const JOBS_AT_ONCE = 2; // The next one is uploaded while one is being deblurred.

const $ = (id) => document.getElementById(id);
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const items = []; // The photographs, in the order in which they were added.
let chosen = null;
let running = 0;
let uploads = Promise.resolve(); // One after the other, so that they wait in their order.
let largestUpload = Infinity;

const viewer = new Viewer($("stage"), {
  onZoom: (percent) => ($("zoom").value = `${Math.round(percent)} %`),
  onRegion: (region) => {
    setDrawing(false);
    $("region").value = region ? region.join(",") : "";
    readOptions();
  },
});

// ---- what is asked for ----

/** The options as the form shows them. */
function formOptions() {
  return {
    source: $("source").value,
    region: $("region").value.trim(),
    kernelFile: $("kernel-file").files[0] ?? null,
    length: $("length").value,
    angle: $("angle").value,
    scale: $("scale").value,
    strength: $("strength").value,
    denoise: $("denoise").value,
  };
}

/** Let the form show the options of a photograph. */
function fillForm(options) {
  for (const name of ["source", "region", "length", "angle", "scale", "strength", "denoise"]) $(name).value = options[name];
  const files = new DataTransfer();
  if (options.kernelFile) files.items.add(options.kernelFile);
  $("kernel-file").files = files.files;
  showOptions();
}

/** Keep what the form shows as the options of the chosen photograph. */
function readOptions(event) {
  if (chosen) {
    chosen.options = formOptions();
    if (event?.target.id === "scale") chosen.insisted = false;
  }
  showOptions();
}

function showOptions() {
  const source = $("source").value;
  for (const part of document.querySelectorAll(".source")) part.hidden = part.dataset.source !== source;
  $("strength-value").value = `${Math.round(100 * $("strength").value)} %`;
  $("denoise-value").value = `${Math.round(100 * $("denoise").value)} %`;
  if (source === "line" && $("length").checkValidity() && $("angle").checkValidity()) {
    const picture = api.linePicture($("length").value, $("angle").value);
    if (!$("line").src.endsWith(picture)) $("line").src = picture;
  }
  const region = $("region").checkValidity() && $("region").value.trim();
  viewer.setRegion(source === "estimate" && region ? region.split(",").map(Number) : null);
  if (source !== "estimate") setDrawing(false);
  $("choose-region").disabled = !chosen;
  $("deblur").disabled = !chosen || isActive(chosen) || (source === "file" && !$("kernel-file").files.length);
}

function requestForm({ file, name, options }) {
  const form = new FormData();
  form.append("photograph", file, name);
  if (options.source === "file" && options.kernelFile) form.append("kernel", options.kernelFile);
  if (options.source === "line") form.append("line", `${options.length},${options.angle}`);
  if (options.source === "estimate" && options.region) form.append("region", options.region);
  form.append("scale", options.scale);
  form.append("strength", options.strength);
  form.append("denoise", options.denoise);
  return form;
}

// ---- photographs and their deblurring ----

const isActive = (item) => ["waiting", "sent"].includes(item.state);

function add(files) {
  for (const file of files) {
    // A region belongs to its photograph; everything else goes for the next one too.
    const options = { ...formOptions(), region: "" };
    // "All the same" was said of one photograph alone.
    if (chosen?.insisted) options.scale = "auto";
    const item = { file, name: file.name, options, state: "waiting", status: null, result: null, message: "" };
    item.original = URL.createObjectURL(file);
    items.push(item);
    start(item);
    if (file === files[0]) choose(item);
  }
  refresh();
}

function start(item) {
  forgetResult(item);
  Object.assign(item, { state: "waiting", status: null, message: "", run: {} });
  if (item.file.size >= largestUpload) fail(item, `the upload is larger than the limit of ${largestUpload / 1e6} megabytes; asnet serve --max-upload raises it`);
  const { source, kernelFile } = item.options;
  if (source === "file" && !kernelFile) fail(item, "choose the file of the blur kernel first");
  next();
}

/** Begin with as many of those that wait as may run at once. */
function next() {
  for (const item of items) {
    if (running >= JOBS_AT_ONCE) break;
    if (item.state !== "waiting") continue;
    running += 1;
    item.state = "sent";
    const { run } = item;
    deblur(item, run)
      .catch((error) => item.run === run && fail(item, error.message))
      .finally(() => {
        running -= 1;
        next();
      });
  }
  refresh();
}

/** Deblur a photograph; once its `run` is another one nobody waits for this one any more. */
async function deblur(item, run) {
  const upload = uploads.then(() => submitWithPatience(item, run));
  uploads = upload.catch(() => {});
  let status = await upload;
  const isWanted = () => item.run === run;
  while (isWanted() && ["waiting", "running"].includes(status.state)) {
    item.status = status;
    refresh();
    await pause(POLL_MILLISECONDS);
    if (isWanted()) status = await api.status(status.id);
  }
  let blobs = [];
  const names = ["before", "after", "result", "kernel-view.png", "kernel.png", "kernel.npy"];
  if (isWanted() && status.state === "done") {
    blobs = await Promise.all(names.map((name) => api.file(status.id, name)));
  }
  if (status) api.discard(status.id);
  if (!isWanted()) return;
  if (status.state !== "done") throw new Error(status.message ?? "the server has cancelled it");
  item.status = status;
  item.result = Object.fromEntries(names.map((name, index) => [name, URL.createObjectURL(blobs[index])]));
  item.state = "done";
  refresh();
}

/** Submit, and wait where the server's queue is full; null if it is no longer wanted. */
async function submitWithPatience(item, run) {
  while (item.run === run) {
    try {
      return await api.submit(requestForm(item));
    } catch (error) {
      if (error.status !== 503) throw error;
      await pause(BUSY_MILLISECONDS);
    }
  }
  return null;
}

function fail(item, message) {
  item.state = "failed";
  item.message = message;
  refresh();
}

function cancel(item) {
  if (!isActive(item)) return;
  item.run = null;
  item.state = "cancelled";
  if (item.status) api.discard(item.status.id);
  refresh();
}

function forgetResult(item) {
  if (item.result) for (const url of Object.values(item.result)) URL.revokeObjectURL(url);
  item.result = null;
}

function remove(item) {
  cancel(item);
  forgetResult(item);
  URL.revokeObjectURL(item.original);
  items.splice(items.indexOf(item), 1);
  if (chosen === item) choose(items[0] ?? null);
  refresh();
}

function choose(item) {
  chosen = item;
  setDrawing(false);
  if (item) fillForm(item.options);
  refresh();
}

// ---- what is shown ----

/** What is said of a photograph: in the list, and below it. */
function sayings(item) {
  const { state, status } = item;
  // Most messages of the server begin with the photograph's name.
  const named = item.message.startsWith(item.name) ? item.message : `${item.name} could not be done: ${item.message}`;
  if (state === "failed") return ["failed", named];
  if (state === "cancelled") return ["cancelled", "Cancelled."];
  if (state === "done") {
    const { status: found } = status.result;
    if (found === "sharp") return ["no blur", "This photograph shows no blur. It is left unchanged."];
    if (found === "unclear") return ["unclear", "The blur cannot be estimated reliably. The photograph is left unchanged."];
    return ["done", "Deblurred."];
  }
  if (!status) return ["waiting", "Waiting."];
  if (status.state === "waiting") {
    const before = status.position === 1 ? "1 photograph" : `${status.position} photographs`;
    return ["waiting", status.position ? `Waiting for ${before} before it.` : "Waiting."];
  }
  if (status.stage === "restoring") {
    const percent = Math.round(100 * status.share);
    return [`${percent} %`, `Restoring: ${percent} % done.`];
  }
  return ["estimating", status.stage === "estimating" ? "Estimating the blur." : "Reading the photograph."];
}

let shownUrls = "";

function refresh() {
  showList();
  const item = chosen;
  $("drop").hidden = Boolean(item);
  $("tools").hidden = $("state").hidden = !item;
  if (!item) {
    shownUrls = "";
    viewer.clear();
    $("unshown").hidden = true;
    $("kernel-section").hidden = true;
    showOptions();
    return;
  }
  // There is nothing to compare where the photograph is left unchanged.
  const compared = item.result && item.status.result.status === "blurred";
  const urls = item.result ? [item.result.before, compared ? item.result.after : null] : [item.original, null];
  if (shownUrls !== urls.join()) {
    shownUrls = urls.join();
    $("unshown").hidden = true;
    viewer.show(...urls).then((visible) => {
      if (chosen !== item) return;
      $("unshown").hidden = visible;
      if (!visible) $("zoom").value = "";
      showOptions();
    });
  }
  $("unshown").textContent = isActive(item)
    ? "The browser cannot show this format itself. The photograph appears once it is deblurred."
    : "There is no picture to show.";
  showState(item);
  showKernel(item);
  showOptions();
}

function showState(item) {
  const active = isActive(item);
  const result = item.state === "done" ? item.status.result : null;
  const message = sayings(item)[1];
  // Set again it would be read out again.
  if ($("message").textContent !== message) $("message").textContent = message;
  $("state").className = item.state;
  $("progress").hidden = $("cancel").hidden = !active;
  if (item.status?.stage === "restoring" && item.status.share > 0) $("progress").value = item.status.share;
  else $("progress").removeAttribute("value");
  $("anyway").hidden = !result || result.status === "blurred";
  $("notes").replaceChildren(...(result?.notes ?? []).map((note) => Object.assign(document.createElement("li"), { textContent: note })));
  $("save").hidden = !item.result;
  if (item.result) link($("save"), item.result.result, resultName(item));
  const done = items.filter((other) => other.result);
  $("save-all").hidden = done.length < 2;
}

function showKernel(item) {
  const result = item.state === "done" ? item.status.result : null;
  const shown = result?.status === "blurred";
  $("kernel-section").hidden = !shown;
  if (!shown) return;
  const picture = item.result["kernel-view.png"];
  if ($("kernel").src !== picture) $("kernel").src = picture;
  const size = `${result.kernel_extent} × ${result.kernel_extent} pixels`;
  $("kernel-caption").textContent = result.scale > 1 ? `${size}, removed at 1/${result.scale} of the size` : size;
  link($("save-kernel-png"), item.result["kernel.png"], `${stem(item.name)}-kernel.png`);
  link($("save-kernel-npy"), item.result["kernel.npy"], `${stem(item.name)}-kernel.npy`);
}

function link(element, url, name) {
  element.href = url;
  element.download = name;
}

const stem = (name) => name.replace(/\.[^.]*$/, "");
const resultName = (item) => item.status.result.result_name.replace(/(\.[^.]*)$/, "-deblurred$1");

function showList() {
  const list = $("list");
  $("list-section").hidden = !items.length;
  $("cancel-all").hidden = items.filter(isActive).length < 2;
  for (const item of items) item.row ??= listRow(item);
  const rows = items.map((item) => item.row);
  if (rows.length !== list.children.length || rows.some((row, index) => row !== list.children[index])) list.replaceChildren(...rows);
  for (const item of items) {
    item.row.className = item.state;
    item.row.querySelector(".choose").setAttribute("aria-current", String(item === chosen));
    item.row.querySelector(".how").textContent = sayings(item)[0];
  }
}

function listRow(item) {
  const make = (tag, className, text, parent) => {
    const element = Object.assign(document.createElement(tag), { className, textContent: text });
    parent.append(element);
    return element;
  };
  const row = document.createElement("li");
  const button = make("button", "choose", "", row);
  make("span", "name", item.name, button);
  make("span", "how", "", button);
  button.type = "button";
  button.title = item.name;
  button.addEventListener("click", () => {
    choose(item);
    reveal();
  });
  const cross = make("button", "remove", "×", row);
  cross.type = "button";
  cross.setAttribute("aria-label", `Remove ${item.name}`);
  cross.addEventListener("click", () => remove(item));
  return row;
}

function setDrawing(drawing) {
  viewer.setDrawing(drawing);
  $("hint").hidden = !drawing;
  if (drawing) reveal();
  $("choose-region").setAttribute("aria-pressed", String(drawing));
}

/** Bring the photograph into sight: in a narrow window it is above the options. */
function reveal() {
  const smooth = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  $("view").scrollIntoView({ block: "nearest", behavior: smooth ? "smooth" : "instant" });
}

function say(problem) {
  $("problem").textContent = problem;
  $("problem").hidden = !problem;
}

// ---- what the user does ----

$("photographs").addEventListener("change", (event) => {
  add([...event.target.files]);
  event.target.value = "";
});
for (const type of ["input", "change"]) $("options").addEventListener(type, readOptions);
$("options").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!chosen || isActive(chosen)) return;
  start(chosen);
  reveal();
});
$("choose-region").addEventListener("click", () => setDrawing(!viewer.drawing));
$("clear-region").addEventListener("click", () => {
  $("region").value = "";
  readOptions();
});
$("anyway").addEventListener("click", () => {
  $("scale").value = String(chosen.status.result.scale);
  readOptions();
  chosen.insisted = true;
  start(chosen);
});
$("cancel").addEventListener("click", () => cancel(chosen));
$("cancel-all").addEventListener("click", () => items.forEach(cancel));
$("save-all").addEventListener("click", async () => {
  for (const item of items.filter((other) => other.result)) {
    const anchor = document.createElement("a");
    link(anchor, item.result.result, resultName(item));
    anchor.click();
    await pause(200); // Browsers drop downloads that begin at the same moment.
  }
});
$("fit").addEventListener("click", () => viewer.fit());
$("actual").addEventListener("click", () => viewer.actual());
$("smaller").addEventListener("click", () => viewer.zoomBy(0.8));
$("larger").addEventListener("click", () => viewer.zoomBy(1.25));

addEventListener("keydown", (event) => {
  if (event.key === "Escape") setDrawing(false);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  $("stage").classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("stage").classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  $("stage").classList.remove("dropping");
  add([...event.dataTransfer.files]);
});
addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) add([...event.clipboardData.files]);
});
addEventListener("pagehide", () => items.filter(isActive).forEach(cancel));

showOptions();
api.limits().then(({ upload_bytes: bytes }) => (largestUpload = bytes)).catch((error) => say(error.message));
