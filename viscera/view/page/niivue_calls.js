// Every call to NiiVue 0.69 stands in this module. Its version 1.0 has another interface: exchange this file with it.
//
// NiiVue colours all voxels of a scan anew whenever the window or a label's colour changes, which takes seconds where
// there is no graphics card. Here the graphics memory holds HU (as half floats) and labels (as bytes), and a slice
// shader of our own, for which NiiVue has a place, looks up the colours of what is on the screen alone.

const { Niivue, NVImage, NVMesh } = globalThis.niivue ?? {};
const LEAST_HU = -1024, MOST_HU = 3071;
const SLAB = 8; // planes that are sent to the graphics memory at a time
const EDGES = ["APRL", "SIRL", "SIPA"]; // top, bottom, left and right of axial, coronal and sagittal slices
const LETTER = [0.93, 0.95, 0.97, 1], PLATE = [0.043, 0.051, 0.063, 1];
export const VIEWS = { axial: 0, coronal: 1, sagittal: 2, all: 3, solid: 4 };

const SLICE_SHADER = `#version 300 es
precision highp int;
precision highp float;
uniform highp sampler3D volume;
uniform highp sampler3D drawing;
uniform highp sampler2D colormap;
uniform float drawOpacity;
uniform float drawRimOpacity;
uniform float overlays;
uniform vec4 paqdUniforms;
uniform vec2 windowHu;
uniform int boxCount;
uniform vec3 boxLow[16];
uniform vec3 boxHigh[16];
in vec3 texPos;
out vec4 color;
vec4 labelColor(float label) {
  float rows = float(textureSize(colormap, 0).y);
  return texture(colormap, vec2((label * 255.0 + 0.5) / 256.0, (rows - 0.5) / rows));
}
void main() {
  float hu = texture(volume, texPos).r;
  float grey = clamp((hu - windowHu.x) / max(windowHu.y - windowHu.x, 1.0), 0.0, 1.0);
  color = vec4(vec3(grey), 1.0);
  vec3 right = dFdx(texPos), up = dFdy(texPos);
  float here = texture(drawing, texPos).r;
  vec4 label = labelColor(here);
  float alpha = label.a * drawOpacity;
  if (label.a > 0.0 && drawRimOpacity >= 0.0) {
    bool isRim = texture(drawing, texPos - 1.5 * right).r != here || texture(drawing, texPos + 1.5 * right).r != here
      || texture(drawing, texPos - 1.5 * up).r != here || texture(drawing, texPos + 1.5 * up).r != here;
    alpha = isRim ? label.a : drawRimOpacity * label.a;
  }
  color.rgb = mix(color.rgb, label.rgb, alpha);
  vec3 pixel = abs(right) + abs(up);
  for (int i = 0; i < boxCount; i++) {
    vec3 inside = min(texPos - boxLow[i], boxHigh[i] - texPos);
    if (all(greaterThanEqual(inside, vec3(0.0)))) {
      vec3 seen = vec3(greaterThan(pixel, vec3(0.0)));
      bool isEdge = any(lessThan(inside * seen + (1.0 - seen), 2.0 * pixel + (1.0 - seen) * 0.0));
      color.rgb = mix(color.rgb, vec3(1.0, 0.84, 0.3), isEdge ? 0.95 : 0.16);
    }
  }
}`;

export function whyNotShown() {
  if (!globalThis.niivue) return "The viewer's library did not load. Reload the page.";
  const gl = document.createElement("canvas").getContext("webgl2");
  if (gl) {
    gl.getExtension("WEBGL_lose_context")?.loseContext();
    return "";
  }
  return "This browser has no WebGL2, which the viewer draws with. Open the address in a current Firefox, Chrome, Edge " +
    "or Safari, and switch on hardware acceleration in its settings.";
}

// what NiiVue asks of all voxels to choose a window: it is chosen here
if (NVImage) {
  NVImage.prototype.calMinMax = function calMinMax() {
    [this.cal_min, this.cal_max, this.robust_min, this.robust_max] = [-150, 250, -150, 250];
    [this.global_min, this.global_max] = [LEAST_HU, MOST_HU];
    return [this.cal_min, this.cal_max, this.global_min, this.global_max];
  };
}

const HALF_OF = halfFloats();

