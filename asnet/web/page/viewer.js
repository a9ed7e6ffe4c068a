// Shows a photograph before and after, zoomed and moved together, with a divider, and lets a region be drawn.

const LARGEST_ZOOM = 16;
const SMALLEST_REGION = 16;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

export class Viewer {
  /**
   * @param {HTMLElement} stage with the panes, the divider, the tags and the frame of the region
   * @param {{onZoom: (percent: number) => void, onRegion: (region: number[]) => void}} listeners
   */
  constructor(stage, { onZoom, onRegion }) {
    this.stage = stage;
    this.onZoom = onZoom;
    this.onRegion = onRegion;
    const find = (selector) => stage.querySelector(selector);
    this.before = find("#before img");
    this.after = find("#after img");
    this.afterPane = find("#after");
    this.divider = find("#divider");
    this.frame = find("#region-frame");
    this.tags = [find("#tag-before"), find("#tag-after")];
    this.size = null; // [width, height] in pixels of the photograph
    this.zoom = 1; // CSS pixels per pixel
    this.offset = [0, 0];
    this.fitted = true;
    this.border = 0.5;
    this.region = null;
    this.drawing = false;
    this.pointers = new Map();
    this.listen();
  }

  /** Show a photograph, and its result if there is one; resolves to whether the browser can show it. */
  async show(before, after) {
    const shown = (this.shown = {});
    const loaded = await Promise.all([load(this.before, before), load(this.after, after)]);
    if (this.shown !== shown) return true; // Another photograph was chosen meanwhile.
    const image = loaded[0] ? this.before : null;
    const size = image && [image.naturalWidth, image.naturalHeight];
    const same = size && this.size && size[0] === this.size[0] && size[1] === this.size[1];
    this.size = size;
    const compared = loaded[0] && loaded[1];
    this.before.hidden = !loaded[0];
    this.after.hidden = !compared;
    this.divider.hidden = !compared;
    for (const tag of this.tags) tag.hidden = !compared;
    if (!same) this.fitted = true;
    if (this.fitted) this.fit();
    else this.place();
    return loaded[0];
  }

  clear() {
    this.shown = {};
    this.size = null;
    this.region = null;
    for (const element of [this.before, this.after, this.divider, this.frame, ...this.tags]) element.hidden = true;
  }

  fit() {
    if (!this.size) return;
    const [width, height] = this.stageSize();
    this.zoom = Math.min(width / this.size[0], height / this.size[1], 1);
    this.offset = [(width - this.zoom * this.size[0]) / 2, (height - this.zoom * this.size[1]) / 2];
    this.fitted = true;
    this.place();
  }

  /** Show one pixel of the photograph on one pixel of the screen. */
  actual() {
    this.zoomTo(1 / devicePixelRatio);
  }

  zoomBy(factor, point) {
    this.zoomTo(this.zoom * factor, point);
  }

  setRegion(region) {
    this.region = region;
    this.place();
  }

  setDrawing(drawing) {
    this.drawing = drawing;
    this.stage.classList.toggle("drawing", drawing);
  }

  setBorder(border) {
    this.border = clamp(border, 0, 1);
    this.place();
  }

  stageSize() {
    return [this.stage.clientWidth, this.stage.clientHeight];
  }

  /** Zoom about a point, by default the middle. */
  zoomTo(zoom, point = this.stageSize().map((side) => side / 2)) {
    if (!this.size) return;
    const [width, height] = this.stageSize();
    const smallest = Math.min(width / this.size[0], height / this.size[1], 1) / 2;
    const limited = clamp(zoom, smallest, LARGEST_ZOOM);
    this.offset = this.offset.map((offset, axis) => point[axis] - ((point[axis] - offset) * limited) / this.zoom);
    this.zoom = limited;
    this.fitted = false;
    this.place();
  }

  move(by) {
    this.offset = this.offset.map((offset, axis) => offset + by[axis]);
    this.fitted = false;
    this.place();
  }