function halfFloats() {
  const table = new Uint16Array(65536), number = new Float32Array(1), bits = new Uint32Array(number.buffer);
  for (let value = -32768; value < 32768; value++) {
    number[0] = value;
    const sign = (bits[0] >>> 16) & 0x8000, exponent = ((bits[0] >>> 23) & 255) - 112;
    table[value & 65535] = value === 0 ? 0 : sign | (exponent << 10) | ((bits[0] >>> 13) & 1023);
  }
  return table;
}

// A scan as all panels share it: the voxels are in the browser's memory once.
export async function readScan(buffer) {
  const image = await NVImage.new(buffer, "scan.nii", "gray", 1, null, -150, 250);
  const [, i, j, k] = image.hdr.dims;
  return { image, shape: [i, j, k], voxelMm: image.hdr.pixDims.slice(1, 4) };
}

export class Panel {
  constructor(canvas, title = "") {
    this.canvas = canvas;
    this.title = title;
    this.scan = null;
    this.labels = null; // Uint8Array, i runs fastest
    this.onCursor = () => {};
    this.onWindow = () => {};
    this.onDrawn = () => {};
    this.onMoved = () => {};
    this.frameAsked = null;
    this.view = "all";
    this.hasCrosshair = true;
    this.nv = new Niivue({
      isRadiologicalConvention: true, dragAndDropEnabled: false, logLevel: "error", loadingText: "",
      multiplanarShowRender: 1, multiplanarLayout: 2, multiplanarPadPixels: 6, meshThicknessOn2D: 0, dragMode: 3,
      mouseEventConfig: { leftButton: { primary: 8, withShift: 3, withCtrl: 9 }, rightButton: 9, centerButton: 3 },
      backColor: [0.043, 0.051, 0.063, 1], crosshairColor: [0.36, 0.83, 0.93, 0.6], crosshairWidth: 0.22,
      crosshairWidthUnit: "percent", crosshairGap: 6, fontColor: [0.62, 0.67, 0.74, 1], fontMinPx: 12,
      fontSizeScaling: 0, show3Dcrosshair: false, viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "",
    });
    const nv = this.nv;
    nv.keyDownListener = () => {}; // keys are the page's
    nv.keyUpListener = () => {};
    nv.drawImage3D = () => {}; // 3D shows the organs' surfaces, not the scan
    nv.onLocationChange = (where) => this.onCursor(this.#told(where));
    nv.onDrawingChanged = (what) => this.onDrawn(what);
    nv.sync = () => this.onMoved(this);
  }

  async start() {
    await this.nv.attachToCanvas(this.canvas, this.nv.opts.isAntiAlias);
    this.canvas.parentElement.style.backgroundColor = "";
    this.#replaceColouring();
    this.nv.setCustomSliceShader(SLICE_SHADER);
    this.nv.setInterpolation(false);
    this.#sendTouchedPlanes();
    this.#nameAllEdges();
    new ResizeObserver(() => this.setCrosshair(this.hasCrosshair)).observe(this.canvas.parentElement);
  }

  // NiiVue's letters have no ground of their own, and lie under the cursor lines
  #nameAllEdges() {
    const nv = this.nv;
    nv.drawSliceOrientationText = ([left, top, width, height], plane) => {
      nv.gl.viewport(0, 0, nv.gl.canvas.width, nv.gl.canvas.height);
      const size = nv.fontPx, side = 1.4 * size, [x, y] = [left + width / 2, top + height / 2];
      const middles = [
        [x, top + side / 2], [x, top + height - side / 2], [left + side / 2, y], [left + width - side / 2, y],
      ];
      middles.forEach(([across, down], at) => {
        const letter = EDGES[plane][at], [start, low, wide, high] = nv.fontMets.mets[letter.codePointAt(0)].lbwh;
        nv.drawRect([across - side / 2, down - side / 2, side, side], PLATE);
        nv.drawText(
          [across - size * (start + wide / 2), down - size * (1 - low - high / 2)], letter, 1, LETTER,
        );
      });
    };
  }

  // what changes within one frame is drawn once
  #draw() {
    this.frameAsked ??= requestAnimationFrame(() => {
      this.frameAsked = null;
      if (this.nv.gl && this.scan) this.nv.drawScene();
    });
  }

  close() {
    this.nv.gl?.getExtension("WEBGL_lose_context")?.loseContext();
    try { this.nv.cleanup(); } catch { /* what was never begun need not end */ }
  }

  // NiiVue's own colouring of volumes becomes that of the few numbers around it
  #replaceColouring() {
    const nv = this.nv, gl = nv.gl, refresh = nv.refreshLayers.bind(nv), texture = nv.rgbaTex.bind(nv);
    const quiet = {
      texSubImage3D() {}, texStorage3D() {}, drawArrays() {}, framebufferTextureLayer() {},
      checkFramebufferStatus: () => gl.FRAMEBUFFER_COMPLETE,
    };
    nv.refreshLayers = (item, layer) => {
      Object.assign(gl, quiet);
      nv.rgbaTex = (id, unit, dims, init) => (unit === gl.TEXTURE0 ? this.huTexture : texture(id, unit, dims, init));
      try {
        refresh(item, layer);
      } finally {
        for (const name of Object.keys(quiet)) delete gl[name];
        nv.rgbaTex = texture;
      }
      this.#sendWindow();
    };
  }

  show(scan) {
    const nv = this.nv;
    if (this.huTexture) nv.gl.deleteTexture(this.huTexture);
    this.#sendScan(scan);
    this.scan = scan;
    nv.volumes = [];
    nv.overlays = [];
    this.labels = nv.drawBitmap = null;
    nv.drawUndoBitmaps = [];
    this.showSurfaces([]);
    nv.addVolume(scan.image);
    nv.drawTexture = nv.r8Tex(nv.drawTexture, nv.gl.TEXTURE7, nv.back.dims, false);
    nv.scene.pan2Dxyzmm = nv.scene.pan2Dxyzmm.map((_, at) => (at === 3 ? 1 : 0));
    nv.scene.crosshairPos = nv.scene.crosshairPos.map(() => 0.5);
    [nv.scene.renderAzimuth, nv.scene.renderElevation, nv.scene.volScaleMultiplier] = [165, 12, 1.35]; // from the front
    nv.drawScene();
  }

  #sendScan({ image, shape: [i, j, k] }) {
    const gl = this.nv.gl, voxels = image.img, plane = i * j;
    this.huTexture = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_3D, this.huTexture);
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_3D, filter, gl.LINEAR);
    for (const axis of [gl.TEXTURE_WRAP_R, gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) {
      gl.texParameteri(gl.TEXTURE_3D, axis, gl.CLAMP_TO_EDGE);
    }
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texStorage3D(gl.TEXTURE_3D, 1, gl.R16F, i, j, k);
    const part = new Uint16Array(plane * Math.min(SLAB, k));
    for (let z = 0; z < k; z += SLAB) {
      const planes = Math.min(SLAB, k - z), from = z * plane, count = plane * planes;
      for (let n = 0; n < count; n++) part[n] = HALF_OF[voxels[from + n] & 65535];
      gl.texSubImage3D(gl.TEXTURE_3D, 0, 0, 0, z, i, j, planes, gl.RED, gl.HALF_FLOAT, part, 0);
    }
  }

  // labels: one byte per voxel of the scan; they lie in NiiVue's drawing, where a pen can mend them
  showLabels(labels) {
    const nv = this.nv;
    this.labels = nv.drawBitmap = labels;
    nv.drawClearAllUndoBitmaps();
    nv.refreshDrawing(false);
    this.#draw();
  }

  // colours: [r, g, b, a] of each label number, 0 to 255
  setColours(colours) {
    const lut = new Uint8ClampedArray(1024);
    colours.forEach((colour, label) => lut.set(colour, 4 * label));
    lut[3] = 0;
    this.nv.drawLut = { lut, labels: Array(256).fill("") };
    this.nv.refreshColormaps();
    this.#draw();
  }

  setOpacity(share, isOutline) {
    this.nv.drawRimOpacity = isOutline ? 0 : -1;
    this.nv.drawOpacity = share;
    this.#draw();
  }

  setWindow(low, high) {
    const image = this.nv.volumes[0];
    if (!image) return;
    [image.cal_min, image.cal_max] = [low, high];
    this.#sendWindow();
    this.#draw();
  }

  // the window of the scan, which all panels have in common, was changed in another one
  shareWindow() {
    const image = this.nv.volumes[0];
    this.nv.gl.uniform2f(this.#uniform("windowHu"), image.cal_min, image.cal_max);
    this.#draw();
  }

  #uniform(name) {
    const shader = this.nv.customSliceShader;
    shader.use(this.nv.gl);
    return this.nv.gl.getUniformLocation(shader.program, name);
  }

  #sendWindow() {
    const image = this.nv.volumes[0];
    if (!image || !this.nv.customSliceShader) return;
    this.nv.gl.uniform2f(this.#uniform("windowHu"), image.cal_min, image.cal_max);
    this.onWindow(image.cal_min, image.cal_max);
  }

  // boxes: [first, past] voxel indices of each
  setBoxes(boxes) {
    const gl = this.nv.gl, shape = this.scan.shape, shown = boxes.slice(0, 16);
    const share = (index) => index.map((at, axis) => at / shape[axis]);
    const [lows, highs] = [0, 1].map((end) => shown.flatMap((box) => share(box[end])));
    gl.uniform1i(this.#uniform("boxCount"), shown.length);
    if (shown.length) {
      gl.uniform3fv(this.#uniform("boxLow[0]"), lows);
      gl.uniform3fv(this.#uniform("boxHigh[0]"), highs);
    }
    this.#draw();
  }

  // surfaces: {label, colour: [r, g, b], vertices: Float32Array (mm), faces: Uint32Array}
  showSurfaces(surfaces) {
    const nv = this.nv;
    for (const mesh of nv.meshes) mesh.unloadMesh?.(nv.gl);
    nv.meshes = surfaces.map(({ label, colour, vertices, faces }) => {
      const mesh = new NVMesh(vertices, faces, `label ${label}`, new Uint8Array([...colour, 255]), 1, true, nv.gl);
      mesh.colorbarVisible = false;
      mesh.label = label;
      return mesh;
    });
    if (nv.volumes.length) nv.refreshColormaps();
    this.#draw();
  }

  setVisibleSurfaces(isVisible) {
    for (const mesh of this.nv.meshes) mesh.visible = isVisible(mesh.label);
    this.#draw();
  }

  setView(name) {
    this.view = name;
    this.nv.setSliceType(VIEWS[name]);
    this.setCrosshair(this.hasCrosshair);
  }

  // lines of little more than a pixel, whatever the size of the picture: their width is a share of the scan's
  setCrosshair(isOn) {
    this.hasCrosshair = isOn;
    const across = this.canvas.width / (this.view === "all" ? 2 : 1);
    this.nv.opts.crosshairWidth = isOn ? Math.min(2, 190 / Math.max(across, 1)) : 0;
    if (this.nv.crosshairs3D) this.nv.crosshairs3D.mm[0] = NaN;
    this.#draw();
  }

  // --- the cursor

  #told({ mm, vox }) {
    const index = Array.from(vox, Math.round);
    return { mm: Array.from(mm).slice(0, 3), voxel: index, hu: this.huAt(index), label: this.labelAt(index) };
  }

  #offset([x, y, z]) {
    const [i, j, k] = this.scan.shape;
    const isInside = [x, y, z].every((at, axis) => at >= 0 && at < [i, j, k][axis]);
    return isInside ? x + i * (y + j * z) : -1;
  }

  huAt(index) {
    const at = this.scan ? this.#offset(index) : -1;
    return at < 0 ? null : this.scan.image.img[at];
  }

  labelAt(index) {
    const at = this.scan && this.labels ? this.#offset(index) : -1;
    return at < 0 ? null : this.labels[at];
  }

  // what is under the mouse, in CSS pixels of the canvas; null outside the slices
  under(x, y) {
    const nv = this.nv, scale = nv.uiData.dpr ?? 1;
    if (!this.scan) return null;
    const share = nv.canvasPos2frac([x * scale, y * scale]);
    if (share[0] < 0) return null;
    const voxel = this.scan.shape.map((n, axis) => Math.min(n - 1, Math.max(0, Math.floor(share[axis] * n))));
    return { mm: Array.from(nv.frac2mm(share)).slice(0, 3), voxel, hu: this.huAt(voxel), label: this.labelAt(voxel) };
  }

  get here() {
    if (!this.scan) return null;
    const voxel = this.voxel, mm = Array.from(this.nv.frac2mm(this.nv.scene.crosshairPos)).slice(0, 3);
    return { mm, voxel, hu: this.huAt(voxel), label: this.labelAt(voxel) };
  }

  get voxel() {
    return this.scan.shape.map((n, axis) => Math.min(n - 1, Math.floor(this.nv.scene.crosshairPos[axis] * n)));
  }

  moveTo(voxel) {
    const shape = this.scan.shape;
    voxel.forEach((at, axis) => {
      this.nv.scene.crosshairPos[axis] = (Math.min(shape[axis] - 1, Math.max(0, at)) + 0.5) / shape[axis];
    });
    this.#draw();
    this.nv.createOnLocationChange();
  }

  moveBy(steps) {
    this.moveTo(this.voxel.map((at, axis) => at + steps[axis]));
  }

  zoom(factor) {
    const pan = this.nv.scene.pan2Dxyzmm;
    pan[3] = factor === 0 ? 1 : Math.min(20, Math.max(1, pan[3] * factor));
    const mm = this.nv.frac2mm(this.nv.scene.crosshairPos);
    for (const axis of [0, 1, 2]) pan[axis] = pan[3] === 1 ? 0 : this.#middle[axis] - mm[axis];
    this.#draw();
  }

  get #middle() { return this.nv.frac2mm([0.5, 0.5, 0.5]); }

  // the same place, zoom and direction as another panel
  follow(other) {
    const [mine, its] = [this.nv.scene, other.nv.scene];
    for (const axis of [0, 1, 2]) mine.crosshairPos[axis] = its.crosshairPos[axis];
    for (const at of [0, 1, 2, 3]) mine.pan2Dxyzmm[at] = its.pan2Dxyzmm[at];
    [mine.renderAzimuth, mine.renderElevation] = [its.renderAzimuth, its.renderElevation];
    mine.volScaleMultiplier = its.volScaleMultiplier;
    this.#draw();
  }

  // --- the pen

  // label: what is drawn, 0 to erase; isFilled: whether an outline is filled; size in voxels
  setPen(label, { isOn, isFilled = false, size = 1 }) {
    const nv = this.nv;
    if (isOn && !nv.drawUndoBitmaps.length) nv.drawAddUndoBitmap();
    nv.opts.drawingEnabled = isOn;
    nv.opts.penSize = size;
    nv.setPenValue(label, isFilled);
  }

  undo() {
    this.nv.drawUndo();
    return this.#takeDrawn();
  }

  // give the connected piece under the cursor to another label
  exchangePiece(label) {
    this.nv.drawPenAxCorSag = -1;
    this.nv.drawFloodFill(this.voxel, label, 0, NaN, NaN, 26, Number.POSITIVE_INFINITY, false);
    return this.#takeDrawn();
  }

  // NiiVue exchanges the array of labels now and then
  #takeDrawn() {
    this.labels = this.nv.drawBitmap;
    this.#draw();
    return this.labels;
  }

  get drawn() { return this.#takeDrawn(); }

  // NiiVue sends all voxels of a label map to the graphics memory for each point of a line: here the planes it touches
  #sendTouchedPlanes() {
    const nv = this.nv, point = nv.drawPt.bind(nv), line = nv.drawPenLine.bind(nv), refresh = nv.refreshDrawing.bind(nv);
    let touched = null;
    const touch = (...planes) => {
      const size = nv.opts.penSize, low = Math.min(...planes) - size, high = Math.max(...planes) + size;
      touched = touched ? [Math.min(touched[0], low), Math.max(touched[1], high)] : [low, high];
    };
    nv.drawPt = (x, y, z, ...more) => { touch(z); point(x, y, z, ...more); };
    nv.drawPenLine = (from, to, value) => { touch(from[2], to[2]); line(from, to, value); };
    nv.refreshDrawing = (isDrawn = true, ...more) => {
      if (!touched || nv.drawBitmap !== this.labels) {
        touched = null;
        refresh(isDrawn, ...more);
        return;
      }
      const gl = nv.gl, [, i, j, k] = nv.back.dims, low = Math.max(0, touched[0]), high = Math.min(k - 1, touched[1]);
      touched = null;
      gl.activeTexture(gl.TEXTURE7);
      gl.bindTexture(gl.TEXTURE_3D, nv.drawTexture);
      gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
      const planes = this.labels.subarray(low * i * j, (high + 1) * i * j);
      gl.texSubImage3D(gl.TEXTURE_3D, 0, 0, 0, low, i, j, high - low + 1, gl.RED, gl.UNSIGNED_BYTE, planes);
      if (isDrawn) this.#draw();
    };
  }
}