  /** Position everything by zoom, offset and divider. */
  place() {
    if (!this.size) return;
    const stage = this.stageSize();
    // Part of the photograph always stays visible.
    this.offset = this.offset.map((offset, axis) => clamp(offset, 40 - this.zoom * this.size[axis], stage[axis] - 40));
    const transform = `translate(${this.offset[0]}px, ${this.offset[1]}px) scale(${this.zoom})`;
    for (const image of [this.before, this.after]) {
      image.style.transform = transform;
      image.classList.toggle("enlarged", this.zoom * devicePixelRatio >= 3);
    }
    const percent = 100 * this.border;
    this.afterPane.style.clipPath = `inset(0 0 0 ${percent}%)`;
    this.divider.style.left = `${percent}%`;
    this.divider.setAttribute("aria-valuenow", String(Math.round(percent)));
    this.frame.hidden = !this.region;
    if (this.region) {
      const [left, top, right, bottom] = this.region;
      this.frame.style.left = `${this.offset[0] + this.zoom * left}px`;
      this.frame.style.top = `${this.offset[1] + this.zoom * top}px`;
      this.frame.style.width = `${this.zoom * (right - left)}px`;
      this.frame.style.height = `${this.zoom * (bottom - top)}px`;
    }
    this.onZoom(100 * this.zoom * devicePixelRatio);
  }

  listen() {
    const { stage, divider } = this;
    new ResizeObserver(() => (this.fitted ? this.fit() : this.place())).observe(stage);
    stage.addEventListener("wheel", (event) => {
      if (!this.size) return;
      event.preventDefault();
      this.zoomBy(2 ** (-event.deltaY / 300), this.point(event));
    }, { passive: false });
    stage.addEventListener("dblclick", (event) => {
      if (this.fitted) this.zoomTo(1 / devicePixelRatio, this.point(event));
      else this.fit();
    });
    stage.addEventListener("pointerdown", (event) => this.press(event));
    stage.addEventListener("pointermove", (event) => this.drag(event));
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => this.release(event));
    stage.addEventListener("keydown", (event) => this.stageKey(event));
    divider.addEventListener("keydown", (event) => this.dividerKey(event));
  }

  /** Position of a pointer relative to the stage's corner. */
  point(event) {
    const corner = this.stage.getBoundingClientRect();
    return [event.clientX - corner.left, event.clientY - corner.top];
  }

  press(event) {
    if (!this.size || event.button > 0) return;
    const kind = event.target === this.divider ? "divider" : this.drawing ? "region" : "move";
    this.stage.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { kind, at: this.point(event), start: this.point(event) });
  }

  drag(event) {
    const pointer = this.pointers.get(event.pointerId);
    if (!pointer) return;
    const at = this.point(event);
    const others = [...this.pointers.values()].filter((other) => other !== pointer && other.kind === "move");
    if (pointer.kind === "divider") {
      this.setBorder(at[0] / this.stageSize()[0]);
    } else if (pointer.kind === "region") {
      this.setRegion(this.between(pointer.start, at));
    } else if (others.length) {
      const fixed = others[0].at;
      const distance = (point) => Math.hypot(point[0] - fixed[0], point[1] - fixed[1]);
      this.zoomBy(distance(at) / Math.max(distance(pointer.at), 1), fixed);
    } else {
      this.move([at[0] - pointer.at[0], at[1] - pointer.at[1]]);
    }
    pointer.at = at;
  }

  release(event) {
    const pointer = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    if (pointer?.kind === "region") this.onRegion(this.between(pointer.start, this.point(event)));
  }

  /** The region of the photograph between two points of the stage, null if it is too small. */
  between(first, second) {
    const pixels = [first, second].map((point) =>
      point.map((place, axis) => clamp(Math.round((place - this.offset[axis]) / this.zoom), 0, this.size[axis])));
    const [low, high] = [Math.min, Math.max].map((pick) => [0, 1].map((axis) => pick(pixels[0][axis], pixels[1][axis])));
    const large = high[0] - low[0] >= SMALLEST_REGION && high[1] - low[1] >= SMALLEST_REGION;
    return large ? [...low, ...high] : null;
  }

  stageKey(event) {
    const steps = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
    if (event.target !== this.stage) return;
    if (steps[event.key]) this.move(steps[event.key]);
    else if (event.key === "+") this.zoomBy(1.25);
    else if (event.key === "-") this.zoomBy(0.8);
    else if (event.key === "0") this.fit();
    else if (event.key === "1") this.actual();
    else return;
    event.preventDefault();
  }

  dividerKey(event) {
    const places = { ArrowLeft: this.border - 0.02, ArrowRight: this.border + 0.02, Home: 0, End: 1 };
    if (!(event.key in places)) return;
    this.setBorder(places[event.key]);
    event.preventDefault();
  }
}

/** Load a picture into an element; resolves to whether that worked. */
async function load(image, source) {
  if (!source) {
    image.removeAttribute("src");
    return false;
  }
  if (image.src !== source) image.src = source;
  try {
    await image.decode();
    return true;
  } catch {
    return false;
  }
}
